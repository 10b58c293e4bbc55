"""Many runs: as many side by side as are fast, one such block after the other."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import check_count, reject
from purejaxrl_a3c.run.chunks import state_types
from purejaxrl_a3c.run.devices import AXIS
from purejaxrl_a3c.run.memory import available, size_of
from purejaxrl_a3c.run.train import AlgorithmConfig, Result, build, check_numbers, make_train
from purejaxrl_a3c.types import Key


def train_many(
    config: AlgorithmConfig,
    keys: Key,
    *,
    batch_size: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Result:
    """Whole runs with many keys, in blocks of runs that train side by side.

    A thousand runs under one `jax.vmap` are slower than the same in blocks whose working memory fits the processor's
    cache, and need a thousand times the memory of one. The runs are those of ``jax.vmap(make_train(config))(keys)``, up
    to rounding::

        result = train_many(a2c.Config(), jax.random.split(jax.random.key(0), 2048))
        returns = result.metrics.episode_return  # [2048, iterations]

    Devices exchange nothing: each trains its share of the runs. The program is compiled once for a config, a number of
    runs, and devices.

    Args:
        config: the ``Config`` of an algorithm.
        keys: ``[N]``, one for each run.
        batch_size: runs side by side on one device; None: see `fitting`.
        devices: JAX's devices; None: all of this process.

    Returns:
        A `Result` with leading axis ``[N]``. It holds the last state of all runs.

    Raises:
        InputError: as `make_train`; and for keys, a batch size or devices that are not accepted.
    """
    check_numbers(config)
    devices = jax.local_devices() if devices is None else list(devices)
    keys = randomness.as_keys(keys)
    number = keys.shape[0]
    if not number:
        reject("keys", keys.shape, "[N], at least one key")
    if not devices:
        reject("devices", devices, "at least one device")
    if batch_size is not None:
        check_count("batch_size", batch_size, least=1)
    share = -(-number // len(devices))
    block = even(share, fitting(config, devices[0]) if batch_size is None else batch_size)
    whole = len(devices) * block * -(-share // block)
    # The last run is trained again where a block would not be full.
    padded = keys[jnp.minimum(jnp.arange(whole), number - 1)]
    result = _program(config, tuple(devices), block)(padded)
    return result if whole == number else jax.tree.map(lambda x: x[:number], result)


@functools.lru_cache(maxsize=8)
def _program(config: Any, devices: tuple[jax.Device, ...], block: int) -> jax.stages.Wrapped:
    train = make_train(config)

    def in_blocks(keys: Key) -> Result:
        return jax.lax.map(train, keys, batch_size=block)

    mesh, runs = Mesh(np.array(devices), (AXIS,)), PartitionSpec(AXIS)
    return jax.jit(jax.shard_map(in_blocks, mesh=mesh, in_specs=runs, out_specs=runs, check_vma=False))


def even(runs: int, most: int) -> int:
    """How many of so many runs to train side by side, at most, so that no block is much emptier than the others."""
    return -(-runs // -(-runs // most))


def fitting(config: AlgorithmConfig, device: jax.Device) -> int:
    """How many runs to train side by side on a device.

    The working memory of a run is estimated as twice its state, which gradients and optimizers come near, and a kB for
    each frame of an iteration, for what a small network leaves of it. On a CPU `_CACHE` should hold it, elsewhere a
    quarter of the device's memory.
    """
    working = 2 * size_of(state_types(config)) + 1024 * build(config).frames_per_step
    room = _CACHE if device.platform == "cpu" else (available(device) or 16 << 30) // 4
    return max(1, room // working)


_CACHE = 32 << 20
"""Bytes; with it blocks were about as fast as the best of several numbers of agents in ``benchmarks.agents``."""
