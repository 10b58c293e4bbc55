"""Collective operations over the devices that share a run out.

Every function takes the name of an axis of devices. Without one (None) the run has a single device, and the operation
changes nothing. So the same program runs on one device, under `jax.pmap`, `jax.shard_map` and
``jax.vmap(axis_name=...)``.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp

from purejaxrl_a3c import checks
from purejaxrl_a3c.types import AxisName

Tree = TypeVar("Tree")  # a pytree of arrays


def count(axis_name: AxisName) -> int:
    """The number of devices."""
    return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def index(axis_name: AxisName) -> jax.Array:
    """The number of this device among the devices, from 0: int32 ``[]``."""
    return jnp.int32(0) if axis_name is None else jax.lax.axis_index(axis_name)


def part(field: str, value: int, axis_name: AxisName) -> int:
    """The share of one device in ``value`` workers or environments.

    Raises:
        InputError: naming ``field``, if the number of devices does not divide ``value``.
    """
    devices = count(axis_name)
    if value % devices:
        checks.reject(field, value, f"a multiple of the number of devices, {devices}")
    return value // devices


def total(tree: Tree, axis_name: AxisName) -> Tree:
    """The sum over the devices, leaf by leaf."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def mean(tree: Tree, axis_name: AxisName) -> Tree:
    """The mean over the devices, leaf by leaf."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def largest(tree: Tree, axis_name: AxisName) -> Tree:
    """The maximum over the devices, element by element."""
    return tree if axis_name is None else jax.lax.pmax(tree, axis_name)


def gather(tree: Tree, axis_name: AxisName) -> Tree:
    """The parts of all devices, in their order: leaves ``[n / devices, ...]`` become ``[n, ...]``."""
    return tree if axis_name is None else jax.lax.all_gather(tree, axis_name, tiled=True)


def from_previous(tree: Tree, axis_name: AxisName) -> Tree:
    """The tree of the previous device; the first device gets the last one's."""
    return _shift(tree, axis_name, 1)


def from_next(tree: Tree, axis_name: AxisName) -> Tree:
    """The tree of the next device; the last device gets the first one's."""
    return _shift(tree, axis_name, -1)


def _shift(tree: Tree, axis_name: AxisName, by: int) -> Tree:
    if axis_name is None:
        return tree
    devices = count(axis_name)
    return jax.lax.ppermute(tree, axis_name, [(i, (i + by) % devices) for i in range(devices)])
