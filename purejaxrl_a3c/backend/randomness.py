"""Keys as the user gives them, and random numbers by index: any part of one big draw, without the rest of it.

A device that holds some of a run's environments draws only the random numbers of these environments. They equal the
numbers that a single device would have drawn for them. All numbers of a draw come from one key: XLA's CPU backend
takes six times as long to compile a draw of ten numbers for each of many keys as it does to compile one draw of as many
numbers from a single key.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.types import Key


def as_key(key: Any, name: str = "key") -> Key:
    """``key`` as a typed key.

    Args:
        key: a typed key, or a raw one as `jax.random.PRNGKey` makes it, which gives the same random numbers. Both may
            be traced.
        name: what to call it in an error.

    Returns:
        A typed key ``[]``.

    Raises:
        InputError: if ``key`` is not a single key.
    """
    typed = _typed(key)
    if typed is None:
        return reject(name, key, "a key, such as jax.random.key(0)")
    if typed.shape != ():
        return reject(name, key, f"one key, not a batch of shape {typed.shape}: vmap over them")
    return typed


def as_keys(keys: Any, name: str = "keys") -> Key:
    """``keys`` as typed keys.

    Args:
        keys: typed keys ``[n]``, or raw ones, uint32 ``[n, 2]``; see `as_key`.
        name: what to call them in an error.

    Returns:
        Typed keys ``[n]``.

    Raises:
        InputError: if ``keys`` is not a batch of keys with one axis.
    """
    typed = _typed(keys)
    if typed is None or typed.ndim != 1:
        return reject(name, keys, "a batch of keys, such as jax.random.split(jax.random.key(0), 8)")
    return typed


def as_key_or_keys(key: Any, name: str = "key") -> Key:
    """A single key as of `as_key`, or several as of `as_keys`.

    Raises:
        InputError: if ``key`` is neither.
    """
    typed = _typed(key)
    if typed is None or typed.ndim > 1:
        return reject(name, key, "a key, such as jax.random.key(0), or a batch of keys with one axis")
    return typed


def _typed(key: Any) -> Key | None:
    """Typed keys of the same shape, or None if ``key`` holds no keys."""
    if not isinstance(key, jax.Array | np.ndarray):
        return None
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return jnp.asarray(key)
    key_shape = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape
    is_raw = key.dtype == jnp.uint32 and key.shape[-len(key_shape) :] == key_shape
    return jax.random.wrap_key_data(jnp.asarray(key)) if is_raw else None


def keys_at(key: Key, index: jax.Array) -> Key:
    """The keys of these numbers: ``keys_at(key, arange(n))`` is ``jax.random.split(key, n)``.

    Args:
        key: consumed, if all keys of a draw come from it.
        index: int32 ``[...]``.

    Returns:
        Keys ``[...]``.
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index.reshape(-1)).reshape(index.shape)


def components(index: jax.Array, size: int) -> jax.Array:
    """The numbers of the components of some items, which have ``size`` each: int32 ``[...]`` to ``[..., size]``."""
    return index[..., None] * size + jnp.arange(size).reshape(*(1,) * index.ndim, size)


def uniform_at(key: Key, index: jax.Array) -> jax.Array:
    """Uniform numbers in [0, 1): those at ``index`` in a draw of `jax.random.uniform`.

    Args:
        key: consumed.
        index: int32 ``[...]``.

    Returns:
        float32 ``[...]``.
    """
    words = jax.random.key_data(keys_at(key, index))
    bits = words[..., 0] ^ words[..., 1]
    one_to_two = jax.lax.bitcast_convert_type((bits >> 9) | jnp.uint32(0x3F800000), jnp.float32)
    return one_to_two - 1.0


def normal_at(key: Key, index: jax.Array) -> jax.Array:
    """Standard normal numbers: those at ``index`` in a draw of `jax.random.normal`.

    Args:
        key: consumed.
        index: int32 ``[...]``.

    Returns:
        float32 ``[...]``.
    """
    lowest = np.nextafter(np.float32(-1), np.float32(0))
    width = np.float32(1) - lowest  # before NumPy 2, the int 1 would make it a float64
    uniform = jnp.maximum(lowest, uniform_at(key, index) * width + lowest)
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(uniform)


def permutation(key: Key, size: int) -> jax.Array:
    """A random order, int32 ``[size]``: every number below ``size`` once, without sorting.

    `jax.random.permutation` sorts twice, which on XLA's CPU backend takes as long as a pass of a small network over
    as many rows. Here arithmetic moves every number on its own. A Feistel network (Luby & Rackoff 1988, doi
    10.1137/0217022) is a bijection whatever its round function is. Where it leads to ``size`` or beyond, it is applied
    again until it does not (Black & Rogaway 2002, doi 10.1007/3-540-45760-7_9). This is meant for shuffling, not for
    secrets. Like every function of one key, it reaches only a few of the many orders of a large set.

    Args:
        key: consumed.
        size: an int, below 2**30.
    """
    half = max(4, ((size - 1).bit_length() + 1) // 2)  # bits; at least 4, as a smaller network mixes badly
    low = jnp.uint32(2**half - 1)
    round_keys = jax.random.bits(key, (6,))

    def bijection(x: jax.Array) -> jax.Array:
        left, right = x >> half, x & low
        for round_key in round_keys:
            mixed = (right ^ round_key) * jnp.uint32(0x9E3779B1)
            mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0x85EBCA77)
            left, right = right, (left ^ mixed ^ (mixed >> 13)) & low
        return (left << half) | right

    def walk(x: jax.Array) -> jax.Array:
        return jnp.where(x < size, x, bijection(x))

    order = bijection(jnp.arange(size, dtype=jnp.uint32))
    return jax.lax.while_loop(lambda x: (x >= size).any(), walk, order).astype(jnp.int32)
