"""One run on several devices, and several runs on several devices.

`jax.shard_map` over a mesh of one axis. The arrays of a run's state keep the shapes that they have on one device: what
is a worker's or an environment's is spread over the devices, all else is the same on each and given back as one copy.
"""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from purejaxrl_a3c import checks
from purejaxrl_a3c.run.train import Result, make_train

AXIS = "device"
"""Name of the mesh's axis."""


EVERYWHERE = PartitionSpec()
"""The spec of what is the same on every device."""


class Devices(NamedTuple):
    """A mesh of devices, and how the state of a run lies on it."""

    mesh: Mesh
    state: Any  # a PartitionSpec for every leaf

    def map(self, function, in_specs, out_specs):
        """``function`` on every device; a spec may be given for a whole tree."""
        # Values that vary over the devices are not tracked in types: loops of the run begin with constants.
        return jax.shard_map(function, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)

    def place(self, shapes):
        """Types of a state's arrays with the shardings that they have here."""

        def place(shape, spec):
            return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=NamedSharding(self.mesh, spec))

        return jax.tree.map(place, shapes, self.state)

    def put(self, x):
        """``x``, which all processes have, on every device."""
        everywhere = NamedSharding(self.mesh, EVERYWHERE)
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):  # which cannot be put where another process is
            return jax.random.wrap_key_data(
                jax.device_put(jax.random.key_data(x), everywhere), impl=jax.random.key_impl(x)
            )
        return jax.device_put(x, everywhere)


def spread(config, devices=None):
    """The `Devices` for a run of ``config``.

    Args:
        config: the ``Config`` of an algorithm.
        devices: a sequence of JAX's devices; None: all of this process.

    Raises:
        InputError: if there are no devices, or they cannot share the run out evenly.
    """
    devices = jax.local_devices() if devices is None else list(devices)
    if not devices:
        checks.reject("devices", devices, "at least one device")
    whole, part = _state_shapes(config, 1), _state_shapes(config, len(devices))
    return Devices(Mesh(np.array(devices), (AXIS,)), jax.tree.map(_spec, whole, part))


def _state_shapes(config, count):
    """Types of the state that each of ``count`` devices has, with a leading axis of devices."""

    def init(key):
        return config.build(AXIS).init(key)

    mapped = jax.vmap(init, in_axes=None, out_axes=0, axis_name=AXIS, axis_size=count)
    return jax.eval_shape(mapped, jax.random.key(0))


def _spec(whole, part):
    """Along the axis along which a device's part is shorter than the whole; the leading axis of both is of devices."""
    axes = [i for i, (n, m) in enumerate(zip(whole.shape[1:], part.shape[1:], strict=True)) if n != m]
    return PartitionSpec(*(None,) * axes[0], AXIS) if axes else EVERYWHERE


def fetch(state):
    """The whole state as NumPy arrays, also where other processes hold parts of it; all of them must call this."""
    if jax.process_count() == 1:
        return jax.device_get(state)
    return multihost_utils.process_allgather(state, tiled=True)


def train_on_devices(config, key, devices=None):
    """A run shared out over devices: of its workers or, in lockstep, of its environments.

    The result is that of ``make_train(config)(key)``, of the same shapes, up to the order in which floats are added.

    Args:
        config: the ``Config`` of an algorithm.
        key: of the run. Keys ``[seeds]`` make so many runs, each on all devices: the result has that leading axis.
        devices: a sequence of JAX's devices; None: all of this process.

    Returns:
        A `Result`.

    Raises:
        InputError: as `make_train`, and if the devices cannot share the run out evenly.
    """
    return _on_devices(config, None if devices is None else tuple(devices), key.ndim)(key)


@functools.lru_cache(maxsize=8)
def _on_devices(config, devices, batch_axes):
    make_train(config)  # raises what it does before anything else
    devices = spread(config, devices)
    train, specs = make_train(config, AXIS), devices.state
    for _ in range(batch_axes):
        train = jax.vmap(train)
        specs = jax.tree.map(lambda spec: PartitionSpec(None, *spec), specs)
    everywhere = jax.jit(devices.map(lambda key: tuple(train(key)), EVERYWHERE, (specs, EVERYWHERE)))
    return lambda key: Result(*everywhere(key))


def train_seeds_on_devices(config, keys, devices=None):
    """Whole runs, spread over devices that exchange nothing: the fastest way to run a table.

    Args:
        config: the ``Config`` of an algorithm.
        keys: ``[seeds]``, a multiple of the number of devices.
        devices: a sequence of JAX's devices; None: all of this process.

    Returns:
        A `Result` with leading axis ``[seeds]``, ``jax.vmap(make_train(config))(keys)``.

    Raises:
        InputError: as `make_train`, and if the devices cannot share the seeds out evenly.
    """
    devices = jax.local_devices() if devices is None else list(devices)
    if keys.ndim != 1 or not devices or keys.shape[0] % len(devices):
        checks.reject("keys", keys.shape, f"[seeds], a multiple of the number of devices, {len(devices)}")
    return _seeds_on_devices(config, tuple(devices))(keys)


@functools.lru_cache(maxsize=8)
def _seeds_on_devices(config, devices):
    train = jax.vmap(make_train(config))
    mesh = Mesh(np.array(devices), (AXIS,))
    seeds = PartitionSpec(AXIS)
    return jax.jit(jax.shard_map(train, mesh=mesh, in_specs=seeds, out_specs=seeds, check_vma=False))
