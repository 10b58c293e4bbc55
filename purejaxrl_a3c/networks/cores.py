"""Cores: what a network remembers from one step of an episode to the next.

Here are those that take one step after another; see `linear_cores` and `transformer` for those that unroll all steps at
once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl_a3c.networks.initializers import orthogonal
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


def lstm(num_cells: int) -> Core:
    """Long short-term memory (Hochreiter & Schmidhuber 1997) whose forget gate has an initial bias of 1.

    flax starts all biases at 0, where the forget gate halves the memory at every step, so that little is left to learn
    from (Gers et al. 2000; Jozefowicz et al. 2015).
    """
    cell = nn.OptimizedLSTMCell(num_cells, recurrent_kernel_init=orthogonal(1.0))

    def open_forget_gate(params: Params) -> Params:
        gate = params["params"]["hf"]
        return {"params": params["params"] | {"hf": gate | {"bias": gate["bias"] + 1.0}}}

    return _recurrent(cell, open_forget_gate)


def gru(num_cells: int) -> Core:
    """Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078)."""
    return _recurrent(nn.GRUCell(num_cells, recurrent_kernel_init=orthogonal(1.0)), lambda params: params)


def _recurrent(cell: nn.RNNCellBase, change_params: Callable[[Params], Params]) -> Core:
    """The core that is ``cell``; ``change_params`` is applied to its initial parameters."""

    def carry() -> Carry:
        types = jax.eval_shape(lambda: cell.initialize_carry(jax.random.key(0), (1,)))
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), types)

    def init(key: Key, features: jax.Array) -> Params:
        return change_params(cell.init(key, carry(), features))

    def step(params: Params, memory: Carry, features: jax.Array, first: jax.Array) -> tuple[Carry, jax.Array]:
        found: Any = cell.apply(params, cleared(memory, first), features)
        return found

    def unroll(params: Params, memory: Carry, features: jax.Array, first: jax.Array) -> tuple[Carry, jax.Array]:
        def step_all(memory: Carry, row: tuple[jax.Array, jax.Array]) -> tuple[Carry, jax.Array]:
            return jax.vmap(step, (None, 0, 0, 0))(params, memory, *row)

        over_time = jnp.swapaxes(features, 0, 1), jnp.swapaxes(first, 0, 1)
        memory, output = jax.lax.scan(step_all, memory, over_time)
        return memory, jnp.swapaxes(output, 0, 1)

    return Core(init, carry, step, unroll)
