"""Q-learning from replayed sequences, by networks with a memory (R2D2: Kapturowski et al. 2019, ICLR).

Q-values may be learned on another scale than that of the rewards, see `Rescaling`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.networks.distributions import EpsilonGreedy
from purejaxrl_a3c.objectives import returns
from purejaxrl_a3c.objectives.reports import explained_variance
from purejaxrl_a3c.objectives.temporal_difference import chosen
from purejaxrl_a3c.replay import Sequences
from purejaxrl_a3c.types import Carry, Network, Params, Scalars


class Rescaling(NamedTuple):
    """The scale on which Q-values are learned, as a function of returns that grows everywhere, and its inverse."""

    apply: Callable[[jax.Array], jax.Array]
    """Returns [...] -> on the scale of the Q-values [...]."""
    invert: Callable[[jax.Array], jax.Array]
    """Q-values [...] -> returns [...]."""


def square_root_rescaling(epsilon: float | jax.Array) -> Rescaling:
    """``h(x) = sign(x) (sqrt(|x| + 1) - 1) + epsilon x`` (Pohlen et al. 2018, arXiv 1805.11593, proposition A.2).

    Large returns become small numbers, which replaces the clipping of rewards. Both functions are written without
    differences of nearly equal numbers, in which float32 would lose small and large returns.

    Args:
        epsilon: >= 0; above 0 the inverse is Lipschitz continuous.
    """

    def apply(x: jax.Array) -> jax.Array:
        # sqrt(|x| + 1) - 1 = |x| / (sqrt(|x| + 1) + 1)
        return x * (1 / (jnp.sqrt(jnp.abs(x) + 1) + 1) + epsilon)

    def invert(y: jax.Array) -> jax.Array:
        # With v = sqrt(|x| + 1) - 1: epsilon v^2 + (1 + 2 epsilon) v = |y| and |x| = v (v + 2).
        slope = 1 + 2 * epsilon
        v = 2 * y / (slope + jnp.sqrt(slope**2 + 4 * epsilon * jnp.abs(y)))
        return v * (jnp.abs(v) + 2)

    return Rescaling(apply, invert)


def burned_in(network: Network, params: Params, batch: Sequences, burn_in: int) -> tuple[Carry, Sequences]:
    """The carry after the first ``burn_in`` steps, through which no gradient flows, and the steps that follow.

    Args:
        network: of Q-values.
        params: its parameters.
        batch: leaves ``[M, S, ...]``.
        burn_in: a number of steps, >= 0 and below ``S``.

    Returns:
        ``(carry [M, ...], batch [M, S - burn_in, ...])``; the batch's own carry is still that of the first step.
    """
    steps = batch._replace(carry=())
    rest = jax.tree.map(lambda x: x[:, burn_in:], steps)._replace(carry=batch.carry)
    if burn_in == 0:
        return batch.carry, rest
    # The stored carry is of older parameters: these steps let it become one of the present ones.
    obs, first = jax.tree.map(lambda x: x[:, :burn_in], (batch.obs, batch.first))
    carry, _ = network.unroll(params, batch.carry, obs, first)
    return jax.lax.stop_gradient(carry), rest


def successor_q(network: Network, params: Params, carry: Carry, batch: Sequences) -> jax.Array:
    """The Q-values of every step's true successor, with the memory of its own episode: ``[M, S, A]``.

    The successor of step ``t`` is the observation of step ``t + 1``, except where the episode was truncated: there it
    is ``final_obs``, seen with the carry before the reset. So ``final_obs`` must take the place of the next
    observation, but then the next episode has a wrong memory. This is why the sequences are unrolled twice: once with
    every other truncation treated like that, whose successor steps are used up to and with that observation, and once
    with those between. The values behind a termination are those of the next episode; they count for nothing.

    Args:
        network: of Q-values.
        params: its parameters.
        carry: ``[M, ...]`` before the first step.
        batch: leaves ``[M, S, ...]``.
    """
    # Number of truncations before each step: even and odd ones are separated.
    before = jnp.cumsum(batch.truncated, axis=1) - batch.truncated
    is_odd = before % 2 == 1

    def values(odd: bool) -> jax.Array:
        replaced = batch.truncated & (is_odd == odd)
        following_first = jnp.concatenate([batch.first[:, 1:], jnp.zeros_like(batch.first[:, :1])], axis=1)

        def with_successors(obs: jax.Array, final_obs: jax.Array) -> jax.Array:
            following = jnp.concatenate([obs[:, 1:], final_obs[:, -1:]], axis=1)
            wide = jnp.expand_dims(replaced, tuple(range(2, obs.ndim)))
            return jnp.concatenate([obs[:, :1], jnp.where(wide, final_obs, following)], axis=1)

        obs = jax.tree.map(with_successors, batch.obs, batch.final_obs)
        first = jnp.concatenate([batch.first[:, :1], following_first & ~replaced], axis=1)
        return q_of_sequences(network, params, carry, obs, first)[:, 1:]

    return jnp.where(is_odd[:, :, None], values(True), values(False))


def q_of_sequences(network: Network, params: Params, carry: Carry, obs: jax.Array, first: jax.Array) -> jax.Array:
    """The Q-values ``[M, S, A]`` of observations ``[M, S, ...]``; ``first [M, S]`` says where an episode starts."""
    _, outputs = network.unroll(params, carry, obs, first)
    policy: EpsilonGreedy = outputs.policy
    return policy.q


def sequence_targets(
    next_q: jax.Array, best: jax.Array, batch: Sequences, *, n: int, gamma: float | jax.Array, rescaling: Rescaling
) -> jax.Array:
    """``h(r_0 + gamma r_1 + ... + gamma^n h^-1(Q(s_n, b)))`` for every step, float32 ``[M, S]``.

    There are fewer rewards where an episode or the sequence ends sooner, and no Q-value behind a termination.

    Args:
        next_q: ``[M, S, A]`` Q-values of the true successors, by the target network.
        best: int32 ``[M, S]``, the actions there.
        batch: leaves ``[M, S, ...]``.
        n: rewards in a full return.
        gamma: discount factor of a step.
        rescaling: the scale of Q-values.
    """
    next_value = rescaling.invert(chosen(next_q, best))
    discount = gamma * (1.0 - batch.terminated.astype(jnp.float32))
    estimate = jax.vmap(partial(returns.n_step, n=n))
    # The first argument only makes advantages, which nothing here uses.
    goal = estimate(next_value, next_value, batch.reward, discount, batch.terminated | batch.truncated).value
    return rescaling.apply(goal)


def r2d2_gradient(
    network: Network,
    params: Params,
    target: Params,
    batch: Sequences,
    weight: jax.Array,
    *,
    burn_in: int,
    n: int,
    gamma: float | jax.Array,
    double: bool,
    max_error_share: float | jax.Array,
    rescaling: Rescaling,
) -> tuple[Params, jax.Array, Scalars]:
    """The gradient of R2D2's loss (Kapturowski et al. 2019, section 2.3 and section 3).

    It is the mean of ``weight / 2 (Q(s, a) - goal)^2`` over the steps after the burn-in, see `sequence_targets`.

    Args:
        network: of Q-values.
        params: its parameters.
        target: those of the target network.
        batch: leaves ``[M, S, ...]``.
        weight: float32 ``[M]``, importance weights of the sequences.
        burn_in: steps of each sequence that only make a carry, for both networks.
        n: rewards in a full return.
        gamma: discount factor of a step.
        double: whether the learned network chooses the action that the target network values.
        max_error_share: eta; a sequence's error is ``eta max_t |error_t| + (1 - eta) mean_t |error_t|``.
        rescaling: the scale of Q-values.

    Returns:
        ``(gradient, errors [M], scalars to report)``.
    """
    carry, steps = burned_in(network, params, batch, burn_in)
    target_carry, _ = burned_in(network, target, batch, burn_in)
    next_q = successor_q(network, target, target_carry, steps)
    best = jnp.argmax(successor_q(network, params, carry, steps) if double else next_q, axis=-1)
    goal = sequence_targets(next_q, best, steps, n=n, gamma=gamma, rescaling=rescaling)
    goal = jax.lax.stop_gradient(goal)

    def loss(params: Params) -> tuple[jax.Array, tuple[jax.Array, Scalars]]:
        q = chosen(q_of_sequences(network, params, carry, steps.obs, steps.first), steps.action)
        losses = 0.5 * jnp.square(q - goal)
        error = jnp.abs(q - goal)
        error = max_error_share * error.max(1) + (1 - max_error_share) * error.mean(1)
        fit = explained_variance(q, goal, jnp.ones_like(q))
        scalars = {"value_loss": losses.mean(), "value_mean": rescaling.invert(q).mean(), "explained_variance": fit}
        return jnp.mean(weight[:, None] * losses), (error, scalars)

    gradient, (error, scalars) = jax.grad(loss, has_aux=True)(params)
    return gradient, error, scalars
