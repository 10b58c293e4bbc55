"""What is told to workers that race, and what comes of them."""

from typing import Any, NamedTuple

import numpy as np

from purejaxrl_a3c.host.shared import Backend
from purejaxrl_a3c.host.store import Push
from purejaxrl_a3c.types import Metrics, State


class Pushes(NamedTuple):
    """What was measured of each push, in their order. Times are seconds since the first pull."""

    worker: np.ndarray  # int32 [N]: who pushed
    staleness: np.ndarray  # int32 [N]: pushes of others between its pull and its push
    pulled: np.ndarray  # float64 [N]: when the worker had the parameters
    ready: np.ndarray  # float64 [N]: when it had the gradient
    pushed: np.ndarray  # float64 [N]: when that was in the parameters


class AsyncResult(NamedTuple):
    """The result of `train_async`."""

    state: State  # NumPy; `host.evaluate` takes it
    metrics: Metrics  # NumPy, [I], over W pushes each; ``wall_time`` is that of the last of them
    pushes: Pushes


class WorkerError(RuntimeError):
    """A worker that could not go on, more often than was accepted.

    Attributes:
        result: the `AsyncResult` or `ActorsResult` until then; nothing that was learned is lost.
    """

    def __init__(self, message: str, result: Any) -> None:
        """Keep what was learned."""
        super().__init__(message)
        self.result = result


class Settings(NamedTuple):
    """How workers run; see `train_async`."""

    push: Push = "locked"
    backend: Backend = "processes"
    timeout: float = 60.0
    max_restarts: int = 3
    ray_address: str | None = None
