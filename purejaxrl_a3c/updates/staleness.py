"""Counts of staleness: of a push, the pushes that were applied since its worker pulled."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Within(NamedTuple):
    """The part of staleness that is due to pushes from the pusher's own device."""

    missed_here: jax.Array  # int32 [W]: pushes from its own device that each worker has not seen after these pushes
    staleness: jax.Array  # int32 [L]: the part, of each push
    rank: jax.Array  # int32 [L]: how many of these pushes from the same device come before each


def count_within(
    missed_here: jax.Array,
    workers: jax.Array,
    active: jax.Array | None,
    pull_after: jax.Array,
    workers_of_a_device: int,
) -> Within:
    """Count the pushes from the same device that each push's worker has not seen.

    Args:
        missed_here: int32 ``[W]``, pushes from its own device that each worker has not seen before these pushes.
        workers: int32 ``[L]``, who pushes, in order.
        active: bool ``[L]``, whether the push takes place; None: all do.
        pull_after: int32 ``[W]``, after which of these pushes a worker pulls; -1: it does not.
        workers_of_a_device: an int.
    """
    device = workers // workers_of_a_device
    order = jnp.arange(workers.size, dtype=jnp.int32)
    pushed = jnp.ones(workers.size, bool) if active is None else active
    before = (device[:, None] == device[None]) & pushed[None] & (order[None] < order[:, None])
    rank = before.sum(1, dtype=jnp.int32)
    own_device = jnp.arange(pull_after.size, dtype=jnp.int32) // workers_of_a_device
    unseen = (own_device[:, None] == device[None]) & pushed[None] & (order[None] > pull_after[:, None])
    missed_after = jnp.where(pull_after >= 0, 0, missed_here) + unseen.sum(1, dtype=jnp.int32)
    return Within(missed_after, missed_here[workers] + rank, rank)


def add_to_histogram(histogram: jax.Array, staleness: jax.Array, active: jax.Array | None = None) -> jax.Array:
    """Count pushes by their staleness.

    Args:
        histogram: int32 ``[N]``, pushes so far; the last bin is for ``N - 1`` or more.
        staleness: int32 ``[L]``.
        active: bool ``[L]``, whether the push takes place; None: all do.

    Returns:
        The histogram with these pushes.
    """
    bins = jnp.minimum(staleness, histogram.size - 1)
    if active is not None:
        bins = jnp.where(active, bins, histogram.size)
    return histogram.at[bins].add(1, mode="drop")
