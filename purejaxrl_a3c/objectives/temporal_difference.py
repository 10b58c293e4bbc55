"""Q-learning from replayed transitions: the targets of DQN and its variants."""

import jax
import jax.numpy as jnp

from purejaxrl_a3c.networks.distributions import EpsilonGreedy
from purejaxrl_a3c.objectives.items import outputs_at
from purejaxrl_a3c.objectives.reports import explained_variance
from purejaxrl_a3c.replay import Transitions
from purejaxrl_a3c.types import Network, Observation, Params, Scalars


def chosen(q: jax.Array, action: jax.Array) -> jax.Array:
    """The Q-values of these actions: ``q [..., A]`` and int32 ``[...]`` to float32 ``[...]``."""
    # The product with one-hot rows replaces a gather: its gradient is a product, not a scatter.
    return jnp.sum(q * jax.nn.one_hot(action, q.shape[-1], dtype=q.dtype), axis=-1)


def q_values(network: Network, params: Params, obs: Observation) -> jax.Array:
    """The Q-values ``[M, A]`` of single observations ``[M, ...]``, by a network without memory."""
    policy: EpsilonGreedy = outputs_at(network, params, obs).policy
    return policy.q


def clipped_error_loss(error: jax.Array, limit: float | jax.Array) -> jax.Array:
    """Half of the squared error, with a gradient that is the error clipped to plus or minus ``limit``.

    This is the gradient of Huber's loss, and with an infinite limit that of the squared error.

    Args:
        error: ``[...]``.
        limit: > 0.

    Returns:
        ``[...]``; its value is not that of Huber's loss where the error is clipped.
    """
    linear = jax.lax.stop_gradient(jnp.clip(error, -limit, limit)) * error
    return linear + jax.lax.stop_gradient(0.5 * jnp.square(error) - linear)


def dqn_gradient(
    network: Network,
    params: Params,
    target: Params,
    batch: Transitions,
    weight: jax.Array,
    *,
    double: bool,
    error_limit: float | jax.Array,
) -> tuple[Params, jax.Array, Scalars]:
    """The gradient of DQN's loss (Mnih et al. 2015; double Q-learning: van Hasselt et al. 2016, arXiv 1509.06461).

    ``mean of: weight * loss(Q(s, a) - (r + discount * Q_target(s', b)))``, where ``b`` is the best action at ``s'`` by
    the target network or, if double, by the learned one.

    Args:
        network: of Q-values, without memory.
        params: its parameters.
        target: those of the target network.
        batch: leaves ``[M, ...]``.
        weight: float32 ``[M]``, importance weights.
        double: whether the learned network chooses the action that the target network values.
        error_limit: as of `clipped_error_loss`.

    Returns:
        ``(gradient, absolute errors [M], scalars to report)``.
    """
    at_next = q_values(network, target, batch.next_obs)
    best = jnp.argmax(q_values(network, params, batch.next_obs) if double else at_next, axis=-1)
    goal = jax.lax.stop_gradient(batch.reward + batch.discount * chosen(at_next, best))

    def loss(params: Params) -> tuple[jax.Array, tuple[jax.Array, Scalars]]:
        q = chosen(q_values(network, params, batch.obs), batch.action)
        losses = clipped_error_loss(q - goal, error_limit)
        fit = explained_variance(q, goal, jnp.ones_like(q))
        scalars = {"value_loss": losses.mean(), "value_mean": q.mean(), "explained_variance": fit}
        return jnp.mean(weight * losses), (jnp.abs(q - goal), scalars)

    gradient, (error, scalars) = jax.grad(loss, has_aux=True)(params)
    return gradient, error, scalars
