"""A run of actors and a learner: its threads, what they have told, and what was measured."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.host import actor
from purejaxrl_a3c.host.actor import Failure, Part, Programs, Task
from purejaxrl_a3c.host.compiled import check_env, env_key, make_init
from purejaxrl_a3c.host.results import WorkerError
from purejaxrl_a3c.host.vector import HostEnv
from purejaxrl_a3c.loops.outside import Outside
from purejaxrl_a3c.types import Key, Metrics, Pretrained, State
from purejaxrl_a3c.updates import Asynchrony
from purejaxrl_a3c.updates import queue as schedule
from purejaxrl_a3c.updates.queue import QueueEvent
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


class Setup(NamedTuple):
    """What runs of one config are made of, compiled."""

    outside: Outside
    asynchrony: Asynchrony
    make_env: Callable[[], HostEnv]  # of one actor
    init: Callable[[Key], State]
    state: Any  # its shapes and dtypes
    programs: Programs
    learned: list[str]  # names of what the learner reports
    reported: list[str]  # names of what every row of the metrics has


def set_up(
    outside: Outside, asynchrony: Asynchrony, make_env: Callable[[], HostEnv], pretrained: Pretrained | None = None
) -> Setup:
    """The `Setup` of an algorithm, after looking at the environments of one actor.

    Args:
        outside: an algorithm with a queue, without its environments.
        asynchrony: its `Asynchrony`.
        make_env: makes the environments of one actor.
        pretrained: what runs begin with; None: parameters of their own.

    Raises:
        InputError: if the environments are not as the algorithm expects them.
    """
    env, workers = make_env(), outside.acting.layout.workers
    try:
        check_env(outside, env, outside.acting.layout.envs)
        obs = env.reset(0)
    finally:
        env.close()
    everywhere = jax.tree.map(lambda x: np.broadcast_to(x, (workers, *x.shape)), obs)
    lowered = jax.jit(make_init(outside)).lower(jax.random.key(0), everywhere, pretrained)
    init, learner = lowered.compile(), lowered.out_info.learner
    one_actor = jax.tree.map(lambda x: x[None], obs)
    programs, learned, used = actor.compile_programs(outside, asynchrony, learner, learner.queue, one_actor)
    reported = {*learned, *used, "staleness_mean", "wall_time"} - {"staleness"}
    return Setup(
        outside,
        asynchrony,
        make_env,
        lambda key: init(key, everywhere, pretrained),
        lowered.out_info,
        programs,
        learned,
        sorted(reported),
    )


def first_seed(setup: Setup, key_init: Key) -> int:
    """The seed of the first environment, in a run whose state is made with this key."""
    return int(jax.random.randint(env_key(key_init), (), 0, 2**31 - 1 - setup.outside.acting.layout.total_envs))


def metrics_of(setup: Setup, rows: list[tuple[dict[str, float], Any]], done: int) -> Metrics:
    """The metrics of these iterations, the last of which is number ``done``, NumPy ``[rows]``."""
    losses = {name: np.array([row[name] for row, _ in rows], np.float32) for name in setup.reported}

    def sums(name: str, dtype: Any) -> np.ndarray:
        return np.array([sum(one[name] for one in all_sums) for _, all_sums in rows], dtype)

    numbers = np.arange(done - len(rows) + 1, done + 1, dtype=np.int64)
    frames: Any = setup.outside.acting.layout.frames * numbers
    found = sums("episodes", np.int32), sums("returns", np.float32), sums("lengths", np.float32)
    return Metrics(frames, *found, losses)  # type: ignore[arg-type]


class _Learned(NamedTuple):
    """An update that the learner has ended."""

    params: Any
    opt_state: Any
    reported: dict[str, jax.Array]


class Run:
    """A run: its threads, what they have told, and what was measured. Actors are called by number."""

    def __init__(self, setup: Setup, key: Key, state: Any, seed: int, timeout: float, max_restarts: int) -> None:
        """Go on from ``state``, with environments in new episodes and nothing in the queue.

        Args:
            setup: from `set_up`.
            key: of the run.
            state: of an iteration of the run.
            seed: of the first environment.
            timeout: seconds in which somebody must do something.
            max_restarts: how often an actor is started again after an error.
        """
        self._setup, self._key, self._state, self._seed = setup, key, state, seed
        self._layout, self._programs = setup.outside.acting.layout, setup.programs
        self._timeout, self._max_restarts = timeout, max_restarts
        workers, self._done = self._layout.workers, int(state.iteration)
        self._pushes, self._total = self._done * workers, self._layout.iterations * workers  # parts of rollouts
        self._learner = state.learner
        self._queue = self._learner.queue if not self._done else _empty(setup, self._learner.queue)
        self._published = self._learner.params
        self._reported = dict.fromkeys(setup.learned, 0.0)  # of the last update
        self._tasks: list[queue.Queue[Task | None]] = [queue.Queue() for _ in range(workers)]
        self._batches: queue.Queue[Any] = queue.Queue()
        self._told: queue.Queue[Part | _Learned | Failure] = queue.Queue()
        self._arrived: dict[int, Any] = {}  # what was told and has not had its turn, by who told it
        self._given: list[Task | None] = [None] * workers  # the last task of each actor
        self._failures, self._learns = [0] * workers, False
        self._tasks_given = [self._done] * workers
        self._parts: list[list[Any]] = [[] for _ in range(workers)]  # of unfinished rollouts
        self._held: dict[int, list[Any]] = {}  # finished rollouts by their place
        self._sums: list[Any] = []  # since the last row, as the next ones
        self._used: list[dict[str, np.ndarray]] = []
        self._rows: list[tuple[dict[str, float], Any]] = []  # since the last result
        self._staleness: list[np.ndarray] = []
        self._taken: list[float] = []

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
        arguments = worker, self._key, self._programs, self._setup.make_env, seed, layout.rollout_length
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
        return WorkerError(f"{self._setup.outside.origin.env_name}: {text}", self.result())

    def wait_for(self, who: int) -> None:
        """Wait until this one has told something that has not had its turn."""
        while who not in self._arrived:
            self.receive()

    def go(
        self, events: Iterator[tuple[int, float]], count: int, on_progress: Callable[[int], None] | None = None
    ) -> None:
        """Let events happen until so many more iterations are done.

        Args:
            events: who ends something, and how much time has passed since the last event.
            count: iterations, of as many parts of rollouts as there are actors.
            on_progress: called after every iteration.
        """
        end = self._done + count
        for who, passed in events:
            before = self._pushes
            self._happen(who, passed)
            if self._pushes > before and self._pushes % self._layout.workers == 0:
                self._rows.append((self._report(), jax.device_get(self._sums)))
                self._sums, self._used, self._done = [], [], self._done + 1
                if on_progress is not None:
                    on_progress(self._done * self._layout.frames)
            if self._done == end:
                break
        if self._learns and self._pushes == self._total:
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
            if event.version % self._setup.asynchrony.queue.publish_every == 0:
                self._published = self._learner.params
        else:
            self._pushes += 1
            self._used.append(used)
            self._sums.append(self._programs.sums(actor.rows_to_sum(told.rollouts)))
            self._parts[who].append((told.rollouts, told.carry))
            if len(self._parts[who]) == self._setup.asynchrony.queue.parts_per_rollout:
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
        """What there is; the metrics are those since the last call."""
        settings = self._setup.asynchrony.queue
        shape = 0, settings.batch_rollouts, settings.parts_per_rollout
        staleness = np.array(self._staleness, np.int32) if self._staleness else np.zeros(shape, np.int32)
        params, workers = self._learner.params, self._layout.workers
        learner = self._learner._replace(
            published=params,
            snapshots=jax.tree.map(lambda x: np.broadcast_to(x, (workers, *x.shape)), params),
            queue=self._queue,
            staleness=add_to_histogram(jnp.asarray(self._learner.staleness), jnp.asarray(staleness.ravel())),
        )
        state = self._state._replace(learner=learner, iteration=jnp.int32(self._done))
        metrics, self._rows = metrics_of(self._setup, self._rows, self._done), []
        return ActorsResult(jax.device_get(state), metrics, Updates(staleness, np.array(self._taken)))


def _empty(setup: Setup, state: schedule.QueueState) -> schedule.QueueState:
    """A queue in which nothing waits, at the time of ``state``."""
    settings = setup.asynchrony
    empty = schedule.start(settings.queue, settings.service, setup.outside.acting.layout.workers)
    return empty._replace(now=state.now, busy_workers=state.busy_workers, busy_learner=state.busy_learner)
