"""Where the arrays of a loop outside of JAX lie: on one device, or spread over those of several processes."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from purejaxrl_a3c.loops import EnvLayout
from purejaxrl_a3c.run.devices import AXIS, EVERYWHERE, Devices


class Placing:
    """Compiles for the devices of a run, and moves arrays between them and the environments of this process.

    Every process steps the environments of its own devices. What has axes ``[W, B]`` is *local* as an array of NumPy
    of those environments, and *spread* as an array of JAX of all of them.

    Attributes:
        pairs: the spec of arrays ``[W, B, ...]``.
        later: that of arrays ``[T, W, B, ...]``.
        workers: that of arrays ``[W, ...]``.
    """

    def __init__(self, on: Devices | None, layout: EnvLayout) -> None:
        """For the devices ``on``; None: one."""
        self._on, self._axis = on, layout.split_axis
        self.pairs = PartitionSpec(*(None,) * self._axis, AXIS)
        self.later = PartitionSpec(None, *self.pairs)
        self.workers = PartitionSpec(AXIS) if layout.split == "workers" else EVERYWHERE
        shape = [layout.workers, layout.envs]
        self.first_env = 0
        if on is not None:
            here = on.mesh.local_devices
            shape[self._axis] = shape[self._axis] // on.mesh.size * len(here)
            before = list(on.mesh.devices.flat).index(here[0])
            self.first_env = before * layout.total_envs // on.mesh.size
        self.shape = shape[0], shape[1]
        """(W, B) of the environments of this process."""

    def compile(self, function: Any, in_specs: Any, out_specs: Any, types: Any, donate: tuple[int, ...] = ()) -> Any:
        """``function``, compiled for whole arrays of these types.

        Args:
            function: of arrays as a device has them.
            in_specs: a spec for each argument, or for every part of it.
            out_specs: likewise, of the result.
            types: of the arguments.
            donate: numbers of the arguments that may be overwritten.
        """
        if self._on is None:
            return jax.jit(function, donate_argnums=donate).lower(*types).compile()
        mapped = jax.jit(self._on.map(function, in_specs, out_specs), donate_argnums=donate)
        return mapped.lower(*_by_spec(self._typed, in_specs, tuple(types))).compile()

    def spread(self, specs: Any, tree: Any) -> Any:
        """The tree with its local arrays spread; a spec may be given for a whole part of it."""
        if self._on is None:
            return tree
        return _by_spec(self._spread, specs, tree)

    def local(self, tree: Any) -> Any:
        """The tree with its arrays ``[W, B, ...]`` as arrays of NumPy of this process's environments."""
        if self._on is None:
            return jax.tree.map(np.asarray, tree)
        return jax.tree.map(self._local, tree)

    def put(self, x: Any) -> Any:
        """``x``, which all processes have, on every device."""
        return x if self._on is None else self._on.put(x)

    def _typed(self, spec: PartitionSpec, x: Any) -> Any:
        assert self._on is not None
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(self._on.mesh, spec))

    def _spread(self, spec: PartitionSpec, x: Any) -> jax.Array:
        assert self._on is not None
        if isinstance(x, jax.Array):
            return x
        if spec == EVERYWHERE:
            return self._on.put(np.asarray(x))
        return jax.make_array_from_process_local_data(NamedSharding(self._on.mesh, spec), np.asarray(x))

    def _local(self, x: Any) -> np.ndarray:
        if not isinstance(x, jax.Array):
            return np.asarray(x)
        shards = sorted(x.addressable_shards, key=lambda shard: shard.index[self._axis].start or 0)
        return np.concatenate([np.asarray(shard.data) for shard in shards], self._axis)


def _by_spec(change: Callable[[PartitionSpec, Any], Any], specs: Any, tree: Any) -> Any:
    """``change(spec, leaf)`` of every leaf, with the spec of the part that it is in."""

    def part(spec: PartitionSpec, of_tree: Any) -> Any:
        return jax.tree.map(lambda leaf: change(spec, leaf), of_tree)

    return jax.tree.map(part, specs, tree, is_leaf=lambda x: isinstance(x, PartitionSpec))
