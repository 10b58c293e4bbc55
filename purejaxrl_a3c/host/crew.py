"""The workers of a run: they are started, watched, started again after a failure, and ended."""

import threading
import time
from collections.abc import Callable
from typing import Any

from purejaxrl_a3c.host import process
from purejaxrl_a3c.host import shared as memory
from purejaxrl_a3c.host.shared import Backend, Failure, Shared
from purejaxrl_a3c.host.store import give_up
from purejaxrl_a3c.host.vector import HostEnv
from purejaxrl_a3c.host.worker import Assignment, Programs, work

_LOOK_EVERY = 0.02  # seconds
_START_SECONDS = 120.0  # that a worker may take until its first step
_END_SECONDS = 5.0  # that workers are given to end by themselves


class Crew:
    """The workers of a run."""

    def __init__(
        self,
        told: list[Assignment],
        programs: Programs,
        make_env: Callable[[int], HostEnv],
        shared: Shared,
        backend: Backend,
    ) -> None:
        """Start them.

        Args:
            told: what each is told.
            programs: compiled.
            make_env: makes so many environments.
            shared: the memory, with the start of the run in it.
            backend: what workers are.
        """
        self._told, self._make_env, self._shared, self._backend = told, make_env, shared, backend
        self._programs: Any = programs if backend == "threads" else process.save(programs)
        self._now = memory.arrays(shared)
        self._workers: list[Any] = [None] * len(told)
        self._started = [0.0] * len(told)
        self._watched = int(self._now.pushes[0])
        for worker in range(len(told)):
            self._start(worker)

    def _start(self, worker: int) -> None:
        self._now.starts[worker] += 1
        self._now.alive[worker], self._started[worker] = 0, time.monotonic()
        arguments = self._told[worker], self._programs, self._make_env, self._shared
        if self._backend == "threads":
            started: Any = threading.Thread(target=work, args=arguments, daemon=True)
        else:
            started = memory.processes().Process(target=process.run, args=arguments, daemon=True)
        started.start()
        self._workers[worker] = started

    def watch(
        self, pushes: int, timeout: float, max_restarts: int, on_progress: Callable[[int], None] | None = None
    ) -> Failure | None:
        """Wait until so many pushes are made, and start workers again that fail.

        Args:
            pushes: to wait for; if they are all that the run has, also until all workers have ended.
            timeout: seconds that a step of a worker's environments may take.
            max_restarts: how often each worker is started again.
            on_progress: called now and then with the number of pushes so far.

        Returns:
            What ended the run before; None if nothing did.
        """
        while not self._done(pushes):
            time.sleep(_LOOK_EVERY)
            if on_progress is not None:
                on_progress(int(self._now.pushes[0]))
            for failure in self._failures(timeout):
                if self._now.starts[failure.worker] > max_restarts or not self._stop(failure.worker):
                    return failure
                self._start(failure.worker)
        return None

    def _done(self, pushes: int) -> bool:
        if self._now.pushes[0] < pushes or not self._now.log["pushed"][self._watched : pushes].all():
            return False
        if pushes == len(self._now.log) and any(worker.is_alive() for worker in self._workers):
            return False
        self._watched = pushes
        return True

    def _failures(self, timeout: float) -> list[Failure]:
        found = {}
        while not self._shared.failures.empty():
            failure = self._shared.failures.get()
            found[failure.worker] = failure
        complete = self._now.pushes[0] >= len(self._now.log)
        for worker, one in enumerate(self._workers):
            if worker in found:
                continue
            if not one.is_alive() and self._shared.failures.empty() and not complete:
                status = getattr(one, "exitcode", None)
                found[worker] = self._failure(worker, f"the worker ended with status {status}")
            began = self._now.alive[worker]
            patience, since = (timeout, began) if began else (_START_SECONDS, self._started[worker])
            if one.is_alive() and time.monotonic() - since > patience:
                found[worker] = self._failure(worker, f"took longer than {patience:g} s")
        return list(found.values())

    def _failure(self, worker: int, error: str) -> Failure:
        return Failure(worker, int(self._now.rollouts[worker]), int(self._now.steps[worker]), error)

    def _stop(self, worker: int) -> bool:
        """End a worker that has failed, and free what it holds; false if it cannot be ended."""
        one = self._workers[worker]
        if self._backend == "processes":
            one.kill()
        one.join(_END_SECONDS)
        if one.is_alive():
            return False
        give_up(worker, self._told[worker].push, self._shared)
        return True

    def end(self) -> None:
        """End all workers."""
        self._now.stop[0] = 1
        until = time.monotonic() + _END_SECONDS
        for one in self._workers:
            one.join(max(0.0, until - time.monotonic()))
        if self._backend == "processes":
            for one in self._workers:
                one.kill()
                one.join()
