"""JAX's random number generator written out for the CPU: the same numbers, faster where draws are small and many.

Threefry (Salmon et al. 2011, doi 10.1145/2063384.2063405) is twenty rounds of additions and rotations of two words. On
the CPU JAX lowers it to a loop of five times four rounds, which is some eighty kernels for each draw, however small.
Where a few environments reset themselves after every step, these kernels are a good part of the step. Written out, a
draw is a single kernel, but XLA recomputes it in every kernel that uses a part of it. A loop of one iteration around
the draw prevents that, because the number of iterations is hidden from the compiler.

Draws are a primitive of their own. A choice by platform in JAX's own functions (`jax.lax.platform_dependent`) would be
traced and mapped with all its alternatives, which took a tenth of a second for every draw of a program.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend import random
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

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


@jax.jit  # traced once for each shape
def _rounds(key0: jax.Array, key1: jax.Array, counter: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The two random words for the two words of the key and a counter, all uint32, of shapes that broadcast."""
    schedule = (key0, key1, key0 ^ key1 ^ jnp.uint32(0x1BD11BDA))
    b = counter + key1
    a = jnp.broadcast_to(key0, b.shape)
    for i in range(5):
        for rotation in _ROTATIONS[i % 2]:
            a = a + b
            b = ((b << rotation) | (b >> (32 - rotation))) ^ a
        a, b = a + schedule[(i + 1) % 3], b + schedule[(i + 2) % 3] + jnp.uint32(i + 1)
    return a, b


def _finish(words: Sequence[jax.Array], pair: bool) -> jax.Array:
    a, b = words
    return jnp.stack([a, b], -1) if pair else a ^ b


def _on_the_cpu(key0: jax.Array, key1: jax.Array, counter: jax.Array, *, pair: bool) -> jax.Array:
    drawn = _shape_and_dtype(key0, key1, counter, pair=pair)
    one = jax.lax.optimization_barrier(jnp.int32(1))
    nothing = jnp.zeros(drawn.shape, drawn.dtype)
    return jax.lax.fori_loop(0, one, lambda *_: _finish(_rounds(key0, key1, counter), pair), nothing)


def _elsewhere(key0: jax.Array, key1: jax.Array, counter: jax.Array, *, pair: bool) -> jax.Array:
    words = jnp.broadcast_arrays(key0, key1, jnp.zeros_like(counter), counter)
    return _finish(random.threefry2x32_p.bind(*words), pair)


def _shape_and_dtype(*words: Any, pair: bool) -> ShapedArray:
    return ShapedArray(jnp.broadcast_shapes(*(word.shape for word in words)) + (2,) * pair, jnp.dtype("uint32"))


_draw_p = Primitive("threefry2x32_written_out")
"""The random numbers of a key's two words and a counter, uint32 of shapes that broadcast: both words in a last axis for
``pair``, their exclusive or otherwise."""
_draw_p.def_abstract_eval(_shape_and_dtype)
_draw_p.def_impl(jax.jit(_draw_p.bind, static_argnames="pair"))
batching.defbroadcasting(_draw_p)
mlir.register_lowering(_draw_p, mlir.lower_fun(_elsewhere, multiple_results=False))
mlir.register_lowering(_draw_p, mlir.lower_fun(_on_the_cpu, multiple_results=False), platform="cpu")


def _draw(key: jax.Array, counter: jax.Array, otherwise: Callable[[jax.Array], jax.Array], pair: bool) -> jax.Array:
    """What `_draw_p` draws for ``key``, uint32 ``[2]``, or ``otherwise(key)``, which is JAX's own draw."""
    # Without the option, and for so many numbers, JAX counts them differently.
    if not jax.threefry_partitionable.value or counter.size >= 2**32:
        return otherwise(key)
    return _draw_p.bind(key[0], key[1], counter, pair=pair)


def _counter(shape: tuple[int, ...]) -> jax.Array:
    return jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return _draw(key, _counter(shape), lambda key: _JAX.split(key, shape), pair=True)


def _fold_in(key: jax.Array, data: jax.Array | int) -> jax.Array:
    return _draw(key, jnp.asarray(data, jnp.uint32), lambda key: _JAX.fold_in(key, data), pair=True)


def _random_bits(key: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    def otherwise(key: jax.Array) -> jax.Array:
        return _JAX.random_bits(key, bit_width, shape)

    return otherwise(key) if bit_width != 32 else _draw(key, _counter(shape), otherwise, pair=False)


_WRITTEN_OUT = random.define_prng_impl(
    key_shape=_JAX.key_shape,
    seed=_JAX.seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32_written_out",
    tag="fry",
)
