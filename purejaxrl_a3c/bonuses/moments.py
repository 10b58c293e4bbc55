"""Running means and deviations of observations and bonuses."""

import jax
import jax.numpy as jnp

from purejaxrl_a3c.backend import collectives
from purejaxrl_a3c.envs import statistics
from purejaxrl_a3c.types import AxisName

_LARGEST = 5.0  # of a normalized observation (Burda et al. 2018, section 2.4)


def start_moments(shape: tuple[int, ...]) -> statistics.Statistics:
    """The moments of no samples, for samples of ``shape``."""
    return jax.tree.map(lambda x: x.astype(jnp.float32), statistics.start(shape))


def update_moments(
    moments: statistics.Statistics, samples: jax.Array, axis_name: AxisName = None
) -> statistics.Statistics:
    """Running moments after some more samples.

    If any of the samples is not `statistics.is_usable`, all of them are left out: they would spoil the moments for the
    whole run. Agents skip the gradients of such a rollout as well.

    Args:
        moments: of all samples until now.
        samples: ``[N, ...]``, on this device.
        axis_name: name of the axis of devices, or None. The samples of all devices count.
    """
    mean = samples.mean(0)
    added = moments._replace(
        new_weight=jnp.float32(samples.shape[0]), new_mean=mean, new_squares=jnp.square(samples - mean[None]).sum(0)
    )
    merged = statistics.merge(jax.tree.map(lambda x: x[None, None], added), axis_name)
    spoilt = collectives.total((~statistics.is_usable(samples)).astype(jnp.float32), axis_name) > 0
    return jax.tree.map(lambda new, old: jnp.where(spoilt, old, new[0, 0].astype(old.dtype)), merged, moments)


def normalize(moments: statistics.Statistics, obs: jax.Array) -> jax.Array:
    """Observations ``[N, ...]`` with mean 0 and standard deviation 1, clipped to [-5, 5]; NaN becomes the mean."""
    normalized = (obs - moments.mean[None]) / statistics.standard_deviation(moments)[None]
    return jnp.where(jnp.isnan(obs), 0.0, jnp.clip(normalized, -_LARGEST, _LARGEST))


def discounted_sums(before: jax.Array, bonus: jax.Array, gamma: float | jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each environment's discounted sum of its bonuses until every step.

    Args:
        before: float32 ``[W, B]``, the sums before the rollout.
        bonus: float32 ``[W, B, T]``.
        gamma: discount factor for each step.

    Returns:
        ``(after, sums)``: the sums after the rollout ``[W, B]``, and after every step ``[W, B, T]``.
    """

    def tick(total: jax.Array, bonus: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = gamma * total + bonus
        return total, total

    after, sums = jax.lax.scan(tick, before, jnp.moveaxis(bonus, -1, 0))
    return after, jnp.moveaxis(sums, 0, -1)
