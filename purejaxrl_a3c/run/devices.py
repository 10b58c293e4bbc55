"""One run on several devices, and several runs on several devices.

`jax.shard_map` over a mesh of one axis. The arrays of a run's state keep the shapes that they have on one device. What
belongs to a worker or an environment is spread over the devices; everything else is the same on each device.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.run.train import AlgorithmConfig, Result, build, check_numbers, make_train
from purejaxrl_a3c.types import Algorithm, Key, State

AXIS = "device"
"""Name of the mesh's axis."""

EVERYWHERE = PartitionSpec()
"""The spec of an array that is the same on every device."""


class Devices(NamedTuple):
    """A mesh of devices, and how the state of a run lies on it."""

    mesh: Mesh
    state: Any  # a PartitionSpec for every leaf

    def map(self, function: Any, in_specs: Any, out_specs: Any) -> Any:
        """``function`` on every device; a spec may be given for a whole tree."""
        # Values that vary over the devices are not tracked in types: loops of the run begin with constants.
        return jax.shard_map(function, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)

    def place(self, shapes: Any) -> Any:
        """Types of a state's arrays with the shardings that they have here."""

        def place(shape: Any, spec: PartitionSpec) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=NamedSharding(self.mesh, spec))

        return jax.tree.map(place, shapes, self.state)

    def put(self, x: Any) -> jax.Array:
        """``x``, which all processes have, on every device."""
        everywhere = NamedSharding(self.mesh, EVERYWHERE)
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):  # which cannot be put where another process is
            data = jax.device_put(jax.random.key_data(x), everywhere)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        return jax.device_put(x, everywhere)


def spread(
    config: AlgorithmConfig,
    devices: Sequence[jax.Device] | None = None,
    init_of: Callable[[Algorithm], Callable[[Key], State]] = lambda algorithm: algorithm.init,
) -> Devices:
    """The `Devices` for a run of ``config``.

    Args:
        config: the ``Config`` of an algorithm.
        devices: JAX's devices; None: all of this process.
        init_of: the algorithm -> key -> state.

    Raises:
        InputError: if there are no devices, or they cannot share the run evenly.
    """
    devices = jax.local_devices() if devices is None else list(devices)
    if not devices:
        reject("devices", devices, "at least one device")
    splits: list[Any] = []

    def init(key: Key) -> State:
        algorithm = build(config, AXIS)
        state = init_of(algorithm)(key)
        splits.append(algorithm.split(state))
        return state

    # A device's part is traced as it runs: sizes that cannot be shared evenly raise here.
    jax.eval_shape(jax.vmap(init, in_axes=None, axis_name=AXIS, axis_size=len(devices)), jax.random.key(0))
    return Devices(Mesh(np.array(devices), (AXIS,)), jax.tree.map(_spec, splits[-1]))


def _spec(axis: int) -> PartitionSpec:
    return EVERYWHERE if axis < 0 else PartitionSpec(*(None,) * axis, AXIS)


def fetch(state: State) -> State:
    """The whole state as NumPy arrays, also where other processes hold parts of it; all of them must call this."""
    if jax.process_count() == 1:
        return jax.device_get(state)
    return multihost_utils.process_allgather(state, tiled=True)


def train_on_devices(config: AlgorithmConfig, key: Key, devices: Sequence[jax.Device] | None = None) -> Result:
    """A run shared by several devices: its workers or, in lockstep, its environments.

    The result is that of ``make_train(config)(key)``, of the same shapes, up to the order in which floats are added.

    Args:
        config: the ``Config`` of an algorithm.
        key: of the run. Keys ``[seeds]`` make so many runs, each on all devices; the result has that leading axis.
        devices: JAX's devices; None: all of this process.

    Returns:
        A `Result`.

    Raises:
        InputError: as `make_train`, and if the devices cannot share the run evenly.
    """
    check_numbers(config)
    key = randomness.as_key_or_keys(key)
    return _on_devices(config, None if devices is None else tuple(devices), key.ndim)(key)


@functools.lru_cache(maxsize=8)
def _on_devices(config: Any, devices: tuple[jax.Device, ...] | None, batch_axes: int) -> Callable[[Key], Result]:
    make_train(config)  # raises what it does before anything else
    spread_out = spread(config, devices)
    train: Any = make_train(config, AXIS)
    specs = spread_out.state
    for _ in range(batch_axes):
        train = jax.vmap(train)
        specs = jax.tree.map(lambda spec: PartitionSpec(None, *spec), specs)
    everywhere = jax.jit(spread_out.map(lambda key: tuple(train(key)), EVERYWHERE, (specs, EVERYWHERE)))
    return lambda key: Result(*everywhere(key))
