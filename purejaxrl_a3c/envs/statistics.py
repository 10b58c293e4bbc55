"""Running means and variances that all copies of an environment share.

Every copy of the environment carries the same moments, and sums of the samples that it alone has seen since the last
merge. `merge` adds these sums up over all copies and updates the moments. Between two merges the moments stand still,
so acting and learning see the same numbers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.backend import collectives
from purejaxrl_a3c.types import AxisName

_LARGEST = 1e18  # squares of numbers not much larger overflow in float32


class Statistics(NamedTuple):
    """The merged moments, and one copy's own moments since the last merge; ``[...]`` is the shape of a sample."""

    weight: jax.Array  # float32 []: number of merged samples
    mean: jax.Array  # float32 [...]
    variance: jax.Array  # float32 [...]; 1 before the first merge
    new_weight: jax.Array  # float32 []: number of samples of this copy since the last merge
    new_mean: jax.Array  # float32 [...]: mean of these samples
    new_squares: jax.Array  # float32 [...]: sum of their squared differences from it; these lose no digits


def start(shape: tuple[int, ...]) -> Statistics:
    """The statistics of no samples, for samples of ``shape``."""
    zero, zeros = jnp.float32(0), jnp.zeros(shape, jnp.float32)
    return Statistics(zero, zeros, jnp.ones(shape, jnp.float32), zero, zeros, zeros)


def is_usable(sample: jax.Array) -> jax.Array:
    """Whether all numbers of a sample are finite, and so small that their squares are: bool ``[]``."""
    return (jnp.abs(sample) < _LARGEST).all()


def each(function: Callable[..., Any], moments: Any, *others: Any) -> Any:
    """``function`` of every `Statistics` of a tree and of the entries of ``others`` there, as a tree."""
    return jax.tree.map(function, moments, *others, is_leaf=lambda x: isinstance(x, Statistics))


def add(statistics: Statistics, sample: jax.Array) -> Statistics:
    """Add a sample to one copy's own moments (Welford 1962). The merged moments do not change yet.

    A sample that is not usable is left out, because it would spoil the moments for the rest of the run.
    """
    sample = sample.astype(jnp.float32)  # some environments compute with 64 bits where JAX may
    weight = statistics.new_weight + 1
    difference = sample - statistics.new_mean
    mean = statistics.new_mean + difference / weight
    squares = statistics.new_squares + difference * (sample - mean)
    added = statistics._replace(new_weight=weight, new_mean=mean, new_squares=squares)
    usable = is_usable(sample)
    return jax.tree.map(lambda new, old: jnp.where(usable, new, old), added, statistics)


def merge(copies: Statistics, axis_name: AxisName = None) -> Statistics:
    """Update the moments of all copies with the samples of all copies (Chan et al. 1979).

    Args:
        copies: the `Statistics` of all copies, leaves ``[W, B, ...]``, with equal moments.
        axis_name: the axis of devices that share the copies out, or None.

    Returns:
        The same, with updated moments and no samples since. Moments that would overflow stay as they are.
    """
    old = jax.tree.map(lambda x: x[0, 0], copies)
    weights = copies.new_weight.reshape(*copies.new_weight.shape, *(1,) * old.mean.ndim)

    def total(x: jax.Array) -> jax.Array:
        return collectives.total(x.sum((0, 1)), axis_name)

    count = total(copies.new_weight)
    # Before the first merge the old mean is 0 and may lie far from the samples, so the origin is the mean of one copy.
    origin = collectives.mean(jnp.where(old.weight > 0, old.mean, old.new_mean), axis_name)
    shifts = copies.new_mean - origin[None, None]
    all_samples = jnp.maximum(old.weight + count, 1)
    shift = total(weights * shifts) / all_samples
    squares = jnp.where(old.weight > 0, old.variance * old.weight, 0.0)
    squares += jnp.where(old.weight > 0, old.weight * jnp.square(shift), 0.0)
    squares += total(copies.new_squares + weights * jnp.square(shifts - shift[None, None]))
    mean, variance = origin + shift, jnp.where(old.weight + count > 0, squares / all_samples, old.variance)
    usable = jnp.isfinite(mean).all() & jnp.isfinite(variance).all()
    merged = start(old.mean.shape)._replace(
        weight=jnp.where(usable, old.weight + count, old.weight),
        mean=jnp.where(usable, mean, old.mean),
        variance=jnp.where(usable, variance, old.variance),
    )
    return jax.tree.map(lambda one, many: jnp.broadcast_to(one, many.shape), merged, copies)


def standard_deviation(statistics: Statistics) -> jax.Array:
    """The standard deviation of the merged samples, float32 ``[...]``; never 0."""
    return jnp.sqrt(jnp.maximum(statistics.variance, 0.0) + 1e-8)
