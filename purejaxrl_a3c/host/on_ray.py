"""Workers and a parameter server as actors of Ray (Moritz et al. 2018, arXiv 1712.05889), on one machine or several.

The server is an actor that holds the parameters; Ray runs its methods one at a time, so each push is whole. Every
worker is an actor of its own. Actors on other machines than the driver compile what they need, because machines differ.
"""

import os
import platform
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.host import process
from purejaxrl_a3c.host import shared as memory
from purejaxrl_a3c.host.shared import NOBODY, Failure, Shared
from purejaxrl_a3c.host.store import Gradient, Pulled, SharedStore
from purejaxrl_a3c.host.vector import HostEnv
from purejaxrl_a3c.host.worker import Assignment, Programs, act_and_push

_LOOK_EVERY = 0.1  # seconds
_START_SECONDS = 300.0  # that a worker may take until its first step, for which it waits for the others


class Plan(NamedTuple):
    """What actors are made of."""

    compile: Callable[[], tuple[Programs, list[str]]]
    compiled: bytes  # for machines like that of the driver, from `process.save`
    machine: str  # the driver's
    make_env: Callable[[int], HostEnv]
    params: np.ndarray  # [P], at the start
    opt_state: list[np.ndarray]
    log: Any  # the type of the log
    num_pushes: int  # of the whole run
    rollouts: int  # that every worker has done before


def programs_of(plan: Plan) -> Programs:
    """The programs, compiled for this machine: only the driver's takes those of the driver."""
    return process.load(plan.compiled) if plan.machine == platform.node() else plan.compile()[0]


class News(NamedTuple):
    """What the server tells of the pushes after some number."""

    rows: np.ndarray  # of the log
    params: np.ndarray
    opt_state: list[np.ndarray]
    rollouts: np.ndarray  # int64 [W]


class Server:
    """The actor that holds the parameters."""

    def __init__(self, plan: Plan, num_workers: int) -> None:
        """Compile, and begin with what ``plan`` says."""
        process.use_one_core()
        shared = memory.allocate("threads", num_workers, plan.params, plan.opt_state, plan.num_pushes, plan.log)
        self._now = memory.arrays(shared)
        memory.start(self._now, plan.params, plan.opt_state, plan.rollouts)
        push = programs_of(plan).push
        self._stores = [SharedStore(worker, "locked", push, shared) for worker in range(num_workers)]
        self._pulled: list[Pulled | None] = [None] * num_workers

    def begin(self, worker: int) -> Pulled:
        """The first pull of a worker."""
        self._now.begun[worker] = 1
        self._pulled[worker] = pulled = self._stores[worker].pull()
        return pulled

    def may_work(self, worker: int) -> bool:
        """Whether every worker has pulled; if so, the time of this one begins."""
        pulled = self._pulled[worker]
        assert pulled is not None
        self._pulled[worker] = pulled._replace(time=time.monotonic())
        return bool(self._now.begun.all())

    def push(self, worker: int, vector: np.ndarray, reports: np.ndarray, sums: np.ndarray) -> Pulled | None:
        """Push, and pull what comes of it; None if the run is complete."""
        pulled = self._pulled[worker]
        assert pulled is not None
        gradient = Gradient(vector, time.monotonic(), reports, sums)  # clocks of machines differ; this is when it came
        self._pulled[worker] = new = self._stores[worker].push(pulled, gradient)
        return new

    def news(self, since: int) -> News:
        """What has happened after so many pushes."""
        now = self._now
        rows = now.log[since : now.pushes[0]].copy()
        return News(rows, now.params.copy(), [leaf.copy() for leaf in now.opt_state], now.rollouts.copy())


class RemoteStore:
    """The server as one worker sees it."""

    def __init__(self, worker: int, starts: int, server: Any) -> None:
        """For one worker, which was started so often."""
        self._me, self.starts, self._server = worker, starts, server
        self.step, self.rollout, self.alive = 0, 0, 0.0

    def begin(self) -> Pulled | None:
        """As of `store.Store`."""
        import ray

        pulled = ray.get(self._server.begin.remote(self._me))
        while not ray.get(self._server.may_work.remote(self._me)):
            time.sleep(0.02)
        self.rollout = pulled.rollout
        return pulled

    def at(self, step: int) -> None:
        """As of `store.Store`."""
        self.step, self.alive = step, time.monotonic()

    def push(self, pulled: Pulled, gradient: Gradient) -> Pulled | None:
        """As of `store.Store`."""
        import ray

        self.alive = np.inf  # whatever the server takes
        sent = self._server.push.remote(self._me, gradient.vector, gradient.reports, gradient.sums)
        new = ray.get(sent)
        if new is not None:
            self.rollout = new.rollout
        return new


