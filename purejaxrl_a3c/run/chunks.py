"""A run in chunks, for a program that looks on while it runs."""

import concurrent.futures
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.backend.compiling import RUNS_ONCE
from purejaxrl_a3c.run.devices import Devices
from purejaxrl_a3c.run.train import AlgorithmConfig, Result, build
from purejaxrl_a3c.types import Algorithm, Key, Metrics, Pretrained, State

_CHUNK_SECONDS = 0.2  # how often `run_in_chunks` yields
_CHUNK_ITERATIONS = 2048  # at most: the length of the buffer for a chunk's metrics


class CompiledRun(NamedTuple):
    """The compiled programs of one run."""

    init: Callable[[Key], State]
    """key -> state, with the pretrained parameters if the run was compiled with some."""
    advance: Callable[[Key, State, int], tuple[State, Metrics]]
    """(key, state, count) -> (state after ``count`` more iterations, their metrics in a longer buffer)."""
    state: Any  # shape, dtype and, on several devices, sharding of the state's arrays
    metrics: Metrics  # shape and dtype of the buffer's arrays
    iterations: int  # I
    frames_per_iteration: int
    compile_seconds: float


def compile_run(
    config: AlgorithmConfig, devices: Devices | None = None, pretrained: Pretrained | None = None
) -> CompiledRun:
    """Compile the run that ``config`` describes for `run_in_chunks`.

    Args:
        config: the ``Config`` of an algorithm.
        devices: from `devices.spread`, for a run on several; None: on one.
        pretrained: what the run begins with; None: parameters of its own.

    Returns:
        A `CompiledRun`.

    Raises:
        InputError: as `make_train`.
    """
    algorithm = build(config)
    started = time.perf_counter()  # only now: building may first have had to import a suite of environments

    def local() -> Algorithm:
        """The algorithm as a device runs it."""
        return algorithm if devices is None else build(config, devices.mesh.axis_names[0])

    def init(key: Key, pretrained: Pretrained | None) -> State:
        return local().init(key, pretrained)

    def advance(key: Key, state: State, count: jax.Array) -> tuple[State, Metrics]:
        return iterate(local(), key, state, count)

    put: Callable[[Any], Any] = jnp.asarray
    if devices is not None:
        everywhere = PartitionSpec()
        init = devices.map(init, (everywhere, everywhere), devices.state)
        advance = devices.map(advance, (everywhere, devices.state, everywhere), (devices.state, everywhere))
        put = devices.put
    key = put(jax.random.key(0))
    pretrained = jax.tree.map(put, pretrained)
    init_lowered = jax.jit(init).lower(key, pretrained)
    # It compiles while the loop is being traced.
    with concurrent.futures.ThreadPoolExecutor(1) as background:
        init_program = background.submit(init_lowered.compile, RUNS_ONCE)
        state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), init_lowered.out_info)
        state = state if devices is None else devices.place(state)
        advance_lowered = jax.jit(advance, donate_argnums=1).lower(key, state, put(np.int32(0)))
        # On several devices the order of kernels is left to XLA: they wait for each other.
        advance_program = advance_lowered.compile(algorithm.compiler_options if devices is None else {})
    init_compiled = init_program.result()
    return CompiledRun(
        init=lambda key: init_compiled(put(key), pretrained),
        advance=lambda key, state, count: advance_program(put(key), state, put(np.int32(count))),
        state=state,
        metrics=advance_lowered.out_info[1],
        iterations=algorithm.iterations,
        frames_per_iteration=algorithm.frames_per_step,
        compile_seconds=time.perf_counter() - started,
    )


def iterate(algorithm: Algorithm, key: Key, state: State, count: jax.Array) -> tuple[State, Metrics]:
    """The state after ``count`` iterations, and their metrics at the start of a buffer."""
    step = jax.jit(algorithm.step)  # so that it is traced once, for its types and for the loop
    _, metrics_type = jax.eval_shape(step, key, state)
    metrics_buffer = jax.tree.map(lambda x: jnp.zeros((_CHUNK_ITERATIONS, *x.shape), x.dtype), metrics_type)

    def iterate(i: jax.Array, loop: tuple[State, Metrics]) -> tuple[State, Metrics]:
        state, metrics = loop
        state, row = step(jax.random.fold_in(key, state.iteration), state)
        return state, jax.tree.map(lambda buffer, x: buffer.at[i].set(x), metrics, row)

    # The count is an argument, not a constant: one program serves every chunk, the last one too.
    return jax.lax.fori_loop(0, count, iterate, (state, metrics_buffer))


def run_in_chunks(
    run: CompiledRun, key: Key, state: State | None = None, every: Sequence[int] = ()
) -> Iterator[Result]:
    """The run ``make_train(config)(key)``, a fraction of a second at a time.

    However it is cut, and wherever it continues from, it is bit for bit the same run. It equals that of ``make_train``
    up to rounding: that is another program, for which the compiler may sum in another order.

    Args:
        run: a `CompiledRun`.
        key: the run's key.
        state: the state after an earlier chunk of the same run, to continue from; None: start. It is consumed.
        every: end a chunk whenever one of these numbers of iterations more is done, counted from the start of the run.

    Yields:
        The `Result` so far: the state, valid until the next chunk is asked for, and the chunk's own metrics as NumPy
        arrays ``[iterations of the chunk]``, with exact frames as int64.
    """
    key_init, key_run = jax.random.split(randomness.as_key(key))
    state = run.init(key_init) if state is None else state
    done, count = int(state.iteration), 1
    while done < run.iterations:
        count = agreed(min(count, run.iterations - done, *(each - done % each for each in every)))
        started = time.perf_counter()
        state, metrics = run.advance(key_run, state, count)
        # Copies: a view would keep the whole buffer alive for every chunk.
        metrics = jax.tree.map(lambda x, count=count: x[:count].copy(), jax.device_get(metrics))
        frames = run.frames_per_iteration * np.arange(done + 1, done + count + 1, dtype=np.int64)
        done += count
        yield Result(state, metrics._replace(frames=frames))
        count = next_count(count, time.perf_counter() - started)


def next_count(count: int, seconds: float) -> int:
    """How many iterations the next chunk has, after one of ``count`` took so many seconds."""
    return max(1, min(int(count / seconds * _CHUNK_SECONDS), 4 * count, _CHUNK_ITERATIONS))


def state_types(config: AlgorithmConfig, devices: Devices | None = None) -> Any:
    """Shapes, dtypes and, on several devices, shardings of a run's state, without compiling it."""
    if devices is None:
        return jax.eval_shape(build(config).init, jax.random.key(0))

    def init(key: Key) -> State:
        return build(config, devices.mesh.axis_names[0]).init(key)

    return devices.place(jax.eval_shape(devices.map(init, PartitionSpec(), devices.state), jax.random.key(0)))


def agreed_signal(number: int | None) -> int | None:
    """The signal that this or another process of the run was stopped by; all must ask at the same place."""
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number or 0)))) or None


def agreed(count: int) -> int:
    """The iteration count of process 0: clocks differ, but all processes must run the same program."""
    return count if jax.process_count() == 1 else int(multihost_utils.broadcast_one_to_all(np.int32(count)))
