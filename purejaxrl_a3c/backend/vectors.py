"""Parameters as one vector, or as one vector and some large arrays, and back."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from purejaxrl_a3c.types import Params

LARGE = 2**15
"""Numbers of a leaf above which `pack` keeps it apart: to copy so many takes longer than kernels of its own."""
SHARED = 2**10
"""XLA's CPU backend shares a vector of `LARGE` numbers or more out among the cores. Where their parts are not of whole
registers, roots and divisions take two to five times as long, so such a vector is filled up with zeros to a multiple of
this."""


def ravel(tree: Params) -> jax.Array:
    """All leaves one after the other, the numbers of each in row-major order: a vector ``[P]``.

    From `LARGE` numbers on, zeros may follow, see `SHARED`.
    """
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)]
    if not leaves:
        return jnp.zeros(0, jnp.float32)
    dtype = jnp.result_type(*leaves)
    return _join([*(leaf.astype(dtype) for leaf in leaves), *_filling(leaves)])


def ravel_and_back(tree: Params) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
    """`ravel` and its inverse, which makes such a tree of any vector ``[P]``."""
    leaves, unravel = ravel_pytree(tree)
    return ravel(tree), lambda vector: unravel(vector[: leaves.size])


def _filling(leaves: list[jax.Array]) -> list[jax.Array]:
    """The zeros that are to follow some leaves: one array, or none."""
    size = sum(leaf.size for leaf in leaves)
    missing = -size % SHARED if size >= LARGE else 0
    return [jnp.zeros(missing, jnp.result_type(*leaves))] if missing else []


class Packed(NamedTuple):
    """Parameters for elementwise work, by optimizers or target networks, in few kernels and without large copies."""

    small: jax.Array  # [S]: the small leaves, one after the other; zeros may follow as in `ravel`
    large: tuple[jax.Array, ...]  # the other leaves, a vector each


def pack(tree: Params) -> Packed:
    """The `Packed` of a tree; one that is `Packed` already stays as it is."""
    return pack_and_back(tree)[0]


def pack_and_back(tree: Params) -> tuple[Packed, Callable[[Packed], Any]]:
    """`pack` and its inverse, which makes such a tree of any `Packed` of the same shapes."""
    if isinstance(tree, Packed):
        return tree, lambda packed: packed
    leaves, structure = jax.tree.flatten(tree)
    few = [leaf for leaf in leaves if leaf.size <= LARGE]
    small, unravel = ravel_pytree([*few, *_filling(few)])
    shapes = [leaf.shape if leaf.size > LARGE else None for leaf in leaves]

    def back(packed: Packed) -> Any:
        rest, rows = iter(packed.large), iter(unravel(packed.small))
        found = [next(rows) if shape is None else next(rest).reshape(shape) for shape in shapes]
        return jax.tree.unflatten(structure, found)

    large = tuple(leaf.ravel() for leaf in leaves if leaf.size > LARGE)
    return Packed(small, large), back


@jax.custom_batching.custom_vmap
def _join(leaves: list[jax.Array]) -> jax.Array:
    # A concatenation does the same. But XLA's CPU backend, as of jax 0.10, compiles one of large arrays to masked loads
    # and stores that reach far beyond each of them, where the processor falls back to microcode: with two layers of
    # 256 it could take most of a run of SAC. The barrier keeps XLA from making a concatenation of this.
    vector = jax.lax.optimization_barrier(jnp.zeros(sum(leaf.size for leaf in leaves), leaves[0].dtype))
    start = 0
    for leaf in leaves:
        vector = jax.lax.dynamic_update_slice(vector, leaf, (start,))
        start += leaf.size
    return vector


@_join.def_vmap
def _join_rows(size: int, batched: tuple[list[bool]], leaves: list[jax.Array]) -> tuple[jax.Array, bool]:
    # Mapped updates of slices become scatters, which are ten times as slow as this; it was never seen to be slow.
    axes = [0 if is_batched else None for is_batched in batched[0]]
    return jax.vmap(lambda *row: jnp.concatenate(row), in_axes=axes, axis_size=size)(*leaves), True
