"""Random numbers by index: any part of one big draw, without drawing the rest.

A device that holds some of a run's environments draws only their numbers, and they are those that a single device would
have drawn for them. All numbers of a draw come from one key: XLA's CPU backend takes six times as long to compile a
draw of ten numbers for each of many keys as it does to compile one of as many numbers from a single key.
"""

import jax
import jax.numpy as jnp
import numpy as np


def keys_at(key, index):
    """Keys by number, for int32 ``[...]``: ``keys_at(key, arange(n))`` is ``jax.random.split(key, n)``."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index.reshape(-1)).reshape(index.shape)


def components(index, size):
    """Numbers of the ``size`` components each of some items: int32 ``[...]`` to ``[..., size]``."""
    return index[..., None] * size + jnp.arange(size).reshape(*(1,) * index.ndim, size)


def uniform_at(key, index):
    """Uniform numbers in [0, 1) by number, float32 ``[...]`` for int32 ``[...]``: those of `jax.random.uniform`."""
    words = jax.random.key_data(keys_at(key, index))
    bits = words[..., 0] ^ words[..., 1]
    one_to_two = jax.lax.bitcast_convert_type((bits >> 9) | jnp.uint32(0x3F800000), jnp.float32)
    return one_to_two - 1.0


def normal_at(key, index):
    """Standard normal numbers by number, float32 ``[...]`` for int32 ``[...]``: those of `jax.random.normal`."""
    lowest = np.nextafter(np.float32(-1), np.float32(0))
    uniform = jnp.maximum(lowest, uniform_at(key, index) * (1 - lowest) + lowest)
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(uniform)
