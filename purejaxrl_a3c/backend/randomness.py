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


def permutation(key, size):
    """A random order, int32 ``[size]``: every number below ``size`` once, without sorting.

    `jax.random.permutation` sorts, twice, which on XLA's CPU backend takes as long as a pass of a small network over
    as many rows. This is arithmetic on every number by itself. A Feistel network (Luby & Rackoff 1988, doi
    10.1137/0217022) is a bijection whatever its round function is, and where it leads to ``size`` or beyond it is
    taken again until it does not (Black & Rogaway 2002, doi 10.1007/3-540-45760-7_9). Meant for shuffling, not for
    secrets: of all orders of many things it can reach but a few, as can everything that is drawn from one key.

    Args:
        key: consumed.
        size: an int, below 2**30.
    """
    half = max(4, ((size - 1).bit_length() + 1) // 2)  # bits; a larger network than a few things need mixes them better
    low = jnp.uint32(2**half - 1)
    round_keys = jax.random.bits(key, (6,))

    def bijection(x):
        left, right = x >> half, x & low
        for round_key in round_keys:
            mixed = (right ^ round_key) * jnp.uint32(0x9E3779B1)
            mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0x85EBCA77)
            left, right = right, (left ^ mixed ^ (mixed >> 13)) & low
        return (left << half) | right

    def walk(x):
        return jnp.where(x < size, x, bijection(x))

    order = bijection(jnp.arange(size, dtype=jnp.uint32))
    return jax.lax.while_loop(lambda x: (x >= size).any(), walk, order).astype(jnp.int32)
