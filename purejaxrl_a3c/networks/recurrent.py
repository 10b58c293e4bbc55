"""Recurrent cores: LSTM and GRU, which take one step of an episode after another.

The memory enters such a cell by a product with a matrix for each of its gates. All other products need no earlier step:
those of the features, for all steps at once before the loop over them, and the gradients of the matrices, which are
products over all steps after the loop of the backward pass. Automatic differentiation would add these gradients up
inside of the loop, where every step reads and writes all matrices (Appleyard et al. 2016, arXiv 1604.01946).

Gates are arrays of their own. XLA's CPU backend needs more than twice the time for steps that split one array of all
gates: it does not vectorize what it reads in such pieces.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl_a3c.networks.cores import Core, cleared
from purejaxrl_a3c.networks.initializers import orthogonal
from purejaxrl_a3c.types import Carry, Key, Params

Gates: TypeAlias = tuple[jax.Array, ...]
"""An array ``[..., H]`` for each gate."""
Move: TypeAlias = Callable[[Gates, Carry], tuple[Carry, jax.Array]]
"""(gates, memory) -> (memory, output [..., H]), element by element: what a cell does when its products are known."""


class Layer(NamedTuple):
    """The products of one thing with a matrix for each gate; a gate without one does not see it."""

    kernels: tuple[jax.Array | None, ...]  # each [F or H, H]
    biases: tuple[jax.Array | None, ...]  # each [H]

    def __call__(self, x: jax.Array) -> tuple[jax.Array | None, ...]:
        """``[..., F or H]`` to ``[..., H]`` for each gate."""
        return self.biased([None if kernel is None else x @ kernel for kernel in self.kernels])

    def of_all(self, x: jax.Array) -> tuple[jax.Array | None, ...]:
        """The same by one product, which is faster for many rows, and so is its gradient."""
        return self.biased(_spread(x @ _side_by_side(self.kernels), self.kernels))

    def biased(self, products: Sequence[jax.Array | None]) -> tuple[jax.Array | None, ...]:
        """The products with their biases."""
        pairs = zip(products, self.biases, strict=True)
        return tuple(x if x is None or bias is None else x + jnp.broadcast_to(bias, x.shape) for x, bias in pairs)


def _side_by_side(gates: Sequence[jax.Array | None]) -> jax.Array:
    return jnp.concatenate([x for x in gates if x is not None], axis=-1)


def _spread(x: jax.Array, like: Sequence[jax.Array | None]) -> tuple[jax.Array | None, ...]:
    """``x`` cut into as many parts as there are gates in ``like`` that are not None; None for those that are."""
    parts = iter(jnp.split(x, sum(gate is not None for gate in like), axis=-1))
    return tuple(None if gate is None else next(parts) for gate in like)


def _sum(driven: tuple[jax.Array | None, ...], recalled: tuple[jax.Array | None, ...]) -> Gates:
    """The gates, of what features and the last output contribute."""
    pairs = [[x for x in pair if x is not None] for pair in zip(driven, recalled, strict=True)]
    return tuple(pair[0] if len(pair) == 1 else pair[0] + pair[1] for pair in pairs)


def lstm(num_cells: int) -> Core:
    """Long short-term memory (Hochreiter & Schmidhuber 1997) whose forget gate has an initial bias of 1.

    flax starts all biases at 0, where the forget gate halves the memory at every step, so that little is left to learn
    from (Gers et al. 2000; Jozefowicz et al. 2015).
    """
    cell = nn.OptimizedLSTMCell(num_cells, recurrent_kernel_init=orthogonal(1.0))

    def open_forget_gate(params: Params) -> Params:
        gate = params["params"]["hf"]
        return {"params": params["params"] | {"hf": gate | {"bias": gate["bias"] + 1.0}}}

    def move(gates: Gates, memory: Carry) -> tuple[Carry, jax.Array]:
        i, f, g, o = gates
        c = nn.sigmoid(f) * memory[0] + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), h

    names = [("ii", "hi"), ("if", "hf"), ("ig", "hg"), ("io", "ho")]
    return _recurrent(cell, open_forget_gate, names, move, lambda memory: memory[1])


def gru(num_cells: int) -> Core:
    """Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078)."""
    cell = nn.GRUCell(num_cells, recurrent_kernel_init=orthogonal(1.0))

    def move(gates: Gates, memory: Carry) -> tuple[Carry, jax.Array]:
        r, z, seen, known = gates  # the last two are not simply added
        z = nn.sigmoid(z)
        h = (1.0 - z) * jnp.tanh(seen + nn.sigmoid(r) * known) + z * memory
        return h, h

    names = [("ir", "hr"), ("iz", "hz"), ("in", None), (None, "hn")]
    return _recurrent(cell, lambda params: params, names, move, lambda memory: memory)


def _recurrent(
    cell: nn.RNNCellBase,
    change_params: Callable[[Params], Params],
    names: Sequence[tuple[str | None, str | None]],
    move: Move,
    output_of: Callable[[Carry], jax.Array],
) -> Core:
    """The core with the parameters of one of flax's cells.

    Args:
        cell: initialises the parameters.
        change_params: is applied to them.
        names: for each gate, of the parameters of its product with the features, and with the last output.
        move: see `Move`.
        output_of: what a memory gave out in its last step.
    """

    def carry() -> Carry:
        types = jax.eval_shape(lambda: cell.initialize_carry(jax.random.key(0), (1,)))
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), types)

    def init(key: Key, features: jax.Array) -> Params:
        return change_params(cell.init(key, carry(), features))

    def layers(params: Params) -> tuple[Layer, Layer]:
        found = []
        for gates in zip(*names, strict=True):
            parts = [{} if name is None else params["params"][name] for name in gates]
            found.append(Layer(*(tuple(part.get(kind) for part in parts) for kind in ("kernel", "bias"))))
        drive, recall = found
        return drive, recall

    def step(params: Params, memory: Carry, features: jax.Array, first: jax.Array) -> tuple[Carry, jax.Array]:
        drive, recall = layers(params)
        memory = cleared(memory, first)
        return move(_sum(drive(features), recall(output_of(memory))), memory)

    def unroll(params: Params, memory: Carry, features: jax.Array, first: jax.Array) -> tuple[Carry, jax.Array]:
        drive, recall = layers(params)
        driven = drive.of_all(jnp.swapaxes(features, 0, 1).reshape(first.size, -1))
        driven = jax.tree.map(lambda x: x.reshape(*first.shape[::-1], -1), driven)
        memory, output = _loop(move, output_of, recall, memory, driven, first.T)
        return memory, jnp.swapaxes(output, 0, 1)

    return Core(init, carry, step, unroll)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _loop(
    move: Move, output_of: Callable[[Carry], jax.Array], recall: Layer, memory: Carry, driven: Any, first: jax.Array
) -> tuple[Carry, jax.Array]:
    """All steps of a block: the memory after the last, and the outputs ``[T, B, H]``.

    Args:
        move: see `Move`.
        output_of: what a memory gave out in its last step.
        recall: the products of that.
        memory: ``[B, ...]`` before the first step.
        driven: ``[T, B, H]`` for each gate that sees the features, their products; otherwise None.
        first: ``[T, B]``, where an episode starts.
    """
    # What only a derivative needs is never computed: the compiler drops it.
    return _forward(move, output_of, recall, memory, driven, first)[0]


def _forward(move: Move, output_of: Any, recall: Layer, memory: Carry, driven: Any, first: jax.Array) -> Any:
    def step(memory: Carry, row: Any) -> Any:
        driven, first = row
        memory = cleared(memory, first)
        gates = _sum(driven, recall(output_of(memory)))
        after, output = move(gates, memory)
        return after, (output, memory, gates)

    last, (outputs, memories, gates) = jax.lax.scan(step, memory, (driven, first))
    return (last, outputs), (recall, memories, gates, driven, first)


def _backward(move: Move, output_of: Any, kept: Any, given: Any) -> Any:
    recall, memories, gates, driven, first = kept
    to_last, to_outputs = given
    transposed = [None if kernel is None else kernel.T for kernel in recall.kernels]
    # How outputs depend on gates and memory is known for all steps at once; the loop only multiplies and adds.
    pulls = jax.vmap(lambda gates, memory: jax.vjp(move, gates, memory)[1])(gates, memories)

    def step(to_after: Carry, row: Any) -> Any:
        to_output, pull, first = row
        to_gates, to_memory = pull((to_after, to_output))
        through = sum(x @ kernel for x, kernel in zip(to_gates, transposed, strict=True) if kernel is not None)
        to_memory = jax.tree.map(jnp.add, to_memory, jax.vjp(output_of, to_memory)[1](through)[0])
        return cleared(to_memory, first), to_gates

    to_memory, to_gates = jax.lax.scan(step, to_last, (to_outputs, pulls, first), reverse=True)
    outputs = output_of(memories).reshape(first.size, -1).T
    rows = [x.reshape(first.size, -1) for x in to_gates]
    recalled = [None if kernel is None else x for x, kernel in zip(rows, recall.kernels, strict=True)]
    to_recall = Layer(
        _spread(outputs @ _side_by_side(recalled), recalled),
        tuple(None if bias is None else x.sum(0) for x, bias in zip(rows, recall.biases, strict=True)),
    )
    to_driven = tuple(None if seen is None else x for x, seen in zip(to_gates, driven, strict=True))
    return to_recall, to_memory, to_driven, None


_loop.defvjp(_forward, _backward)
