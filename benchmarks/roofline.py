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
    """`Demand` a second that this machine meets at best: a product of large float32 matrices; adding 1 to 256 MB."""
    size = 2048
    square, long = jnp.ones((size, size)), jnp.ones(2**26)
    return Demand(2 * size**3 / _best(lambda x: x @ x, square), 2 * long.nbytes / _best(lambda x: x + 1, long))


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
