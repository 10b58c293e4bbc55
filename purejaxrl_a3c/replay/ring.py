"""A replay buffer of rollouts: for each environment a ring of rows, one row a step, from which items are drawn.

An item is one row, or the ``unit`` rows of a rollout, from which a sequence begins. An iteration writes one rollout of
all environments in one piece. Every read of the ring comes, by the flow of data, before the next write to it, so that
XLA updates it in place; ``benchmarks/replay.py`` looks for copies in the compiled program.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.backend import collectives
from purejaxrl_a3c.backend.split import along, copied
from purejaxrl_a3c.replay import priorities
from purejaxrl_a3c.replay.packing import pack, unpack
from purejaxrl_a3c.replay.priorities import Places
from purejaxrl_a3c.types import AxisName

_SMALLEST = 1e-6  # added to errors, so that everything can be drawn again (Schaul et al. 2016)


class Rows(NamedTuple):
    """What is kept of the steps of all environments: leaves ``[T, B, ...]`` of a rollout, ``[R, B, ...]`` of a ring."""

    obs: Any
    action: Any
    reward: Any  # float32
    terminated: Any  # bool
    truncated: Any  # bool
    final_obs: Any  # the true successor, before any reset
    first: Any = ()  # bool: obs starts an episode; for sequences
    carry: Any = ()  # the network's before the first row of each rollout, [T / unit, B, ...]; for sequences


class Ring(NamedTuple):
    """The state of a replay buffer."""

    rows: Rows  # leaves [R, B, ...], packed
    written: jax.Array  # int32 []: rows written so far; the same for all seeds, so a vmap never adds an axis to it
    tree: priorities.Tree  # () if items are drawn uniformly
    top: jax.Array  # float32 []: the largest priority so far, which new items get


class Drawn(NamedTuple):
    """Items that were drawn from a ring."""

    places: Places
    weight: jax.Array  # float32 [M]: importance weights, the largest of the batch is 1; all are 1 if drawn uniformly


class View(NamedTuple):
    """Drawn items of a ring."""

    read: Callable[[str, jax.Array], Any]
    """(name of a field of `Rows`, offsets int32 [M, S]) -> the rows so far behind each item, leaves [M, S, ...]."""
    carry: Callable[[], Any]
    """() -> the network's carry before each item, leaves [M, ...]."""
    newest: jax.Array
    """int32 [M]: offset of the newest row of the ring, behind which there are only old ones."""


class Buffer(NamedTuple):
    """A replay buffer as pure functions."""

    init: Callable[[], Ring]
    """() -> an empty ring."""
    add: Callable[[Ring, Rows], Ring]
    """(ring, rollout [T, B]) -> the ring with the rollout in place of its oldest rows."""
    sample: Callable[[Ring, jax.Array, jax.Array], Drawn]
    """(ring, random bits uint32 [2, M], importance exponent) -> items."""
    view: Callable[[Ring, Places], View]
    """(ring, places) -> the items there."""
    reprioritise: Callable[[Ring, Places, jax.Array], Ring]
    """(ring, places, errors float32 [M] >= 0) -> the ring with these items' priorities."""


class Size(NamedTuple):
    """The sizes of a replay buffer."""

    rows: int  # R, a multiple of the rows of a rollout
    envs: int  # B
    unit: int = 1  # rows of an item
    ahead: int = 0  # further items that must follow an item before it can be drawn


