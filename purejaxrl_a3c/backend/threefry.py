"""JAX's random number generator written out for the CPU: the same numbers, faster where draws are small and many.

Threefry (Salmon et al. 2011, doi 10.1145/2063384.2063405) is twenty rounds of additions and rotations of two words. On
the CPU JAX lowers it to a loop of five times four rounds, which is some eighty kernels for each draw, however small.
Where a few environments reset themselves after every step, these kernels are a good part of the step. Written out, a
draw is a single kernel, but XLA recomputes it in every kernel that uses a part of it. A loop of one iteration around
the draw prevents that, because the number of iterations is hidden from the compiler.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend import random

from purejaxrl_a3c.types import Key

_JAX = random.threefry_prng_impl
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def written_out(key: Key) -> Key:
    """The same key under the generator of this module, from which the same random numbers are drawn.

    Args:
        key: typed keys of any shape.

    Returns:
        Keys of that shape. Keys of another generator than ``threefry2x32`` are returned as they are.
    """
    if jax.random.key_impl(key) != "threefry2x32":
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_WRITTEN_OUT)


def _rounds(key: jax.Array, counter: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The two random words, uint32 ``[...]``, for ``key``, uint32 ``[2]``, and ``counter``, uint32 ``[...]``."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    a, b = jnp.broadcast_to(key[0], counter.shape), counter + key[1]
    for i in range(5):
        for rotation in _ROTATIONS[i % 2]:
            a = a + b
            b = ((b << rotation) | (b >> (32 - rotation))) ^ a
        a, b = a + schedule[(i + 1) % 3], b + schedule[(i + 2) % 3] + jnp.uint32(i + 1)
    return a, b


def _draw(
    finish: Callable[[jax.Array, jax.Array], jax.Array],
    key: jax.Array,
    counter: jax.Array,
    otherwise: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """``finish`` of the two random words on the CPU; elsewhere ``otherwise(key)``, which is JAX's own draw."""

    def draw_once(key: jax.Array, counter: jax.Array) -> jax.Array:
        def draw() -> jax.Array:
            return finish(*_rounds(key, counter))

        drawn = jax.eval_shape(draw)
        one = jax.lax.optimization_barrier(jnp.int32(1))
        return jax.lax.fori_loop(0, one, lambda _, __: draw(), jnp.zeros(drawn.shape, drawn.dtype))

    # Without the option, and for so many numbers, JAX counts them differently.
    if not jax.threefry_partitionable.value or counter.size >= 2**32:
        return otherwise(key)
    return jax.lax.platform_dependent(key, counter, cpu=draw_once, default=lambda key, _: otherwise(key))


def _counter(shape: tuple[int, ...]) -> jax.Array:
    return jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)


def _words(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.stack([a, b], -1)


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return _draw(_words, key, _counter(shape), lambda key: _JAX.split(key, shape))


def _fold_in(key: jax.Array, data: jax.Array | int) -> jax.Array:
    return _draw(_words, key, jnp.asarray(data, jnp.uint32), lambda key: _JAX.fold_in(key, data))


def _random_bits(key: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    def otherwise(key: jax.Array) -> jax.Array:
        return _JAX.random_bits(key, bit_width, shape)

    return otherwise(key) if bit_width != 32 else _draw(jnp.bitwise_xor, key, _counter(shape), otherwise)


_WRITTEN_OUT = random.define_prng_impl(
    key_shape=_JAX.key_shape,
    seed=_JAX.seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32_written_out",
    tag="fry",
)
