"""Soft actor-critic: values that include the policy's entropy, for continuous and for discrete actions.

Haarnoja et al. 2018 (arXiv 1812.05905) for continuous actions; Christodoulou 2019 (arXiv 1910.07207) for discrete ones,
where every expectation over actions is exact.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.config import Bounds, Positive, UnitInterval, configuration
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.envs.observations import split_mask
from purejaxrl_a3c.networks import Critics
from purejaxrl_a3c.objectives.items import outputs_at
from purejaxrl_a3c.objectives.reports import explained_variance
from purejaxrl_a3c.objectives.temporal_difference import chosen
from purejaxrl_a3c.replay import Transitions
from purejaxrl_a3c.types import Action, ActionSpace, Key, Network, Noise, Observation, Params, Scalars


@configuration
class SoftConfig:
    """Settings of the entropy that the policy is to keep."""

    initial_temperature: Positive = 1.0
    """Weight of the policy's entropy, in nats, beside the rewards at the start of the run; then it is learned."""
    target_entropy: Annotated[float, Bounds()] = -1.0
    """Entropy in nats that the policy keeps for each number of a continuous action (-1 in Haarnoja et al. 2018); log 2
    = 0.69 is that of the uniform distribution."""
    target_entropy_share: UnitInterval = 0.7
    """Share of the largest possible entropy that the policy keeps for discrete actions. With 0.98 as in
    Christodoulou 2019 the temperature only ever grows where there are two actions, because even probabilities of 0.58
    and 0.42 lie below it."""


class SoftValue(NamedTuple):
    """Means over the actions of a policy, ``[M]``."""

    log_prob: jax.Array  # of the actions
    q: jax.Array  # the smallest Q-value of all critics


class Kind(NamedTuple):
    """What depends on the kind of actions."""

    outputs: int
    """Numbers that a critic puts out."""
    target_entropy: Callable[[Observation], float | jax.Array]
    """obs [M, ...] -> what the policy's entropy is to be there, in nats, [] or [M]."""
    taken: Callable[[Critics, Params, Observation, Action], jax.Array]
    """(critics, params, obs [M, ...], stored actions [M, ...]) -> Q-values [count, M]."""
    over_actions: Callable[[Critics, Params, Observation, Any, Noise], SoftValue]
    """(critics, params, obs [M, ...], policy [M], noise [M, ...]) -> `SoftValue`."""


def continuous_actions(size: int, config: SoftConfig) -> Kind:
    """Actions from a `TanhGaussian` of ``size`` numbers; means over them are estimated from one sample."""

    def taken(critics: Critics, params: Params, obs: Observation, action: Action) -> jax.Array:
        return critics.apply(params, obs, jnp.tanh(action))[..., 0]

    def over_actions(critics: Critics, params: Params, obs: Observation, policy: Any, noise: Noise) -> SoftValue:
        action = policy.sample(noise)
        return SoftValue(policy.log_prob(action), taken(critics, params, obs, action).min(axis=0))

    return Kind(1, lambda obs: config.target_entropy * size, taken, over_actions)


def discrete_actions(count: int, config: SoftConfig) -> Kind:
    """Actions from a `Categorical` of ``count``; means over them are exact.

    The largest possible entropy is that over the legal actions.
    """

    def taken(critics: Critics, params: Params, obs: Observation, action: Action) -> jax.Array:
        q = critics.apply(params, obs)
        return chosen(q, jnp.broadcast_to(action, q.shape[:-1]))

    def over_actions(critics: Critics, params: Params, obs: Observation, policy: Any, noise: Noise) -> SoftValue:
        del noise
        log_probs = policy.log_probs
        probs = jnp.exp(log_probs)
        smallest = critics.apply(params, obs).min(axis=0)
        return SoftValue(jnp.sum(probs * log_probs, axis=-1), jnp.sum(probs * smallest, axis=-1))

    def target_entropy(obs: Observation) -> float | jax.Array:
        _, legal = split_mask(obs)
        if legal is None:
            return config.target_entropy_share * math.log(count)
        return config.target_entropy_share * jnp.log(jnp.maximum(legal.sum(-1), 1).astype(jnp.float32))

    return Kind(count, target_entropy, taken, over_actions)


