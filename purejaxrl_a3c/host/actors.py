"""Actors and a learner (Sebulba): threads that only act, a bounded queue, and a learner at the newest parameters."""

import functools
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from purejaxrl_a3c.algorithms import impala, ppo
from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import check_count, reject
from purejaxrl_a3c.config import flat
from purejaxrl_a3c.host.actors_run import LEARNER, ActorsResult, Run, Setup, first_seed, metrics_of, set_up
from purejaxrl_a3c.host.compiled import check_no_statistics, check_outside
from purejaxrl_a3c.host.patience import TIMEOUT
from purejaxrl_a3c.host.vector import HostEnv, make_as_told
from purejaxrl_a3c.loops.outside import Outside
from purejaxrl_a3c.run.chunks import CompiledRun
from purejaxrl_a3c.types import Key, Metrics, Pretrained, State
from purejaxrl_a3c.updates import Asynchrony
from purejaxrl_a3c.updates import queue as schedule
from purejaxrl_a3c.updates.service import Service

MAX_RESTARTS = 3  # of an actor, unless it is told otherwise


def train_actors(
    config: ppo.Config | impala.Config,
    key: Key,
    *,
    deterministic: bool = False,
    make_env: Callable[[int], HostEnv] | None = None,
    timeout: float = TIMEOUT,
    max_restarts: int = MAX_RESTARTS,
    on_progress: Callable[[int], None] | None = None,
) -> ActorsResult:
    """A run in which ``num_workers`` threads act at the same time, each in environments of its own, and one learns.

    It is the architecture called Sebulba (Hessel et al. 2021, arXiv 2104.06272). All the rules of the simulated queue
    hold (`updates.queue`): what waits where, which rollouts the learner takes, which are too old, who may start. Only
    the times are real. An actor computes its policy for all of its environments at once, on JAX's first device.

    Args:
        config: of PPO or IMPALA, with ``schedule="queue"``.
        key: consumed; also the environments' seeds are made of it.
        deterministic: whether everything happens in the order of the simulated run, with its service times and its
            ``learner_time``. The run then repeats, if its environments do, and learns what `make_train` would; but who
            is early has to wait for who is late. Otherwise they must have their defaults.
        make_env: makes as many environments as it is told, in each actor, and once before; None: makes those of
            ``env_id``.
        timeout: seconds that all actors and the learner may take until one of them has done something.
        max_restarts: how often an actor is started again after an error.
        on_progress: called after every iteration with the number of frames so far.

    Returns:
        An `ActorsResult`.

    Raises:
        InputError: naming the setting, its value and what is accepted.
        WorkerError: if an actor failed once more than ``max_restarts`` times, or nobody did anything for ``timeout``
            seconds; it has the result until then.
    """
    if not timeout > 0:
        reject("timeout", timeout, "> 0")
    check_count("max_restarts", max_restarts, least=0)
    outside = _check(config, deterministic, make_env is None)
    setup, layout = _set_up(config, outside, make_env), outside.acting.layout
    key_init, key_run = jax.random.split(randomness.as_key(key))
    run = Run(setup, key_run, setup.init(key_init), first_seed(setup, key_init), timeout, max_restarts)
    numbers, events = None, _real(run)
    if deterministic:
        numbers, events = _simulated(run, config.asynchrony, layout.workers, layout.iterations * layout.workers)
    try:
        run.start(numbers)
        run.go(events, layout.iterations, on_progress)
    finally:
        run.end()
    return run.result()


def compile_run(config: ppo.Config | impala.Config, pretrained: Pretrained | None = None) -> CompiledRun:
    """Compile the run that ``config`` describes, as `run.chunks.compile_run` does for environments of JAX.

    Args:
        config: as of `train_actors`, with service times and ``learner_time`` left at their defaults.
        pretrained: what the run begins with; None: parameters of its own.

    Returns:
        A `CompiledRun`. Actors do not wait for the next call. A state that is not the last one which it returned is
        continued in new episodes, with nothing in the queue.

    Raises:
        InputError: naming the setting, its value and what is accepted.
    """
    started, outside = time.perf_counter(), _check(config, False, True)
    setup = _set_up(config, outside, None, pretrained)
    run = _InPieces(setup)
    return CompiledRun(
        init=run.init,
        advance=run.advance,
        state=setup.state,
        metrics=metrics_of(setup, [], 0),
        iterations=outside.acting.layout.iterations,
        frames_per_iteration=outside.acting.layout.frames,
        compile_seconds=time.perf_counter() - started,
    )


