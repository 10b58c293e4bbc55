"""REINFORCE's loss: Monte-Carlo returns of whole episodes."""

import jax
import jax.numpy as jnp

from purejaxrl_a3c.objectives import returns
from purejaxrl_a3c.objectives.policy_gradient import actor_critic
from purejaxrl_a3c.objectives.targets import extrinsic
from purejaxrl_a3c.types import Targets

BASELINES = ("value", "none")
"""The baselines of `reinforce`."""


def reinforce(network, config, make_credit=extrinsic):
    """REINFORCE (Williams 1992): Monte-Carlo returns of whole episodes, with a baseline or without.

    ``mean over steps of: [the step counts] (- log pi(a|s) A + value_coefficient (V - G)^2) - entropy_coefficient H``

    ``A`` is ``G - V`` with the baseline ``value``, and the return ``G`` itself without one (``none``), where V learns
    nothing. A truncated episode would have gone on: with a baseline its return goes on too, by the value of its last
    observation; without one there is nothing to go on with, and the return ends with the reward at the cut.
    The factor ``gamma^t`` of the gradient of the discounted return is left out, as is usual.

    Args:
        network: the `Network`.
        config: any object with ``gamma``, ``entropy_coefficient`` and ``value_coefficient`` as of `policy_gradient`;
            ``baseline``, one of `BASELINES`; and ``longest_episode``, see `in_a_whole_episode`.
        make_credit: (network, config) -> `Credit`.
    """

    def with_value(log_rho, **block):
        del log_rho
        return returns.gae(**block, lambda_=1.0)

    def without(log_rho, *, value, next_value, **block):
        del log_rho
        zeros = jnp.zeros_like(value)
        return Targets(jax.lax.stop_gradient(value), returns.gae(zeros, zeros, **block, lambda_=1.0).advantage)

    def counts(trajectory):
        return in_a_whole_episode(trajectory, config.longest_episode)

    estimate = {"value": with_value, "none": without}[config.baseline]
    return actor_critic(network, config, make_credit, estimate, lambda log_prob: log_prob, counts)


def in_a_whole_episode(trajectory, longest):
    """Which steps count for Monte-Carlo returns, bool ``[T]``: the block must hold their whole episode.

    That alone would prefer short episodes, which fit into a block more often. So an episode counts only if it starts
    early enough that even one of ``longest`` steps would end in the block. Whether it counts then depends on when it
    starts and not on how long it will be: nothing is preferred, as long as no episode is longer than ``longest``.
    """
    t = jnp.arange(trajectory.first.shape[0])
    start = jax.lax.cummax(jnp.where(trajectory.first, t, -1))
    ends = jax.lax.cummax(jnp.where(trajectory.terminated | trajectory.truncated, t, -1), reverse=True)
    return (start >= 0) & (start <= t.size - longest) & (ends >= t)
