"""A tree of sums, by which items are drawn in proportion to their priorities (Schaul et al. 2016, appendix B.2.1).

Every node has 16 children: with two, a descent is four times as many small kernels. A node's sum is computed anew from
its children whenever one of them changes. Adding the change instead would let rounding errors grow over the run.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

CHILDREN = 16

Tree = tuple[jax.Array, ...]
"""Sums of priorities by level, the lowest first: float32 ``[B, nodes, CHILDREN]``. Level 0 holds the priorities."""


class Places(NamedTuple):
    """Where items lie in a replay buffer."""

    item: jax.Array  # int32 [M]: slot of the item in the ring of its environment
    env: jax.Array  # int32 [M]


def make_tree(items: int, envs: int) -> Tree:
    """The tree of ``items`` priorities for each of ``envs`` environments, all of them 0."""
    sizes = [-(-items // CHILDREN)]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // CHILDREN))
    return tuple(jnp.zeros((envs, size, CHILDREN), jnp.float32) for size in sizes)


def set_priorities(tree: Tree, places: Places, priority: jax.Array) -> Tree:
    """The tree with these priorities, float32 ``[M]``, at ``places``."""
    at, value, levels = places.item, priority, []
    for level in tree:
        level = level.at[places.env, at // CHILDREN, at % CHILDREN].set(value)
        levels.append(level)
        at = at // CHILDREN
        value = level[places.env, at].sum(-1)
    return tuple(levels)


def total(tree: Tree) -> jax.Array:
    """The sum of all priorities, float32 ``[]``."""
    return tree[-1].sum()


def draw(tree: Tree, share: jax.Array) -> tuple[Places, jax.Array]:
    """Items in proportion to their priorities; one with priority 0 is never drawn.

    Args:
        tree: with at least one positive priority.
        share: float32 ``[M]`` in [0, 1): where each item lies in the sum of all priorities.

    Returns:
        The items' places, and their priorities, float32 ``[M]``.
    """
    sums = tree[-1][:, 0].sum(-1)
    env, left, priority = _descend(jnp.broadcast_to(sums, (share.size, sums.size)), share * sums.sum())
    item = jnp.zeros_like(env)
    for level in reversed(tree):
        child, left, priority = _descend(level[env, item], left)
        item = item * CHILDREN + child
    # Reading the priorities again would be a read that no later write waits for, and so XLA would copy the tree.
    return Places(item, env), priority


def _descend(sums: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The child in which ``target [M]`` lies, how far inside, and its positive sum; ``sums [M, children]``."""
    ends = jnp.cumsum(sums, axis=-1)
    # Rounding can put the target on the very end, behind which there may be only children without priority.
    target = jnp.clip(target, 0, ends[:, -1] * (1 - 1e-6))
    # A cumulative sum need not add from left to right: a child without priority may end an ulp behind the one before.
    child = jnp.argmax((ends > target[:, None]) & (sums > 0), axis=-1).astype(jnp.int32)
    end, its_sum = (jnp.take_along_axis(x, child[:, None], axis=1)[:, 0] for x in (ends, sums))
    return child, target - (end - its_sum), its_sum