def kind_of(action_space: ActionSpace, config: SoftConfig) -> Kind:
    """The `Kind` of an action space: a `spaces.Discrete` or a bounded `spaces.Continuous`."""
    if isinstance(action_space, spaces.Discrete):
        return discrete_actions(action_space.n, config)
    assert isinstance(action_space, spaces.Continuous)
    return continuous_actions(action_space.size, config)


def policy_at(network: Network, params: Params, obs: Observation) -> Any:
    """The policy ``[M]`` at single observations ``[M, ...]``, by a network without memory."""
    return outputs_at(network, params, obs).policy


def soft_gradients(
    key: Key,
    network: Network,
    critics: Critics,
    kind: Kind,
    params: Params,
    target: Params,
    batch: Transitions,
    weight: jax.Array,
) -> tuple[Params, jax.Array, Scalars]:
    """The gradients of soft actor-critic, all of them at ``params``.

    With the temperature ``alpha`` and ``Q`` the smallest of all critics', the losses are the weighted means of

    - critics: ``(Q_i(s, a) - (r + discount * E[Q_target(s', b) - alpha log pi(b | s')]))^2 / 2``, summed over them;
    - policy: ``E[alpha log pi(b | s) - Q(s, b)]``;
    - temperature: ``log alpha * (entropy of pi - target entropy)``.

    An ``n``-step return leaves out the entropy at the steps between.

    Args:
        key: consumed.
        network: of the policy, without memory.
        critics: the critics.
        kind: of the actions.
        params: ``policy``, ``critics``, and ``temperature``, which is log alpha, float32 ``[]``.
        target: ``critics``.
        batch: leaves ``[M, ...]``.
        weight: float32 ``[M]``, importance weights.

    Returns:
        ``(gradients by part, the largest absolute error of all critics [M], scalars to report)``.
    """
    size, alpha = weight.size, jnp.exp(params["temperature"])
    noise = network.noise(key, jnp.arange(2 * size, dtype=jnp.int32))
    now, later = (jax.tree.map(lambda x, half=half: x[half * size : (half + 1) * size], noise) for half in (0, 1))
    next_policy = policy_at(network, params["policy"], batch.next_obs)
    after = kind.over_actions(critics, target["critics"], batch.next_obs, next_policy, later)
    goal = batch.reward + batch.discount * (after.q - alpha * after.log_prob)

    def critic_loss(params: Params) -> tuple[jax.Array, tuple[jax.Array, Scalars]]:
        q = kind.taken(critics, params, batch.obs, batch.action)
        error = q - goal[None]
        losses = 0.5 * jnp.square(error).sum(axis=0)
        fit = explained_variance(q.mean(axis=0), goal, jnp.ones_like(goal))
        scalars = {"value_loss": losses.mean(), "value_mean": q.mean(), "explained_variance": fit}
        return jnp.mean(weight * losses), (jnp.abs(error).max(axis=0), scalars)

    def policy_loss(policy_params: Params) -> tuple[jax.Array, SoftValue]:
        policy = policy_at(network, policy_params, batch.obs)
        here = kind.over_actions(critics, params["critics"], batch.obs, policy, now)
        return jnp.mean(weight * (alpha * here.log_prob - here.q)), here

    critic_gradient, (error, scalars) = jax.grad(critic_loss, has_aux=True)(params["critics"])
    policy_gradient, here = jax.grad(policy_loss, has_aux=True)(params["policy"])
    entropy = -jnp.mean(weight * here.log_prob) / jnp.mean(weight)
    scalars |= {
        "policy_loss": jnp.mean(alpha * here.log_prob - here.q),
        "entropy": entropy,
        "temperature": alpha,
    }
    goal_entropy = kind.target_entropy(batch.obs)
    if jnp.ndim(goal_entropy):
        goal_entropy = jnp.mean(weight * goal_entropy) / jnp.mean(weight)
    gradients = {"policy": policy_gradient, "critics": critic_gradient, "temperature": entropy - goal_entropy}
    return gradients, error, scalars