class Worker:
    """The actor that acts."""

    def __init__(self, own: Assignment, plan: Plan, starts: int, server: Any, timeout: float) -> None:
        """Compile; arguments are as of `Workers`."""
        process.use_one_core()
        self._own, self._make_env, self._timeout = own, plan.make_env, timeout
        self._programs = programs_of(plan)
        self._store = RemoteStore(own.worker, starts, server)

    def process(self) -> int:
        """The number of the actor's process."""
        return os.getpid()

    def work(self) -> Failure | None:
        """Work until the run is complete, or until something goes wrong."""
        threading.Thread(target=self._end_if_it_hangs, daemon=True).start()
        try:
            act_and_push(self._own, self._programs, self._make_env, self._store)
        except Exception as error:  # whatever an environment may raise
            return Failure(self._own.worker, self._store.rollout, self._store.step, f"{type(error).__name__}: {error}")
        return None

    def _end_if_it_hangs(self) -> None:
        began = time.monotonic()
        while True:
            alive = self._store.alive
            since, patience = (alive, self._timeout) if alive else (began, _START_SECONDS)
            if time.monotonic() - since > patience:
                os._exit(1)
            time.sleep(_LOOK_EVERY)


class Workers:
    """The workers of a run; as `crew.Crew`."""

    def __init__(self, told: list[Assignment], plan: Plan, shared: Shared, timeout: float, address: str | None) -> None:
        """Start them.

        Args:
            told: what each is told.
            plan: what actors are made of.
            shared: memory of this process, which is kept as the server's is.
            timeout: seconds that a step of a worker's environments may take.
            address: of a cluster; None: Ray is started on this machine, if it does not run yet.
        """
        ray = _ray()
        self._own_ray = not ray.is_initialized()
        if self._own_ray:
            cores = {} if address else {"num_cpus": max(len(told), os.cpu_count() or 1)}
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level="ERROR", **cores)
        self._told, self._plan, self._timeout, self._now = told, plan, timeout, memory.arrays(shared)
        self._server = ray.remote(num_cpus=0)(Server).remote(plan, len(told))
        self._actors: list[Any] = [None] * len(told)
        self._working: dict[Any, int] = {}
        for worker in range(len(told)):
            self._start(worker)

    def _start(self, worker: int) -> None:
        self._now.starts[worker] += 1
        starts = int(self._now.starts[worker])
        made = _ray().remote(num_cpus=1)(Worker)
        self._actors[worker] = made.remote(self._told[worker], self._plan, starts, self._server, self._timeout)
        self._working[self._actors[worker].work.remote()] = worker

    def processes(self) -> list[int]:
        """The numbers of the workers' processes, when they run."""
        return _ray().get([actor.process.remote() for actor in self._actors])

    def watch(
        self, pushes: int, timeout: float, max_restarts: int, on_progress: Callable[[int], None] | None = None
    ) -> Failure | None:
        """As of `crew.Crew`."""
        del timeout  # workers look after it
        ray = _ray()
        while self._now.pushes[0] < pushes or (pushes == len(self._now.log) and self._working):
            ended, _ = ray.wait(list(self._working), timeout=_LOOK_EVERY) if self._working else ([], None)
            try:
                self._read_news()
            except ray.exceptions.RayError as error:
                return Failure(NOBODY, 0, 0, f"the parameter server is lost: {_first_line(error)}")
            if on_progress is not None:
                on_progress(int(self._now.pushes[0]))
            for one in ended:
                worker = self._working.pop(one)
                failure = self._failure_of(one, worker)
                if failure is not None:
                    if self._now.starts[worker] > max_restarts:
                        return failure
                    ray.kill(self._actors[worker])
                    self._start(worker)
        return None

    def _failure_of(self, ended: Any, worker: int) -> Failure | None:
        try:
            return _ray().get(ended)
        except _ray().exceptions.RayError as error:
            if self._now.pushes[0] >= len(self._now.log):
                return None
            said = f"the worker was lost, or a step took longer than {self._timeout:g} s: {_first_line(error)}"
            return Failure(worker, int(self._now.rollouts[worker]), 0, said)

    def _read_news(self) -> None:
        now = self._now
        since = int(now.pushes[0])
        news: News = _ray().get(self._server.news.remote(since))
        memory.write(now, news.params, news.opt_state)
        now.rollouts[:] = news.rollouts
        now.log[since : since + len(news.rows)] = news.rows
        now.pushes[0] = since + len(news.rows)

    def end(self) -> None:
        """End all actors, and Ray if it was started here."""
        ray = _ray()
        if not ray.is_initialized():
            return
        for actor in [*self._actors, self._server]:
            ray.kill(actor)
        if self._own_ray:
            ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        reject("backend", "ray", "one of the others, or installed: pip install 'purejaxrl-a3c[ray]'")
    return ray


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
