"""Actors and a learner (Sebulba): threads that only act, a bounded queue, and a learner at the newest parameters."""

import functools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.algorithms import impala, ppo
from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import check_count, reject
from purejaxrl_a3c.config import flat
from purejaxrl_a3c.host import actor
from purejaxrl_a3c.host.actor import Failure, Part, Task
from purejaxrl_a3c.host.compiled import check_env, check_no_statistics, check_outside, env_key, make_init
from purejaxrl_a3c.host.results import WorkerError
from purejaxrl_a3c.host.vector import HostEnv, make_as_told
from purejaxrl_a3c.loops.outside import Outside
from purejaxrl_a3c.types import Key, Metrics, State
from purejaxrl_a3c.updates import Asynchrony
from purejaxrl_a3c.updates import queue as schedule
from purejaxrl_a3c.updates.queue import QueueEvent
from purejaxrl_a3c.updates.service import Service
from purejaxrl_a3c.updates.staleness import add_to_histogram

LEARNER = -1
"""Stands in the place of the number of an actor."""


class Updates(NamedTuple):
    """What was measured of each update, in their order."""

    staleness: np.ndarray  # int32 [U, R, parts]: versions between the parameters that acted and those that learned
    taken: np.ndarray  # float64 [U]: seconds from the start of the actors until the learner took the batch


class ActorsResult(NamedTuple):
    """The result of `train_actors`."""

    state: State  # `host.evaluate` takes it
    metrics: Metrics  # NumPy, [I], over W parts of rollouts each; ``wall_time`` is that of the last of them
    updates: Updates


