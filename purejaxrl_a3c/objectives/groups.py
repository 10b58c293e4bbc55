"""Advantages without a value function: episodes that begin alike are compared with each other.

Every rollout begins a new episode, the same one in all environments of a group. What follows the end of that episode is
not learned from.
"""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

from purejaxrl_a3c.config import CountOrZero, configuration
from purejaxrl_a3c.types import Trajectory

GroupBaseline: TypeAlias = Literal["leave_one_out", "mean", "standardized"]
"""Names of the baselines of a group."""


@configuration
class GroupConfig:
    """Settings of groups of episodes that begin alike."""

    group_size: CountOrZero = 0
    """Environments that begin their episodes in the same state, at least 2. Their returns are the baseline, and no
    value function is learned (gae_lambda, value_coefficient and normalize_advantages do nothing). Every rollout begins
    new episodes, and rollout_length should be that of the longest one. 0: the baseline is the value function, and
    rollouts go on where the last ones ended."""
    group_baseline: GroupBaseline = "leave_one_out"
    """What is subtracted from a return: the mean of the others in its group (RLOO, Ahmadian et al. 2024, arXiv
    2402.14740), the mean of all (Liu et al. 2025, arXiv 2503.20783), or that mean, with the difference divided by the
    standard deviation (standardized: GRPO, Shao et al. 2024, arXiv 2402.03300)."""


def in_first_episode(trajectory: Trajectory) -> jax.Array:
    """Which steps belong to the episode that a rollout began with: bool ``[T]``."""
    ended = (trajectory.terminated | trajectory.truncated).astype(jnp.int32)
    return jnp.cumsum(ended) - ended == 0


def first_return(trajectory: Trajectory, gamma: float | jax.Array) -> jax.Array:
    """Discounted return of the episode that a rollout ``[T]`` began with, as far as it goes: float32 ``[]``."""
    counts = in_first_episode(trajectory)
    discount = jnp.power(jnp.float32(gamma), jnp.arange(counts.size, dtype=jnp.float32))
    return jnp.where(counts, discount * trajectory.reward, 0).sum()


def group_advantages(returns: jax.Array, group_size: int, baseline: GroupBaseline) -> jax.Array:
    """The advantage of each episode over its group.

    Args:
        returns: float32 ``[B]``; every ``group_size`` that follow each other are a group.
        group_size: episodes of a group.
        baseline: see `GroupConfig`.

    Returns:
        float32 ``[B]``.
    """
    groups = returns.reshape(-1, group_size)
    difference = groups - groups.mean(1, keepdims=True)
    if baseline == "leave_one_out":
        difference *= group_size / (group_size - 1)
    if baseline == "standardized":
        difference /= jnp.std(groups, axis=1, keepdims=True) + 1e-6
    return difference.reshape(-1)
