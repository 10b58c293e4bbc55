"""The report of one iteration."""

import jax
import jax.numpy as jnp

from purejaxrl_a3c.backend import collectives
from purejaxrl_a3c.loops.layout import EnvLayout
from purejaxrl_a3c.types import Metrics, Scalars, Trajectory


def episode_sums(trajectories: Trajectory, counts: jax.Array | bool = True) -> Scalars:
    """Sums over the whole episodes that ended in ``trajectories [L, B, T]``, where ``counts`` is true."""
    # An episode that `auto_reset` cut short to put environments out of phase has length 0: it is not a whole one.
    ended = (trajectories.terminated | trajectories.truncated) & (trajectories.episode_length > 0) & counts
    return {
        "returns": jnp.where(ended, trajectories.episode_return, 0).sum(),
        "lengths": jnp.where(ended, trajectories.episode_length, 0).sum(dtype=jnp.float32),
        "episodes": ended.sum(dtype=jnp.int32),
    }


def make_metrics(layout: EnvLayout, iteration: jax.Array, losses: Scalars, sums: Scalars) -> Metrics:
    """The `Metrics` of an iteration.

    Args:
        layout: the environments of the run.
        iteration: int32 ``[]``, iterations done, this one included.
        losses: scalars to report, the same on all devices.
        sums: from `episode_sums`, over this device's episodes.
    """
    sums = collectives.total(sums, layout.axis_name)
    countable = layout.iterations * layout.frames < 2**31
    return Metrics(
        frames=iteration * layout.frames if countable else iteration.astype(jnp.float32) * layout.frames,
        episodes=sums["episodes"],
        return_sum=sums["returns"],
        length_sum=sums["lengths"],
        losses=losses,
    )