class _InPieces:
    """A run of which a part is done at a time. Its functions are those of a `CompiledRun`."""

    def __init__(self, setup: Setup) -> None:
        self._setup, self._seed = setup, 0
        self._run: Run | None = None
        self._last: State = None  # the state that the actors go on from

    def init(self, key: Key) -> State:
        self._seed = first_seed(self._setup, key)
        return self._setup.init(key)

    def advance(self, key: Key, state: Any, count: int) -> tuple[State, Metrics]:
        if self._run is None or state is not self._last:
            self._begin(key, state)
        assert self._run is not None
        self._run.go(self._events, count)
        result = self._run.result()
        self._last = result.state
        return result.state, result.metrics

    def _begin(self, key: Key, state: Any) -> None:
        if self._run is not None:
            self._run.end()
        iteration, seed = int(state.iteration), self._seed
        if iteration:
            seed = first_seed(self._setup, jax.random.fold_in(key, iteration))
        self._run = Run(self._setup, key, state, seed, TIMEOUT, MAX_RESTARTS)
        self._run.start(None)
        self._events = _real(self._run)
        weakref.finalize(self, self._run.end)  # also when the interpreter exits


def _set_up(
    config: Any, outside: Outside, make_env: Callable[[int], HostEnv] | None, pretrained: Pretrained | None = None
) -> Setup:
    make_env = functools.partial(make_as_told, config) if make_env is None else make_env
    make_own = functools.partial(make_env, outside.acting.layout.envs)
    return set_up(outside, config.asynchrony, make_own, pretrained)


def _check(config: Any, deterministic: bool, made: bool) -> Outside:
    if not isinstance(config, ppo.Config | impala.Config):
        reject("config", config, "ppo.Config or impala.Config; host.train and host.train_async train the others")
    outside = check_outside(config, made=made, queue=True)
    asynchrony = config.asynchrony
    if asynchrony.schedule != "queue":
        reject("schedule", asynchrony.schedule, "queue")
    if outside.acting.layout.group_size:
        reject("group_size", outside.acting.layout.group_size, "0, for environments outside of JAX")
    if not deterministic:
        simulated = flat(asynchrony.service) | {"learner_time": asynchrony.queue.learner_time}
        defaults = flat(Service()) | {"learner_time": schedule.Queue().learner_time}
        for name, value in simulated.items():
            if value != defaults[name]:
                reject(name, value, f"{defaults[name]!r} unless deterministic is True: nothing is simulated here")
    check_no_statistics(config)
    return outside


def _simulated(
    run: Run, asynchrony: Asynchrony, workers: int, pushes: int
) -> tuple[list[list[int]], Iterator[tuple[int, float]]]:
    """The numbers of each actor's parts of rollouts, and the events, in the order of the simulated run."""
    # The learner ends at most one update for each part of a rollout.
    settings, count = asynchrony.queue, 2 * pushes
    events = jax.jit(lambda: schedule.simulate(settings, asynchrony.service, workers, count)[1])()
    who = np.where(events.of_learner, LEARNER, events.worker)
    numbers = np.cumsum(~np.asarray(events.of_learner)) - 1
    of_each = [numbers[(who == worker) & (numbers < pushes)].tolist() for worker in range(workers)]
    passed = np.diff(np.asarray(events.time), prepend=0)

    def wait() -> Iterator[tuple[int, float]]:
        for one, time_passed in zip(who.tolist(), passed.tolist(), strict=True):
            run.wait_for(one)
            yield one, time_passed

    return of_each, wait()


def _real(run: Run) -> Iterator[tuple[int, float]]:
    """The events, as they happen."""
    last = time.monotonic()
    while True:
        who, now = run.receive(), time.monotonic()
        yield who, now - last
        last = now