def make(
    example: Rows,
    size: Size,
    *,
    priority_exponent: float | jax.Array | None = None,
    axis_name: AxisName = None,
) -> Buffer:
    """A replay buffer.

    Args:
        example: shapes and dtypes of one row, without leading axes.
        size: the sizes on this device.
        priority_exponent: power to which errors are raised; None: items are drawn uniformly.
        axis_name: of the devices that share the environments, or None. Each draws from its own environments.
    """
    rows, envs, unit, ahead = size
    items = rows // unit
    is_prioritized, exponent = priority_exponent is not None, 0.0 if priority_exponent is None else priority_exponent

    def init() -> Ring:
        stored = jax.tree.map(lambda x: jnp.zeros((rows, envs, *x.shape), x.dtype), example._replace(carry=()))
        carry = jax.tree.map(lambda x: jnp.zeros((items, envs, *x.shape), x.dtype), example.carry)
        tree = priorities.make_tree(items, envs) if is_prioritized else ()
        return Ring(jax.tree.map(pack, stored)._replace(carry=carry), jnp.int32(0), tree, jnp.float32(1))

    def add(ring: Ring, rollout: Rows) -> Ring:
        row = ring.written % rows

        def write(at: jax.Array) -> Callable[[jax.Array, jax.Array], jax.Array]:
            return lambda all_rows, new: jax.lax.dynamic_update_slice_in_dim(all_rows, new, at, 0)

        packed = jax.tree.map(pack, rollout._replace(carry=()))
        stored = jax.tree.map(write(row), ring.rows._replace(carry=()), packed)
        carry = jax.tree.map(write(row // unit), ring.rows.carry, rollout.carry)
        count = rollout.reward.shape[0]
        tree = _admit(ring, count) if is_prioritized else ()
        return Ring(stored._replace(carry=carry), ring.written + count, tree, ring.top)

    def _admit(ring: Ring, count: int) -> priorities.Tree:
        """The tree after ``count`` more rows: items that can be drawn now get the top priority, incomplete ones 0."""
        number = ring.written // unit + jnp.arange(-ahead, count // unit, dtype=jnp.int32)
        ready = (number >= 0) & (number < (ring.written + count) // unit - ahead)
        item, env = jnp.broadcast_arrays((number % items)[:, None], jnp.arange(envs, dtype=jnp.int32)[None])
        return priorities.set_priorities(
            ring.tree, Places(item.ravel(), env.ravel()), jnp.repeat(ready * ring.top, envs)
        )

    def usable(ring: Ring) -> jax.Array:
        return jnp.minimum(ring.written, rows) // unit - ahead

    def sample(ring: Ring, bits: jax.Array, beta: jax.Array) -> Drawn:
        if is_prioritized:
            return by_priority(ring, bits[0], beta)
        oldest = jnp.maximum(ring.written - rows, 0) // unit
        number = (bits[0] % usable(ring).astype(jnp.uint32)).astype(jnp.int32)
        env = (bits[1] % jnp.uint32(envs)).astype(jnp.int32)
        return Drawn(Places((oldest + number) % items, env), jnp.ones(bits.shape[1], jnp.float32))

    def by_priority(ring: Ring, bits: jax.Array, beta: jax.Array) -> Drawn:
        # One item from each of M equal shares of the sum: fewer items come twice than with independent draws.
        uniform = (bits >> 8).astype(jnp.float32) * 2.0**-24
        share = (jnp.arange(bits.size, dtype=jnp.float32) + uniform) / bits.size
        places, priority = priorities.draw(ring.tree, share)
        chance = usable(ring) * envs * priority / priorities.total(ring.tree)
        weight = jnp.maximum(chance, jnp.finfo(jnp.float32).tiny) ** -beta
        return Drawn(places, weight / collectives.largest(weight.max(), axis_name))

    def view(ring: Ring, places: Places) -> View:
        start = places.item * unit

        def read(name: str, offsets: jax.Array) -> Any:
            row = (start[:, None] + offsets) % rows
            found = jax.tree.map(lambda x: x[row, places.env[:, None]], getattr(ring.rows, name))
            return jax.tree.map(unpack, found, getattr(example, name))

        def carry() -> Any:
            return jax.tree.map(lambda x: x[places.item, places.env], ring.rows.carry)

        return View(read, carry, (ring.written - 1 - start) % rows)

    def reprioritise(ring: Ring, places: Places, error: jax.Array) -> Ring:
        if not is_prioritized:
            return ring
        priority = (error + _SMALLEST) ** exponent
        # An error that is not finite would make every later draw fail; its item is to be looked at again.
        priority = jnp.where(jnp.isfinite(priority), priority, ring.top)
        top = jnp.maximum(ring.top, collectives.largest(priority.max(), axis_name))
        return ring._replace(tree=priorities.set_priorities(ring.tree, places, priority), top=top)

    return Buffer(init, add, sample, view, reprioritise)


def split(ring: Ring) -> Ring:
    """For every leaf of a ring the axis along which devices share it out; -1: each has all."""
    return Ring(along(1, ring.rows), copied(ring.written), along(0, ring.tree), copied(ring.top))
