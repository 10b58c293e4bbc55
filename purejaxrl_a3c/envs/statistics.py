"""Running means and variances that all copies of an environment share.

Every copy of the environment carries the same statistics and, of its own, the sums of what it has seen since they
were last brought up to date. `merge` adds those up over all copies. Between two merges nothing changes, so acting
and learning see the same numbers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.backend import collectives


class Statistics(NamedTuple):
    """Moments of the numbers merged so far, and one copy's own since then; ``[...]`` is the shape of a sample."""

    weight: jax.Array  # float32 []: samples merged
    mean: jax.Array  # float32 [...]
    variance: jax.Array  # float32 [...]; 1 before the first merge
    new_weight: jax.Array  # float32 []: samples noted down since
    new_mean: jax.Array  # float32 [...]: theirs
    new_squares: jax.Array  # float32 [...]: sum of their squared differences from it, in which no digits cancel


def start(shape):
    """Statistics of nothing, for samples of ``shape``."""
    zero, zeros = jnp.float32(0), jnp.zeros(shape)
    return Statistics(zero, zeros, jnp.ones(shape), zero, zeros, zeros)


def add(statistics, sample):
    """Note a sample down (Welford 1962); the moments do not change yet."""
    weight = statistics.new_weight + 1
    difference = sample - statistics.new_mean
    mean = statistics.new_mean + difference / weight
    squares = statistics.new_squares + difference * (sample - mean)
    return statistics._replace(new_weight=weight, new_mean=mean, new_squares=squares)


def merge(copies, axis_name=None):
    """Bring the moments of all copies up to date (Chan et al. 1979).

    Args:
        copies: `Statistics` of all copies, leaves ``[W, B, ...]``, with equal moments.
        axis_name: of the devices that share the copies out, or None.

    Returns:
        The same, with moments of everything that any copy has noted down.
    """
    old = jax.tree.map(lambda x: x[0, 0], copies)
    weights = copies.new_weight.reshape(*copies.new_weight.shape, *(1,) * old.mean.ndim)

    def total(x):
        return collectives.total(x.sum((0, 1)), axis_name)

    count = total(copies.new_weight)
    # About the mean of one copy, which lies among the samples, as the old mean before the first merge does not.
    about = collectives.mean(jnp.where(old.weight > 0, old.mean, old.new_mean), axis_name)
    shifts = copies.new_mean - about[None, None]
    everything = jnp.maximum(old.weight + count, 1)
    shift = total(weights * shifts) / everything
    squares = jnp.where(old.weight > 0, old.variance * old.weight, 0.0)
    squares += jnp.where(old.weight > 0, old.weight * jnp.square(shift), 0.0)
    squares += total(copies.new_squares + weights * jnp.square(shifts - shift[None, None]))
    merged = start(old.mean.shape)._replace(
        weight=old.weight + count,
        mean=about + shift,
        variance=jnp.where(old.weight + count > 0, squares / everything, old.variance),
    )
    return jax.tree.map(lambda one, many: jnp.broadcast_to(one, many.shape), merged, copies)


def standard_deviation(statistics):
    """float32 ``[...]``; never 0."""
    return jnp.sqrt(jnp.maximum(statistics.variance, 0.0) + 1e-8)
