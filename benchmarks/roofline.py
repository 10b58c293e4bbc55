"""What a part of an iteration asks of the machine, beside what the machine can do.

After Williams, Waterman & Patterson 2009 (doi 10.1145/1498765.1498785).
"""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

ENOUGH = 0.3  # of a peak, from which on it is called the limit


class Demand(NamedTuple):
    """Of an iteration."""

    operations: float  # floating-point
    bytes: float  # that the kernels read and write, whether from memory or from a cache


def peaks():
    """`Demand` a second that this machine meets at best, of what programs do that are one kernel again and again.

    A product of float32 matrices, 2048 x 2048; and adding 1 to a vector of 1 MB, which stays in a core's cache, as do
    most of the rows of a minibatch: what kernels pass on to each other is faster than memory.
    """
    size, times = 2048, 1000
    square, vector = jnp.ones((size, size)), jnp.ones(2**18)

    def increments(x):
        return jax.lax.fori_loop(0, times, lambda _, x: x + 1, x)

    return Demand(2 * size**3 / _best(lambda x: x @ x, square), times * 2 * vector.nbytes / _best(increments, vector))


def _best(function, argument, repetitions=7):
    program = jax.jit(function).lower(argument).compile()
    seconds = []
    for _ in range(repetitions):
        began = time.perf_counter()
        jax.block_until_ready(program(argument))
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def demand(part, carry):
    """What XLA's cost analysis counts in the compiled program of a `Part`'s piece, times the number of pieces.

    A loop counts as often as it is written, not as it runs, which is why the piece has none that matters.
    """
    found: Any = jax.jit(part.piece).lower(jax.random.key(0), carry).compile().cost_analysis()
    return Demand(part.pieces * found.get("flops", 0.0), part.pieces * found.get("bytes accessed", 0.0))


def limit(wanted, seconds, best):
    """``(share of the peak of operations, of bytes, what limits)`` of a `Demand` that took ``seconds``."""
    operations, moved = wanted.operations / seconds / best.operations, wanted.bytes / seconds / best.bytes
    if max(operations, moved) < ENOUGH:
        return operations, moved, "small kernels"  # too small to fill a core, or the device: launching them is the work
    return operations, moved, "arithmetic" if operations > moved else "memory"
