"""Which version of the parameters a worker sees when it pulls.

Version ``v`` is the parameters after ``v`` pushes. It is kept in row ``v % R`` of ``recent``, float32 ``[R, P]``, until
version ``v + R`` takes its place.
"""

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.types import Key
from purejaxrl_a3c.updates.asynchrony import Asynchrony


def pulls_own_push(asynchrony: Asynchrony) -> bool:
    """Whether every worker pulls what its own push has made: then no older versions are needed."""
    return asynchrony.reads == "newest" and asynchrony.max_lead is None


def pull(
    key: Key,
    asynchrony: Asynchrony,
    recent: jax.Array,
    newest: jax.Array,
    workers: jax.Array,
    leaf_sizes: list[int],
) -> tuple[jax.Array, jax.Array]:
    """What some workers see when they pull.

    Args:
        key: consumed; for torn reads.
        asynchrony: the `Asynchrony`.
        recent: float32 ``[R, P]``, see above.
        newest: int32 ``[W]``, the newest version at the time when each worker pulls.
        workers: int32 ``[H]``, the workers of this device.
        leaf_sizes: numbers in every leaf of the parameters; the rest of ``P`` are the zeros of `vectors.ravel`.

    Returns:
        Parameters float32 ``[H, P]``, and int32 ``[W]``, the version of the newest number among those that each of all
        workers sees.
    """
    num_versions, num_params = recent.shape
    if asynchrony.reads in ("newest", "lagged"):  # the newest ones have a lag of 0
        lag = jnp.clip(jnp.round(jnp.asarray(asynchrony.lag, jnp.float32)).astype(jnp.int32), 0, asynchrony.max_lag)
        seen = jnp.maximum(newest - lag, 0)
        return recent[seen[workers] % num_versions], seen
    age = _ages(key, asynchrony, newest.shape[0], leaf_sizes)
    age = jnp.pad(age, ((0, 0), (0, num_params - age.shape[1])))
    row = jnp.maximum(newest[:, None] - age, 0) % num_versions
    return recent[row[workers], jnp.arange(num_params)[None]], newest


def _ages(key: Key, asynchrony: Asynchrony, num_workers: int, leaf_sizes: list[int]) -> jax.Array:
    """How many versions old each number of a torn read is: int32 ``[W, ...]``, as many as there are in the leaves."""
    num_params = sum(leaf_sizes)
    if asynchrony.reads == "torn_elements":
        return jax.random.randint(key, (num_workers, num_params), 0, asynchrony.max_lag + 1, jnp.int32)
    age = jax.random.randint(key, (num_workers, len(leaf_sizes)), 0, asynchrony.max_lag + 1, jnp.int32)
    return jnp.repeat(age, np.array(leaf_sizes), axis=1, total_repeat_length=num_params)
