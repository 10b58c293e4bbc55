"""Whether a run fits into memory, before anything is allocated."""

import math
import os
from typing import Any

import jax

from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.types import State


def size_of(types: Any) -> int:
    """Bytes of the arrays of a tree, of which shapes and dtypes are enough."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(types))


def available(device: jax.Device) -> int | None:
    """Bytes of a device's memory, or of the machine's if it is a CPU; None if nobody says."""
    if device.platform != "cpu":
        return (device.memory_stats() or {}).get("bytes_limit")
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def readable(size: float) -> str:
    """Bytes for people: 3.2 MB."""
    power = 1 + (size >= 1e6) + (size >= 1e9)
    return f"{size / 1000**power:,.1f} {('kB', 'MB', 'GB')[power - 1]}"


def check_fits(state: State, frames_per_iteration: int, devices: list[jax.Device]) -> None:
    """Check that the state of a run fits into the memory of the devices that share it.

    Args:
        state: shapes and dtypes of its arrays, as on one device.
        frames_per_iteration: of the run.
        devices: that share it.

    Raises:
        InputError: with the size of each part.
    """
    room = available(devices[0])
    parts: Any = state
    learner, environments, replayed = size_of(parts.learner), size_of(parts.actor_state), replay_size(state)
    shared = len(devices) if devices[0].platform != "cpu" else 1
    # Each device has all parameters, and its share of the environments and of what is replayed.
    if room is not None and learner + (environments + replayed) / shared > room:
        replay = f"the replay buffer takes {readable(replayed)}, which a smaller replay_size reduces, " * bool(replayed)
        raise InputError(
            f"the state of the run is {readable(size_of(state))} and does not fit into {readable(room)} of memory: "
            f"{replay}the learner takes {readable(learner)}, which a smaller network or fewer workers reduce, and "
            f"environments take {readable(environments)}, with {frames_per_iteration:,} frames an iteration"
        )


def replay_size(state: State) -> int:
    """Bytes of the replay buffer; 0 if there is none."""
    return size_of(getattr(state, "replay", ()))
