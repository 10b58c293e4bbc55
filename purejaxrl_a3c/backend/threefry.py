"""JAX's generator of random numbers, written out on the CPU: the same numbers, sooner where draws are small and many.

Threefry (Salmon et al. 2011, doi 10.1145/2063384.2063405) is twenty rounds of additions and rotations of two words. On
the CPU JAX lowers it to a loop of five times four rounds, some eighty kernels a draw however small: where a few
environments reset themselves after every step, a good part of the step. Written out, a draw is one kernel, but XLA
computes it again in every kernel that uses a part of it. So it stands in a loop here, of one iteration, a number that
is hidden from the compiler.
"""

import math

import jax
import jax.numpy as jnp
from jax.extend import random

_JAX = random.threefry_prng_impl
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def written_out(key):
    """The same key, typed, of any shape, under the generator of this module: what is drawn from it is the same.

    Keys of another generator than ``threefry2x32`` are returned as they are.
    """
    if jax.random.key_impl(key) != "threefry2x32":
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_WRITTEN_OUT)


def _rounds(key, counter):
    """The two words, uint32 ``[...]``, for ``key``, uint32 ``[2]``, and the numbers ``counter``, uint32 ``[...]``."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    a, b = jnp.broadcast_to(key[0], counter.shape), counter + key[1]
    for i in range(5):
        for rotation in _ROTATIONS[i % 2]:
            a = a + b
            b = ((b << rotation) | (b >> (32 - rotation))) ^ a
        a, b = a + schedule[(i + 1) % 3], b + schedule[(i + 2) % 3] + jnp.uint32(i + 1)
    return a, b


def _draw(finish, key, counter, otherwise):
    """``finish(a, b)`` of the two words: on the CPU as above, elsewhere ``otherwise(key)``, which is JAX's."""

    def once(key, counter):
        def draw():
            return finish(*_rounds(key, counter))

        drawn = jax.eval_shape(draw)
        one = jax.lax.optimization_barrier(jnp.int32(1))
        return jax.lax.fori_loop(0, one, lambda _, __: draw(), jnp.zeros(drawn.shape, drawn.dtype))

    if not jax.threefry_partitionable.value or counter.size >= 2**32:  # JAX counts otherwise
        return otherwise(key)
    return jax.lax.platform_dependent(key, counter, cpu=once, default=lambda key, _: otherwise(key))


def _counter(shape):
    return jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)


def _words(a, b):
    return jnp.stack([a, b], -1)


def _split(key, shape):
    return _draw(_words, key, _counter(shape), lambda key: _JAX.split(key, shape))


def _fold_in(key, data):
    return _draw(_words, key, jnp.asarray(data, jnp.uint32), lambda key: _JAX.fold_in(key, data))


def _random_bits(key, bit_width, shape):
    def otherwise(key):
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
