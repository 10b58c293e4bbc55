"""Where workers get parameters from, and what they push into: memory that they share."""

import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

from purejaxrl_a3c.host import shared as memory
from purejaxrl_a3c.host.shared import NOBODY, Shared

Push: TypeAlias = Literal["locked", "hogwild", "in_turn"]
"""How a worker changes the shared parameters: holding a lock while it does; without one, so that pushes of others may
come between (Recht et al. 2011, arXiv 1106.5730); or locked and in the order of the workers' numbers, for which each
waits."""

_PATIENCE = 0.2  # seconds between looks at whether the run is to end


class Pulled(NamedTuple):
    """What a worker acts with."""

    version: int  # pushes of all workers before
    params: np.ndarray  # [P]
    time: float  # of the pull
    rollout: int  # of this worker: the number of that which comes now


class Gradient(NamedTuple):
    """What a worker has computed."""

    vector: np.ndarray  # [P]
    ready: float  # when, by `time.monotonic`
    reports: np.ndarray  # float32 [K]
    sums: np.ndarray  # float32 [3], see `episode_sums`


class Store(Protocol):
    """The parameters as one worker sees them."""

    starts: int
    """How often this worker was started."""

    def begin(self) -> Pulled | None:
        """The first pull, when all workers are ready for theirs; None if the run is to end."""
        ...

    def at(self, step: int) -> None:
        """Say that the worker is alive, and at this step of its rollout."""
        ...

    def push(self, pulled: Pulled, gradient: Gradient) -> Pulled | None:
        """Push, and pull what comes of it; None if the run is to end."""
        ...


class SharedStore:
    """Parameters in memory that the workers of one machine share."""

    def __init__(self, worker: int, push: Push, apply: Callable[..., Any], shared: Shared) -> None:
        """For one worker.

        Args:
            worker: its number.
            push: how it pushes.
            apply: (params, opt_state, gradient, staleness, pulled) -> (params, opt_state), or with hogwild what is to
                be added to them.
            shared: the memory.
        """
        self._me, self._how, self._apply, self._shared = worker, push, apply, shared
        self._now = memory.arrays(shared)
        self.starts = int(self._now.starts[worker])

    def begin(self) -> Pulled | None:
        """As of `Store`."""
        with self._shared.lock:
            pulled = self.pull()
        self._now.begun[self._me] = 1
        while not (self._now.begun.all() or self._now.stop[0]):
            time.sleep(0.001)  # all begin together and with the same parameters, as they do where workers are simulated
        return None if self._now.stop[0] else pulled._replace(time=time.monotonic())

    def at(self, step: int) -> None:
        """As of `Store`."""
        self._now.steps[self._me], self._now.alive[self._me] = step, time.monotonic()

    def push(self, pulled: Pulled, gradient: Gradient) -> Pulled | None:
        """As of `Store`."""
        now, me = self._now, self._me
        if now.stop[0] or not self._enter():
            return None
        number = int(now.pushes[0])
        if number >= len(now.log):
            self.leave()
            return None
        staleness = number - pulled.version
        if self._how == "hogwild":
            now.pushing_number[me] = number
            now.pushes[0] = number + 1
            self.leave()  # only pushes are numbered under the lock
        opt_state = [leaf.copy() for leaf in now.opt_state]
        after = self._apply(now.params.copy(), opt_state, gradient.vector, np.int32(staleness), pulled.params)
        (memory.add if self._how == "hogwild" else memory.write)(now, *after)
        row = me, staleness, pulled.time, gradient.ready, time.monotonic(), gradient.reports, gradient.sums
        now.log[number] = row
        now.pushing_number[me] = NOBODY
        now.rollouts[me] += 1
        now.pushes[0] += self._how != "hogwild"
        new = self.pull()
        if now.pushing[0] == me:
            self.leave()
        return new

    def leave(self) -> None:
        """Let others push."""
        self._now.pushing[0] = NOBODY
        self._shared.lock.release()
        if self._how == "in_turn":
            self._shared.turns[(self._me + 1) % len(self._shared.turns)].release()

    def pull(self) -> Pulled:
        """What a worker acts with now."""
        now = self._now
        return Pulled(int(now.pushes[0]), now.params.copy(), time.monotonic(), int(now.rollouts[self._me]))

    def _enter(self) -> bool:
        """Wait until this worker may push; false if the run is to end first."""
        gates = [self._shared.turns[self._me]] if self._how == "in_turn" else []
        for gate in [*gates, self._shared.lock]:
            while not gate.acquire(timeout=_PATIENCE):
                self._now.alive[self._me] = time.monotonic()
                if self._now.stop[0]:
                    return False
        self._now.pushing[0] = self._me
        return True


def give_up(worker: int, push: Push, shared: Shared) -> None:
    """Free what a worker holds that has failed."""
    now = memory.arrays(shared)
    if now.pushing[0] == worker:
        now.pushing[0] = NOBODY
        shared.lock.release()
        if push == "in_turn":
            shared.turns[worker].release()  # it is still the turn of this worker
    number = now.pushing_number[worker]
    if number != NOBODY and not now.log["pushed"][number]:
        row = now.log[number : number + 1]
        row["worker"], row["pushed"] = NOBODY, time.monotonic()
    now.pushing_number[worker] = NOBODY
