"""Which environments a run has, and which of them are on this device."""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.backend import collectives
from purejaxrl_a3c.checks import check_divides, reject
from purejaxrl_a3c.config import flat
from purejaxrl_a3c.loops.config import Batch, Workers
from purejaxrl_a3c.types import AxisName

_MOST_ITERATIONS = 2**31 - 1  # iterations and updates are counted in int32


class EnvLayout(NamedTuple):
    """The environments of a run, ``B`` for each of ``W`` workers, and how devices share them out."""

    workers: int  # W
    envs: int  # B
    rollout_length: int  # T
    iterations: int  # I
    split: Literal["workers", "envs"]  # devices share out the workers, or every worker's environments
    split_name: str  # the config's field that devices share out, for errors
    axis_name: AxisName = None
    group_size: int = 0  # environments whose rollouts begin the same new episode; 0: rollouts go on

    @property
    def total_envs(self) -> int:
        """Number of environments, on all devices."""
        return self.workers * self.envs

    @property
    def frames(self) -> int:
        """Frames of one iteration, on all devices."""
        return self.workers * self.envs * self.rollout_length

    @property
    def workers_here(self) -> int:
        """Number of workers on this device."""
        if self.split == "envs":
            return self.workers
        return collectives.part(self.split_name, self.workers, self.axis_name)

    @property
    def envs_here(self) -> int:
        """Number of environments of each worker on this device."""
        return self.envs if self.split == "workers" else collectives.part(self.split_name, self.envs, self.axis_name)

    @property
    def split_axis(self) -> int:
        """Axis of arrays ``[W, B, ...]`` along which devices share them out."""
        return 0 if self.split == "workers" else 1

    def own_workers(self) -> jax.Array:
        """Numbers of the workers on this device, int32 ``[W]``."""
        first = collectives.index(self.axis_name) * self.workers_here if self.split == "workers" else 0
        return first + jnp.arange(self.workers_here, dtype=jnp.int32)

    def numbers(self, workers: jax.Array) -> jax.Array:
        """Numbers of these workers' environments on this device: int32 ``[L]`` to ``[L, B]``."""
        first = 0 if self.split == "workers" else collectives.index(self.axis_name) * self.envs_here
        return workers[:, None] * self.envs + (first + jnp.arange(self.envs_here, dtype=jnp.int32))[None]


def make_layout(
    rollouts: Batch | Workers,
    axis_name: AxisName,
    split: Literal["workers", "envs"] = "envs",
    updates_per_iteration: int = 1,
    num_workers: int = 1,
    group_size: int = 0,
) -> EnvLayout:
    """The `EnvLayout` of a run.

    Args:
        rollouts: the sizes of the run.
        axis_name: of the devices that share it out, or None.
        split: what devices share out; a `Batch` has environments only.
        updates_per_iteration: gradient steps of an iteration, which are counted too.
        num_workers: that share out the environments of a `Batch`.
        group_size: environments of a worker whose rollouts begin the same new episode; 0: rollouts go on where the last
            ones ended.

    Raises:
        InputError: if not a single iteration fits into the run, or more than can be counted.
    """
    if isinstance(rollouts, Batch):
        check_divides("num_workers", num_workers, "num_envs", rollouts.num_envs)
        workers, envs, split_name = num_workers, rollouts.num_envs // num_workers, "num_envs"
    else:
        workers, envs = rollouts.num_workers, rollouts.envs_per_worker
        split_name = "num_workers" if split == "workers" else "envs_per_worker"
    frames = workers * envs * rollouts.rollout_length
    iterations = rollouts.total_frames // frames
    if iterations < 1:
        _reject_size(rollouts, frames)
    if iterations * updates_per_iteration > _MOST_ITERATIONS:
        most = _MOST_ITERATIONS * frames // updates_per_iteration
        reject("total_frames", rollouts.total_frames, f"at most {most}, with {frames} frames an iteration")
    layout = EnvLayout(workers, envs, rollouts.rollout_length, iterations, split, split_name, axis_name, group_size)
    if group_size:
        check_divides("group_size", group_size, "the environments of a worker, on each device", layout.envs_here)
    return layout


def _reject_size(rollouts: Batch | Workers, frames: int) -> None:
    """Name the setting that is furthest from its default: ``total_frames``, or a size that makes an iteration large."""
    values, defaults = flat(rollouts), flat(type(rollouts)())

    def excess(name: str) -> float:
        ratio = math.log(values[name] / defaults[name])
        return -ratio if name == "total_frames" else ratio

    name = max(("total_frames", *(other for other in values if other != "total_frames")), key=excess)
    if name == "total_frames":
        reject(name, values[name], f"at least {frames}, the frames of one iteration")
    others = " x ".join(other for other in values if other != "total_frames")
    accepted = f"smaller: an iteration has {others} = {frames} frames, and total_frames is {rollouts.total_frames}"
    reject(name, values[name], accepted)
