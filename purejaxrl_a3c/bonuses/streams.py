"""Targets for agents that learn from two streams of rewards: the environment's and a bonus."""

import jax
import jax.numpy as jnp

from purejaxrl_a3c.objectives import extrinsic
from purejaxrl_a3c.types import (
    Carry,
    Network,
    Observation,
    Outputs,
    Params,
    ReturnEstimator,
    TargetEstimator,
    Targets,
    Trajectory,
)


def two_streams(
    network: Network,
    gamma: float | jax.Array,
    *,
    intrinsic_gamma: float | jax.Array,
    extrinsic_coefficient: float | jax.Array,
    intrinsic_coefficient: float | jax.Array,
) -> TargetEstimator:
    """Targets from the environment's rewards and from a bonus (Burda et al. 2018, arXiv 1810.12894, section 2.3).

    The environment's rewards end with the episode, the bonus does not: what an agent has found out is not lost when an
    episode ends. So there are two returns, with discount factors of their own, and two values of an observation. The
    advantage is the weighted sum of the advantages of the two streams.

    Args:
        network: a `Network` with two values, of the rewards and of the bonus.
        gamma: discount factor of the rewards.
        intrinsic_gamma: discount factor of the bonus.
        extrinsic_coefficient: weight of the advantages of the rewards.
        intrinsic_coefficient: weight of the advantages of the bonus.

    Returns:
        A `TargetEstimator` of trajectories with a ``bonus``. Its value targets are ``[T, 2]``, its advantages ``[T]``.
    """

    def step(params: Params, carry: Carry, obs: Observation, first: jax.Array) -> tuple[Carry, Outputs]:
        carry, outputs = network.step(params, carry, obs, first)
        return carry, outputs._replace(value=outputs.value[..., 0])

    rewards = extrinsic(network._replace(step=step), gamma)

    def bootstrap(params: Params, trajectory: Trajectory) -> tuple[jax.Array, jax.Array]:
        # The bonus continues in the next episode, so its return continues with the observation that is acted on next.
        carry = jax.tree.map(lambda x: x[-1], trajectory.next_carry)
        last = trajectory.terminated[-1] | trajectory.truncated[-1]
        _, outputs = network.step(params, carry, trajectory.end_obs, last)
        return rewards.bootstrap(params, trajectory), outputs.value[..., 1]

    def targets(
        estimate: ReturnEstimator,
        value: jax.Array,
        bootstrap: tuple[jax.Array, jax.Array],
        trajectory: Trajectory,
    ) -> Targets:
        of_rewards = rewards.targets(estimate, value[:, 0], bootstrap[0], trajectory)
        of_bonus = estimate(
            value=value[:, 1],
            next_value=jnp.roll(value[:, 1], -1).at[-1].set(bootstrap[1]),
            reward=trajectory.bonus,
            discount=jnp.full_like(trajectory.bonus, intrinsic_gamma),
            last=jnp.zeros_like(trajectory.bonus),
        )
        return Targets(
            value=jnp.stack([of_rewards.value, of_bonus.value], -1),
            advantage=extrinsic_coefficient * of_rewards.advantage + intrinsic_coefficient * of_bonus.advantage,
        )

    return TargetEstimator(bootstrap, targets)
