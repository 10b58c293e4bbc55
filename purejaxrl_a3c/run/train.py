"""A run as a pure function, and the same run in pieces for a program that wants to look on."""

import concurrent.futures
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec

from purejaxrl_a3c.types import Metrics

_PIECE_SECONDS = 0.2  # how often `run_in_pieces` comes up for air
_PIECE_ITERATIONS = 2048  # at most: the room that a piece has for its metrics
# For a program that runs once, compiling soon counts for more than running fast. jax 0.11.1 lacks the second option.
_RUNS_ONCE: dict[str, Any] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):
    _RUNS_ONCE["xla_cpu_use_fusion_emitters"] = False


class Result(NamedTuple):
    """What a run leaves."""

    state: Any
    metrics: Metrics  # every field [I], one entry an iteration


def make_train(config, axis_name=None):
    """The whole run that ``config`` describes, as a pure function.

    It can be ``jit``ed, ``vmap``ped over keys, and, through `dataclasses.replace` inside the mapped function,
    over every float field of the config::

        train = jax.jit(make_train(a3c.Config(total_frames=100_000)))
        result = train(jax.random.key(0))

    Args:
        config: the ``Config`` of an algorithm.
        axis_name: the name of an axis of devices that share the run out: its workers or, in lockstep, its environments.
            All of them get the same key, and learn the same. ``train`` must then run where the name is bound: under
            `jax.pmap`, ``jax.vmap(axis_name=...)`` or `jax.shard_map` with ``check_vma=False``; `devices` does that.

    Returns:
        ``train(key) -> Result``, with ``I = total_frames // frames of one iteration`` entries in every metric.

    Raises:
        InputError: for settings that do not fit, naming the field, its value and what is accepted.
    """
    whole = config.build()
    iterations = config.total_frames // whole.frames_per_step

    def train(key):
        algorithm = whole if axis_name is None else config.build(axis_name)
        key_init, key_run = jax.random.split(key)

        def iterate(state, _):
            return algorithm.step(jax.random.fold_in(key_run, state.iteration), state)

        return Result(*jax.lax.scan(iterate, algorithm.init(key_init), length=iterations))

    return train


class CompiledRun(NamedTuple):
    """The programs of one run."""

    init: Callable[[jax.Array], Any]  # key -> state
    advance: Callable[[jax.Array, Any, int], tuple[Any, Metrics]]
    state: Any  # shape, dtype and, on several devices, sharding of the state's arrays
    iterations: int  # I
    frames_per_iteration: int
    compile_seconds: float


def compile_run(config, devices=None):
    """Compile the run that ``config`` describes for `run_in_pieces`.

    Args:
        config: the ``Config`` of an algorithm.
        devices: from `devices.spread`, for a run on several; None: on one.

    Returns:
        A `CompiledRun`.

    Raises:
        InputError: as `make_train`.
    """
    algorithm = config.build()
    started = time.perf_counter()  # only now: what was built may first have had to import its suite of environments

    def local():
        """The algorithm as a device runs it."""
        return algorithm if devices is None else config.build(devices.mesh.axis_names[0])

    def init(key):
        return local().init(key)

    def advance(key, state, count):
        step = jax.jit(local().step)  # so that it is traced once, for its types and for the loop
        _, metrics_type = jax.eval_shape(step, key, state)
        room = jax.tree.map(lambda x: jnp.zeros((_PIECE_ITERATIONS, *x.shape), x.dtype), metrics_type)

        def iterate(i, loop):
            state, metrics = loop
            state, row = step(jax.random.fold_in(key, state.iteration), state)
            return state, jax.tree.map(lambda room, x: room.at[i].set(x), metrics, row)

        # The count is an argument, not a constant: one program serves every piece, the last one too.
        return jax.lax.fori_loop(0, count, iterate, (state, room))

    put = jnp.asarray
    if devices is not None:
        everywhere = PartitionSpec()
        init = devices.map(init, everywhere, devices.state)
        advance = devices.map(advance, (everywhere, devices.state, everywhere), (devices.state, everywhere))
        put = devices.put
    key = put(jax.random.key(0))
    init_lowered = jax.jit(init).lower(key)
    # It compiles while the loop is being traced.
    with concurrent.futures.ThreadPoolExecutor(1) as background:
        init_program = background.submit(init_lowered.compile, _RUNS_ONCE)
        state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), init_lowered.out_info)
        state = state if devices is None else devices.place(state)
        advance_program = jax.jit(advance, donate_argnums=1).lower(key, state, put(np.int32(0))).compile()
    init_compiled = init_program.result()
    return CompiledRun(
        init=lambda key: init_compiled(put(key)),
        advance=lambda key, state, count: advance_program(put(key), state, put(np.int32(count))),
        state=state,
        iterations=config.total_frames // algorithm.frames_per_step,
        frames_per_iteration=algorithm.frames_per_step,
        compile_seconds=time.perf_counter() - started,
    )


def run_in_pieces(run, key, state=None, every=None) -> Iterator[Result]:
    """The run ``make_train(config)(key)``, a fraction of a second at a time.

    However it is cut, and wherever it goes on from, it is bit for bit the same run. It is that of ``make_train`` up to
    rounding: that is another program, for which the compiler may sum in another order.

    Args:
        run: a `CompiledRun`.
        key: the run's key.
        state: what an earlier piece of the same run left, to go on from; None: from the start. It is consumed.
        every: end a piece whenever so many iterations more are done, counted from the start of the run.

    Yields:
        The `Result` so far: the state, valid until the next piece is asked for, and the piece's own metrics as
        NumPy arrays ``[iterations of the piece]``.
    """
    key_init, key_run = jax.random.split(key)
    state = run.init(key_init) if state is None else state
    done, count = int(state.iteration), 1
    while done < run.iterations:
        count = _agreed(min(count, run.iterations - done, *([every - done % every] if every else [])))
        started = time.perf_counter()
        state, metrics = run.advance(key_run, state, count)
        # Copies: a view would keep the room for a whole piece alive.
        metrics = jax.tree.map(lambda x, count=count: x[:count].copy(), jax.device_get(metrics))
        done += count
        yield Result(state, metrics)
        rate = count / (time.perf_counter() - started)
        count = max(1, min(int(rate * _PIECE_SECONDS), 4 * count, _PIECE_ITERATIONS))


def _agreed(count):
    """What the first process says: clocks differ, but all must run the same program."""
    return count if jax.process_count() == 1 else int(multihost_utils.broadcast_one_to_all(np.int32(count)))