def train_actors(
    config: ppo.Config | impala.Config,
    key: Key,
    *,
    deterministic: bool = False,
    make_env: Callable[[int], HostEnv] | None = None,
    timeout: float = 600.0,
    max_restarts: int = 3,
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
    make_env = functools.partial(make_as_told, config) if make_env is None else make_env
    make_own = functools.partial(make_env, outside.acting.layout.envs)
    run = _Run(outside, config.asynchrony, randomness.as_key(key), make_own, timeout, max_restarts)
    numbers, events = None, _real(run)
    if deterministic:
        layout = outside.acting.layout
        numbers, events = _simulated(run, config.asynchrony, layout.workers, layout.iterations * layout.workers)
    try:
        run.start(numbers)
        run.go(events, on_progress)
    finally:
        run.end()
    return run.result()


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


class _Learned(NamedTuple):
    """An update that the learner has ended."""

    params: Any
    opt_state: Any
    reported: dict[str, jax.Array]


class _Run:
    """A run: its threads, what they have told, and what was measured. Actors are called by number."""

    def __init__(
        self,
        outside: Outside,
        asynchrony: Asynchrony,
        key: Key,
        make_env: Callable[[], HostEnv],
        timeout: float,
        max_restarts: int,
    ) -> None:
        """Check the environments, and compile."""
        self._outside, self._asynchrony, self._make_env, self._timeout = outside, asynchrony, make_env, timeout
        self._layout = layout = outside.acting.layout
        self._total = layout.iterations * layout.workers  # parts of rollouts
        key_init, self._key = jax.random.split(key)
        self._seed = int(jax.random.randint(env_key(key_init), (), 0, 2**31 - 1 - layout.total_envs))
        obs = self._look_at_env()
        everywhere = jax.tree.map(lambda x: np.broadcast_to(x, (layout.workers, *x.shape)), obs)
        self._state: Any = jax.jit(make_init(outside))(key_init, everywhere, None)
        self._learner = self._state.learner
        self._published, self._queue = self._learner.params, self._learner.queue
        one_actor = jax.tree.map(lambda x: x[None], obs)
        self._programs, names = actor.compile_programs(outside, asynchrony, self._learner, self._queue, one_actor)
        self._reported = dict.fromkeys(names, 0.0)  # of the last update
        self._tasks: list[queue.Queue[Task | None]] = [queue.Queue() for _ in range(layout.workers)]
        self._batches: queue.Queue[Any] = queue.Queue()
        self._told: queue.Queue[Part | _Learned | Failure] = queue.Queue()
        self._arrived: dict[int, Any] = {}  # what was told and has not had its turn, by who told it
        self._given: list[Task | None] = [None] * layout.workers  # the last task of each actor
        self._failures, self._max_restarts = [0] * layout.workers, max_restarts
        self._tasks_given, self._pushes, self._learns = [0] * layout.workers, 0, False
        self._parts: list[list[Any]] = [[] for _ in range(layout.workers)]  # of unfinished rollouts
        self._held: dict[int, list[Any]] = {}  # finished rollouts by their place
        self._sums: list[Any] = []  # since the last row, as the next ones
        self._used: list[dict[str, np.ndarray]] = []
        self._rows: list[tuple[dict[str, float], Any]] = []
        self._staleness: list[np.ndarray] = []
        self._taken: list[float] = []

    def _look_at_env(self) -> Any:
        """First observations of one actor's environments, after checking that they are as the run expects."""
        env = self._make_env()
        try:
            check_env(self._outside, env, self._layout.envs)
            return env.reset(self._seed)
        finally:
            env.close()

    def start(self, numbers: list[list[int]] | None) -> None:
        """Start the threads, and give those actors a task that are admitted.

        Args:
            numbers: of each actor's parts of rollouts, by which random numbers are drawn; None: as if they took turns.
        """
        self._numbers, self._began = numbers, time.monotonic()
        threading.Thread(target=self._learn_all, daemon=True).start()
        for worker in range(self._layout.workers):
            self._start_actor(worker)
        self._give(np.isfinite(self._queue.left))

    def _start_actor(self, worker: int) -> None:
        layout = self._layout
        # Another start must not see the same episodes again.
        seed = (self._seed + worker * layout.envs + self._failures[worker] * layout.total_envs) % 2**31
        self._tasks[worker] = queue.Queue()
        arguments = worker, self._key, self._programs, self._make_env, seed, layout.rollout_length
        threading.Thread(target=actor.work, args=(*arguments, self._tasks[worker], self._told), daemon=True).start()

    def _give(self, pulls: np.ndarray) -> None:
        """Give these actors, bool ``[W]``, the published parameters and a task."""
        for worker in map(int, np.flatnonzero(pulls)):
            number = self._tasks_given[worker]
            self._tasks_given[worker] += 1
            if self._numbers is not None and number == len(self._numbers[worker]):
                continue  # the run ends before this rollout does
            turns = number * self._layout.workers + worker
            self._given[worker] = Task(
                self._published, turns if self._numbers is None else self._numbers[worker][number]
            )
            self._tasks[worker].put(self._given[worker])

    def _learn_all(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                self._told.put(_Learned(*jax.block_until_ready(self._programs.learn(*batch))))
            except Exception as error:
                self._told.put(Failure(LEARNER, 0, error))

    def receive(self) -> int:
        """Wait until somebody tells something, and keep it.

        Returns:
            Who; `LEARNER` is the learner.

        Raises:
            WorkerError: after a failure that is one too many, or if nothing is told for too long.
        """
        try:
            told = self._told.get(timeout=self._timeout)
        except queue.Empty:
            raise self._error(f"no actor did anything for {self._timeout:g} s") from None
        if isinstance(told, Failure):
            if told.worker == LEARNER or self._failures[told.worker] == self._max_restarts:
                where = "the learner" if told.worker == LEARNER else f"actor {told.worker}, step {told.step}"
                raise self._error(f"{where}: {type(told.error).__name__}: {told.error}") from told.error
            self._failures[told.worker] += 1
            self._start_actor(told.worker)
            if (task := self._given[told.worker]) is not None:
                self._tasks[told.worker].put(task)
            return self.receive()
        who = LEARNER if isinstance(told, _Learned) else told.worker
        self._arrived[who] = told
        return who

    def _error(self, text: str) -> WorkerError:
        return WorkerError(f"{self._outside.origin.env_name}: {text}", self.result())

    def wait_for(self, who: int) -> None:
        """Wait until this one has told something that has not had its turn."""
        while who not in self._arrived:
            self.receive()

    def go(self, events: Iterator[tuple[int, float]], on_progress: Callable[[int], None] | None) -> None:
        """Let events happen until all parts of rollouts are there.

        Args:
            events: who ends something, and how much time has passed since the last event.
            on_progress: called after every iteration.
        """
        for who, passed in events:
            before = self._pushes
            self._happen(who, passed)
            if self._pushes > before and self._pushes % self._layout.workers == 0:
                self._rows.append((self._report(), jax.device_get(self._sums)))
                self._sums, self._used = [], []
                if on_progress is not None:
                    on_progress(len(self._rows) * self._layout.frames)
            if self._pushes == self._total:
                break
        if self._learns:
            self.wait_for(LEARNER)
            self._end_update(self._arrived.pop(LEARNER))

    def _happen(self, who: int, passed: float) -> None:
        told, pushes = self._arrived.pop(who), self._pushes
        worker = jnp.int32(0 if who == LEARNER else who)
        arguments = self._queue, jnp.bool_(who == LEARNER), worker, jnp.float32(passed)
        self._queue, *found = self._programs.happen(*arguments)
        event, used = jax.device_get(found)
        if who == LEARNER:
            self._end_update(told)
            if event.version % self._asynchrony.queue.publish_every == 0:
                self._published = self._learner.params
        else:
            self._pushes += 1
            self._used.append(used)
            self._sums.append(self._programs.sums(actor.rows_to_sum(told.rollouts)))
            self._parts[who].append((told.rollouts, told.carry))
            if len(self._parts[who]) == self._asynchrony.queue.parts_per_rollout:
                self._held[int(event.place)], self._parts[who] = self._parts[who], []
        if event.takes:
            self._take(event, pushes)
        self._give(event.pulls)

    def _take(self, event: QueueEvent, pushes: int) -> None:
        """Have the learner learn from a batch; ``pushes`` is their number before this event."""
        rollouts = [self._held[int(place)] for place in event.taken]
        staleness = np.asarray(event.version - event.taken_versions)
        self._staleness.append(staleness)
        self._taken.append(time.monotonic() - self._began)
        numbers = jnp.int32(pushes), jnp.int32(event.number)
        self._batches.put((self._key, *numbers, self._learner, rollouts, staleness))
        self._learns = True

    def _end_update(self, learned: _Learned) -> None:
        self._learner = self._learner._replace(params=learned.params, opt_state=learned.opt_state)
        self._reported = {name: float(x) for name, x in learned.reported.items()}
        self._learns = False

    def _report(self) -> dict[str, float]:
        found = dict(self._reported)
        found["staleness_mean"] = found.pop("staleness")
        found |= {name: float(np.mean([one[name] for one in self._used])) for name in self._used[0]}
        found["virtual_time"] = float(self._used[-1]["virtual_time"])
        return found | {"wall_time": time.monotonic() - self._began}

    def end(self) -> None:
        """Let all threads end."""
        for tasks in (*self._tasks, self._batches):
            tasks.put(None)

    def result(self) -> ActorsResult:
        """What there is."""
        queue_settings = self._asynchrony.queue
        shape = 0, queue_settings.batch_rollouts, queue_settings.parts_per_rollout
        staleness = np.array(self._staleness, np.int32) if self._staleness else np.zeros(shape, np.int32)
        params, workers = self._learner.params, self._layout.workers
        learner = self._learner._replace(
            published=params,
            snapshots=jax.tree.map(lambda x: np.broadcast_to(x, (workers, *x.shape)), params),
            queue=self._queue,
            staleness=add_to_histogram(self._learner.staleness, jnp.asarray(staleness.ravel())),
        )
        state = self._state._replace(learner=learner, iteration=jnp.int32(len(self._rows)))
        return ActorsResult(jax.device_get(state), self._metrics(), Updates(staleness, np.array(self._taken)))

    def _metrics(self) -> Metrics:
        names = (set(self._reported) - {"staleness"}) | (self._rows[0][0].keys() if self._rows else set())
        losses = {name: np.array([row[name] for row, _ in self._rows], np.float32) for name in sorted(names)}

        def sums(name: str, dtype: Any) -> np.ndarray:
            return np.array([sum(one[name] for one in all_sums) for _, all_sums in self._rows], dtype)

        frames: Any = self._layout.frames * np.arange(1, len(self._rows) + 1, dtype=np.int64)
        episodes, returns, lengths = (
            sums("episodes", np.int32),
            sums("returns", np.float32),
            sums("lengths", np.float32),
        )
        return Metrics(frames, episodes, returns, lengths, losses)  # type: ignore[arg-type]


def _simulated(
    run: _Run, asynchrony: Asynchrony, workers: int, pushes: int
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


def _real(run: _Run) -> Iterator[tuple[int, float]]:
    """The events, as they happen."""
    last = time.monotonic()
    while True:
        who, now = run.receive(), time.monotonic()
        yield who, now - last
        last = now
