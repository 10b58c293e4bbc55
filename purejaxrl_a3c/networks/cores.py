"""What a network remembers between the steps of an episode."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl_a3c.networks.torsos import orthogonal


class Core(NamedTuple):
    """A memory of one environment as pure functions."""

    init: Callable[[jax.Array, Any], Any]
    """(key, features [F]) -> params."""
    carry: Callable[[], Any]
    """() -> the carry at the start of an episode."""
    step: Callable[..., tuple[Any, jax.Array]]
    """(params, carry, features [F], first) -> (carry, output)."""
    unroll: Callable[..., tuple[Any, jax.Array]]
    """(params, carry [B], features [B, T, F], first [B, T]) -> (carry [B], output [B, T, ...])."""


def feed_forward():
    """No memory: the output is the features."""

    def look(params, carry, features, first):
        del params, first
        return carry, features

    return Core(init=lambda key, features: {}, carry=lambda: (), step=look, unroll=look)


def lstm(num_cells):
    """Long short-term memory (Hochreiter & Schmidhuber 1997), the forget gate's bias starting at 1.

    A forget gate that starts closed half-way forgets everything within a few steps, before it can learn not to (Gers
    et al. 2000; Jozefowicz et al. 2015). flax starts all biases at 0.
    """
    cell = nn.OptimizedLSTMCell(num_cells, recurrent_kernel_init=orthogonal(1.0))

    def open_forget_gate(params):
        gate = params["params"]["hf"]
        return {"params": params["params"] | {"hf": gate | {"bias": gate["bias"] + 1.0}}}

    return _recurrent(cell, open_forget_gate)


def gru(num_cells):
    """Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078)."""
    return _recurrent(nn.GRUCell(num_cells, recurrent_kernel_init=orthogonal(1.0)), lambda params: params)


def _recurrent(cell, change_params):
    def carry():
        types = jax.eval_shape(lambda: cell.initialize_carry(jax.random.key(0), (1,)))
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), types)

    def init(key, features):
        return change_params(cell.init(key, carry(), features))

    def step(params, memory, features, first):
        # Before this step, not after the last one: the value of an episode's final observation needs the memory of
        # that episode, and only the first observation of the next one must not see it.
        memory = jax.tree.map(lambda x: jnp.where(first, jnp.zeros_like(x), x), memory)
        return cell.apply(params, memory, features)

    def unroll(params, memory, features, first):
        def tick(memory, row):
            return jax.vmap(step, (None, 0, 0, 0))(params, memory, *row)

        over_time = jnp.swapaxes(features, 0, 1), jnp.swapaxes(first, 0, 1)
        memory, output = jax.lax.scan(tick, memory, over_time)
        return memory, jnp.swapaxes(output, 0, 1)

    return Core(init, carry, step, unroll)


CORES: dict[str, Callable[[int], Core]] = {"feed_forward": lambda num_cells: feed_forward(), "lstm": lstm, "gru": gru}
"""Name of a core to the function of its number of cells."""
