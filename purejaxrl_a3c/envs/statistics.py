"""Running means and variances that all copies of an environment share.

Every copy of the environment carries the same statistics and, of its own, the sums of what it has seen since they
were last brought up to date. `merge` adds those up over all copies. Between two merges nothing changes, so acting
and learning see the same numbers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Statistics(NamedTuple):
    """Moments of the numbers merged so far, and one copy's sums since then; ``[...]`` is the shape of a sample."""

    weight: jax.Array  # float32 []: samples merged
    mean: jax.Array  # float32 [...]
    variance: jax.Array  # float32 [...]; 1 before the first merge
    new_weight: jax.Array  # float32 []: samples noted down since
    new_sum: jax.Array  # float32 [...]: of the differences from the mean, in which no digits cancel
    new_squares: jax.Array  # float32 [...]: of their squares


def start(shape):
    """Statistics of nothing, for samples of ``shape``."""
    zero, zeros = jnp.float32(0), jnp.zeros(shape)
    return Statistics(zero, zeros, jnp.ones(shape), zero, zeros, zeros)


def add(statistics, sample):
    """Note a sample down; the moments do not change yet."""
    difference = sample - statistics.mean
    return statistics._replace(
        new_weight=statistics.new_weight + 1,
        new_sum=statistics.new_sum + difference,
        new_squares=statistics.new_squares + jnp.square(difference),
    )


def merge(copies):
    """Bring the moments of all copies up to date (Chan et al. 1979, the pairwise formula).

    Args:
        copies: `Statistics` of all copies, leaves ``[W, B, ...]``, with equal moments.

    Returns:
        The same, with moments of everything that any copy has noted down.
    """
    old = jax.tree.map(lambda x: x[0, 0], copies)
    count, total, squares = (x.sum((0, 1)) for x in (copies.new_weight, copies.new_sum, copies.new_squares))
    everything = jnp.maximum(old.weight + count, 1)
    shift = total / everything
    sum_of_squares = jnp.where(old.weight > 0, old.variance * old.weight, 0.0) + squares
    merged = start(old.mean.shape)._replace(
        weight=old.weight + count,
        mean=old.mean + shift,
        # Both sums of squares are about the old mean.
        variance=jnp.where(old.weight + count > 0, sum_of_squares / everything - jnp.square(shift), old.variance),
    )
    return jax.tree.map(lambda one, many: jnp.broadcast_to(one, many.shape), merged, copies)


def standard_deviation(statistics):
    """float32 ``[...]``; never 0."""
    return jnp.sqrt(jnp.maximum(statistics.variance, 0.0) + 1e-8)
