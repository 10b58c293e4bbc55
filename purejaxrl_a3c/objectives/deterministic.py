"""Deterministic policies that follow the gradient of a critic: DDPG, TD3 and D4PG.

Lillicrap et al. 2016 (arXiv 1509.02971), Fujimoto et al. 2018 (arXiv 1802.09477), Barth-Maron et al. 2018 (arXiv
1804.08617). They differ in how many critics there are and in what a critic puts out, which is a `ValueKind`.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import Bounds, Count, NonNegative, PositiveOrInf, configuration, is_concrete
from purejaxrl_a3c.networks import Critics, CriticsConfig
from purejaxrl_a3c.objectives.reports import explained_variance
from purejaxrl_a3c.objectives.soft import policy_at
from purejaxrl_a3c.replay import Transitions
from purejaxrl_a3c.types import Key, Network, Params, Scalars


@configuration
class DeterministicConfig:
    """Settings of the critics and of how the policy follows them."""

    critics: CriticsConfig = CriticsConfig()
    smoothing_noise: NonNegative = 0.2
    """Standard deviation of the noise on the target policy's actions, whose bounds are -1 and 1 (0.2 in Fujimoto et al.
    2018)."""
    smoothing_clip: PositiveOrInf = 0.5
    """Limit of this noise (0.5 in Fujimoto et al. 2018)."""
    policy_update_every: Count = 2
    """Gradient steps of the critics for each one of the policy (2 in Fujimoto et al. 2018)."""


@configuration
class CategoricalConfig:
    """Settings of critics whose outputs are distributions over returns (Bellemare et al. 2017, arXiv 1707.06887)."""

    num_atoms: Annotated[int, Bounds(2)] = 51
    """Number of returns, evenly spaced from value_min to value_max, that have a probability (51 in Barth-Maron et al.
    2018)."""
    value_min: Annotated[float, Bounds()] = -1500.0
    """The smallest of these returns, discounted; it depends on the task."""
    value_max: Annotated[float, Bounds()] = 0.0
    """The largest of these returns, discounted; it depends on the task."""


class ValueKind(NamedTuple):
    """What a critic puts out."""

    outputs: int
    """``O``, the numbers that a critic puts out."""
    mean: Callable[[jax.Array], jax.Array]
    """outputs [..., O] -> expected returns [...]."""
    goal: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    """(target critics' outputs [count, M, O], reward [M], discount [M]) -> what the critics are to learn, [M, ...]."""
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    """(outputs [count, M, O], goal [M, ...]) -> losses [count, M], 0 where the goal is met."""
    error: Callable[[jax.Array, jax.Array], jax.Array]
    """(outputs [count, M, O], goal [M, ...]) -> errors [count, M] >= 0, by which items are drawn again."""
    goal_mean: Callable[[jax.Array], jax.Array]
    """goal [M, ...] -> its expected returns [M]."""


def scalar_values() -> ValueKind:
    """A critic puts out the expected return, and is fitted by least squares (Fujimoto et al. 2018)."""

    def goal(outputs: jax.Array, reward: jax.Array, discount: jax.Array) -> jax.Array:
        return reward + discount * outputs[..., 0].min(axis=0)

    def error(outputs: jax.Array, goal: jax.Array) -> jax.Array:
        return jnp.abs(outputs[..., 0] - goal[None])

    return ValueKind(
        outputs=1,
        mean=lambda outputs: outputs[..., 0],
        goal=goal,
        loss=lambda outputs, goal: 0.5 * jnp.square(error(outputs, goal)),
        error=error,
        goal_mean=lambda goal: goal,
    )


def categorical_values(config: CategoricalConfig) -> ValueKind:
    """A critic puts out logits of a distribution over returns (Bellemare et al. 2017, Barth-Maron et al. 2018).

    The loss is the Kullback-Leibler divergence from the goal. Of several critics, the one with the smallest expected
    return makes the goal.

    Raises:
        InputError: if value_max is not above value_min.
    """
    low, high = config.value_min, config.value_max
    if is_concrete(low) and is_concrete(high) and not float(low) < float(high):
        reject("value_min", float(low), f"below value_max, which is {float(high):g}")
    atoms = low + (high - low) * jnp.linspace(0.0, 1.0, config.num_atoms, dtype=jnp.float32)

    def mean(outputs: jax.Array) -> jax.Array:
        return jax.nn.softmax(outputs) @ atoms

    def goal(outputs: jax.Array, reward: jax.Array, discount: jax.Array) -> jax.Array:
        lowest = jax.nn.one_hot(jnp.argmin(mean(outputs), axis=0), outputs.shape[0], dtype=jnp.float32, axis=0)
        probs = jnp.sum(lowest[..., None] * jax.nn.softmax(outputs), axis=0)
        return project(atoms, reward[:, None] + discount[:, None] * atoms[None], probs)

    def divergence(outputs: jax.Array, goal: jax.Array) -> jax.Array:
        cross_entropy = -jnp.sum(goal[None] * jax.nn.log_softmax(outputs), axis=-1)
        return cross_entropy - jax.scipy.special.entr(goal).sum(axis=-1)[None]

    return ValueKind(
        outputs=config.num_atoms,
        mean=mean,
        goal=goal,
        loss=divergence,
        error=lambda outputs, goal: jnp.maximum(divergence(outputs, goal), 0.0),  # rounding can make it negative
        goal_mean=lambda goal: goal @ atoms,
    )


def project(atoms: jax.Array, returns: jax.Array, probs: jax.Array) -> jax.Array:
    """A distribution on ``atoms`` instead of on other returns (Bellemare et al. 2017, equation 7).

    A return's probability goes to the two atoms beside it, in inverse proportion to their distances, and that of a
    return beyond the ends to the last atom. This sum of triangles keeps all of it, also where a return lies on an atom.

    Args:
        atoms: float32 ``[O]``, evenly spaced and rising.
        returns: float32 ``[M, O]``.
        probs: float32 ``[M, O]``, of these returns.

    Returns:
        float32 ``[M, O]``, probabilities of ``atoms``.
    """
    steps = (jnp.clip(returns, atoms[0], atoms[-1]) - atoms[0]) / (atoms[1] - atoms[0])
    numbers = jnp.arange(atoms.size, dtype=jnp.float32)
    share = jnp.clip(1.0 - jnp.abs(steps[:, None, :] - numbers[None, :, None]), 0.0, 1.0)
    return jnp.sum(share * probs[:, None, :], axis=-1)


def deterministic_gradients(
    key: Key,
    network: Network,
    critics: Critics,
    kind: ValueKind,
    config: DeterministicConfig,
    params: Params,
    target: Params,
    batch: Transitions,
    weight: jax.Array,
    updates: jax.Array,
) -> tuple[Params, jax.Array, Scalars]:
    """The gradients of TD3 or D4PG, all of them at ``params``.

    The critics' goals are their target networks' at the target policy's action with clipped noise (target policy
    smoothing, Fujimoto et al. 2018). The policy maximises the first critic's expected return. Its gradient is computed
    only in every ``policy_update_every``-th update and 0 in the others.

    Args:
        key: consumed.
        network: of the policy, without memory.
        critics: the critics.
        kind: what they put out.
        config: the settings.
        params: ``policy`` and ``critics``.
        target: ``policy`` and ``critics``.
        batch: leaves ``[M, ...]``.
        weight: float32 ``[M]``, importance weights.
        updates: int32 ``[]``, updates before this one.

    Returns:
        ``(gradients by part, the largest error of all critics [M], scalars to report)``. ``policy_loss`` is
        ``policy_update_every`` times the loss where the policy is updated and 0 elsewhere, so that its mean over the
        updates is right.
    """
    next_action = policy_at(network, target["policy"], batch.next_obs).mode()
    noise = config.smoothing_noise * jax.random.normal(key, next_action.shape, jnp.float32)
    noise = jnp.clip(noise, -config.smoothing_clip, config.smoothing_clip)
    after = critics.apply(target["critics"], batch.next_obs, jnp.clip(next_action + noise, -1.0, 1.0))
    goal = jax.lax.stop_gradient(kind.goal(after, batch.reward, batch.discount))

    def critic_loss(params: Params) -> tuple[jax.Array, tuple[jax.Array, Scalars]]:
        outputs = critics.apply(params, batch.obs, batch.action)
        losses, value = kind.loss(outputs, goal).sum(axis=0), kind.mean(outputs)
        fit = explained_variance(value.mean(axis=0), kind.goal_mean(goal), jnp.ones_like(weight))
        scalars = {"value_loss": losses.mean(), "value_mean": value.mean(), "explained_variance": fit}
        return jnp.mean(weight * losses), (kind.error(outputs, goal).max(axis=0), scalars)

    first = jax.tree.map(lambda x: x[:1], params["critics"])

    def policy_loss(policy_params: Params) -> tuple[jax.Array, jax.Array]:
        action = policy_at(network, policy_params, batch.obs).mode()
        q = kind.mean(critics.apply(first, batch.obs, action))[0]
        return -jnp.mean(weight * q), -q.mean() * config.policy_update_every

    def follow(policy_params: Params) -> tuple[Params, jax.Array]:
        return jax.grad(policy_loss, has_aux=True)(policy_params)

    def wait(policy_params: Params) -> tuple[Params, jax.Array]:
        return jax.tree.map(jnp.zeros_like, policy_params), jnp.float32(0)

    critic_gradient, (error, scalars) = jax.grad(critic_loss, has_aux=True)(params["critics"])
    # The count is the same for all seeds of a vmap, so this remains a branch there.
    turn = updates % config.policy_update_every == 0
    policy_gradient, loss = jax.lax.cond(turn, follow, wait, params["policy"])
    return {"policy": policy_gradient, "critics": critic_gradient}, error, scalars | {"policy_loss": loss}
