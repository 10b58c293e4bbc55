"""What devices do together: over a named axis, or, without one, nothing.

The same function then runs on one device, under `jax.pmap`, `jax.shard_map` and ``jax.vmap(axis_name=...)``.
"""

import jax
import jax.numpy as jnp

from purejaxrl_a3c import checks


def count(axis_name):
    """Number of devices, an int."""
    return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def index(axis_name):
    """Which of them this is: int32 ``[]``."""
    return jnp.int32(0) if axis_name is None else jax.lax.axis_index(axis_name)


def part(field, value, axis_name):
    """How many of ``value`` things each device has, an int.

    Raises:
        InputError: naming ``field``, if they cannot be shared out evenly.
    """
    devices = count(axis_name)
    if value % devices:
        checks.reject(field, value, f"a multiple of the number of devices, {devices}")
    return value // devices


def total(tree, axis_name):
    """Sums over the devices."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def mean(tree, axis_name):
    """Means over the devices."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def gather(tree, axis_name):
    """Every device's part: leaves ``[n / devices, ...]`` to ``[n, ...]``."""
    return tree if axis_name is None else jax.lax.all_gather(tree, axis_name, tiled=True)


def from_previous(tree, axis_name):
    """What the device before this one has; the first one gets the last one's."""
    if axis_name is None:
        return tree
    devices = count(axis_name)
    return jax.lax.ppermute(tree, axis_name, [(i, (i + 1) % devices) for i in range(devices)])


def from_next(tree, axis_name):
    """What the device after this one has; the last one gets the first one's."""
    if axis_name is None:
        return tree
    devices = count(axis_name)
    return jax.lax.ppermute(tree, axis_name, [((i + 1) % devices, i) for i in range(devices)])
