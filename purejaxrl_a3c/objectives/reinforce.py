"""REINFORCE's loss: Monte-Carlo returns of whole episodes."""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

from purejaxrl_a3c.objectives import returns
from purejaxrl_a3c.objectives.config import Config
from purejaxrl_a3c.objectives.policy_gradient import LearnedSteps, OffPolicyEstimator, actor_critic
from purejaxrl_a3c.types import Network, Objective, TargetEstimator, Targets, Trajectory

Baseline: TypeAlias = Literal["value", "none"]
"""The baselines of `reinforce`."""


def reinforce(
    network: Network,
    config: Config,
    estimator: TargetEstimator,
    *,
    baseline: Baseline,
    longest_episode: int,
) -> Objective:
    """REINFORCE (Williams 1992): Monte-Carlo returns of whole episodes, with a baseline or without.

    ``mean over steps of: [the step counts] (- log pi(a|s) A + value_coefficient (V - G)^2) - entropy_coefficient H``

    With the baseline ``value`` the advantage ``A`` is ``G - V``. Without one (``none``) it is the return ``G``, and the
    value function does not learn. A truncated episode would have gone on. With a baseline its return ends with the
    value of its last observation; without one there is no such value, and its return ends with its last reward.
    The factor ``gamma^t`` of the gradient of the discounted return is left out, as is usual.

    Args:
        network: the `Network`.
        config: settings of the returns and of the weights in the loss. ``G`` is the Monte-Carlo return if
            ``gae_lambda`` is 1, and the lambda-return otherwise.
        estimator: turns rewards into targets, see `extrinsic`.
        baseline: what is subtracted from the returns.
        longest_episode: frames; see `in_a_whole_episode`.
    """

    def with_value(log_rho: jax.Array, **block: jax.Array) -> Targets:
        del log_rho
        return returns.gae(**block, gae_lambda=config.gae_lambda)

    def without(log_rho: jax.Array, *, value: jax.Array, next_value: jax.Array, **block: jax.Array) -> Targets:
        del log_rho, next_value
        zeros = jnp.zeros_like(value)
        found = returns.gae(zeros, zeros, **block, gae_lambda=config.gae_lambda)
        return found._replace(value=jax.lax.stop_gradient(value))

    def learned(trajectory: Trajectory) -> LearnedSteps:
        counts = in_a_whole_episode(trajectory, longest_episode)
        return LearnedSteps(policy=counts, value=counts if baseline == "value" else jnp.zeros_like(counts))

    estimates: dict[Baseline, OffPolicyEstimator] = {"value": with_value, "none": without}
    return actor_critic(network, config, estimator, estimates[baseline], learned=learned)


def in_a_whole_episode(trajectory: Trajectory, longest: int) -> jax.Array:
    """Which steps count for Monte-Carlo returns, bool ``[T]``: the rollout must hold their whole episode.

    That rule alone would prefer short episodes, which fit into a rollout more often. So an episode counts only if it
    starts early enough that even an episode of ``longest`` steps would end in the rollout. Whether an episode counts
    then depends on when it starts and not on how long it will be. So no length is preferred, as long as no episode is
    longer than ``longest``.

    Args:
        trajectory: of one environment, ``[T]``.
        longest: frames of the longest episode.
    """
    t = jnp.arange(trajectory.first.shape[0], dtype=jnp.int32)
    start = jax.lax.cummax(jnp.where(trajectory.first, t, -1))
    ends = jax.lax.cummax(jnp.where(trajectory.terminated | trajectory.truncated, t, -1), reverse=True)
    return (start >= 0) & (start <= t.size - longest) & (ends >= t)
