"""Cores: what a network remembers from one step of an episode to the next.

Here is the one that remembers nothing; see `recurrent`, `linear_cores` and `transformer` for the others.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.types import Carry, Key, Params


class Core(NamedTuple):
    """The memory of one environment as pure functions.

    Where ``first`` is true, a new episode starts, and the carry is cleared *before* the features are seen.
    """

    init: Callable[[Key, jax.Array], Params]
    """(key, features [F]) -> params."""
    carry: Callable[[], Carry]
    """() -> the carry at the start of an episode."""
    step: Callable[[Params, Carry, jax.Array, jax.Array], tuple[Carry, jax.Array]]
    """(params, carry, features [F], first []) -> (carry, output [F'])."""
    unroll: Callable[[Params, Carry, jax.Array, jax.Array], tuple[Carry, jax.Array]]
    """(params, carry [B], features [B, T, F], first [B, T]) -> (carry [B], output [B, T, F'])."""


def cleared(memory: Carry, first: jax.Array) -> Carry:
    """The memory with which an observation is seen: zeros if it is the first one of its episode.

    It is cleared before this step and not after the previous one: the value of an episode's final observation needs
    the memory of that episode, and only the next episode must start without it.

    Args:
        memory: leaves ``[..., *]``.
        first: bool ``[...]``, where an episode starts.
    """

    def clear(x: jax.Array) -> jax.Array:
        return jnp.where(jnp.expand_dims(first, tuple(range(first.ndim, x.ndim))), jnp.zeros_like(x), x)

    return jax.tree.map(clear, memory)


def feed_forward() -> Core:
    """No memory: the output is the features, and the carry is ``()``."""

    def pass_on(params: Params, carry: Carry, features: jax.Array, first: jax.Array) -> tuple[Carry, jax.Array]:
        del params, first
        return carry, features

    return Core(init=lambda key, features: {}, carry=lambda: (), step=pass_on, unroll=pass_on)
