"""Memory that several workers read and write, be they processes or threads."""

import ctypes
import multiprocessing
import queue
import threading
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

Backend: TypeAlias = Literal["processes", "threads", "ray"]
"""What a worker is: a process or a thread of this machine, or an actor of Ray, also on others."""

NOBODY = -1


class Shared(NamedTuple):
    """What workers share. ``memory`` is one block of bytes; `arrays` are views of it."""

    memory: Any
    layout: tuple[tuple[str, tuple[int, ...], Any], ...]  # name, shape, dtype
    lock: Any  # of the parameters and the counts
    turns: Sequence[Any]  # a semaphore for each worker
    failures: Any  # a queue of `Failure`


class Failure(NamedTuple):
    """What a worker could not cope with."""

    worker: int
    rollout: int  # of the worker, from 0
    step: int  # of that rollout, from 0
    error: str


class Arrays(NamedTuple):
    """Views of the memory."""

    params: np.ndarray  # float32 [P]
    opt_state: list[np.ndarray]  # the leaves of the optimizer's state
    pushes: np.ndarray  # int64 [1]: pushes so far, of all workers
    pushing: np.ndarray  # int64 [1]: the worker that holds the lock or has the turn, or NOBODY
    stop: np.ndarray  # int64 [1]: not 0 if workers are to end
    begun: np.ndarray  # int64 [W]: 1 for a worker that has pulled
    rollouts: np.ndarray  # int64 [W]: that each worker has pushed
    starts: np.ndarray  # int64 [W]: how often each worker was started
    steps: np.ndarray  # int64 [W]: of the rollout that a worker is in
    pushing_number: np.ndarray  # int64 [W]: of the push that a worker makes without holding the lock, or NOBODY
    alive: np.ndarray  # float64 [W]: when each worker last took a step, by `time.monotonic`; 0 before the first
    log: np.ndarray  # [pushes of the whole run], of `log_type`


def log_type(num_reports: int) -> np.dtype:
    """The type of what is written down of a push. Times are those of `time.monotonic`, in seconds."""
    return np.dtype(
        [
            ("worker", np.int32),
            ("staleness", np.int32),
            ("pulled", np.float64),
            ("ready", np.float64),  # the gradient
            ("pushed", np.float64),
            ("reports", np.float32, (num_reports,)),
            ("sums", np.float32, (3,)),  # see `episode_sums`
        ]
    )


def allocate(
    backend: Backend, num_workers: int, params: Any, opt_state: list[Any], num_pushes: int, log: Any
) -> Shared:
    """Memory for a run, all zero.

    Args:
        backend: what workers are.
        num_workers: ``W``.
        params: an array ``[P]``, of which the shape is taken.
        opt_state: arrays, likewise.
        num_pushes: of the whole run.
        log: the type of the log, from `log_type`.
    """
    layout = (
        ("params", params.shape, np.dtype(params.dtype)),
        *((f"opt_state_{i}", x.shape, np.dtype(x.dtype)) for i, x in enumerate(opt_state)),
        *((name, (1,), np.dtype(np.int64)) for name in ("pushes", "pushing", "stop")),
        *(
            (name, (num_workers,), np.dtype(np.int64))
            for name in ("begun", "rollouts", "starts", "steps", "pushing_number")
        ),
        ("alive", (num_workers,), np.dtype(np.float64)),
        ("log", (num_pushes,), log),
    )
    size = sum(_size(shape, dtype) for _, shape, dtype in layout)
    if backend != "processes":  # with Ray this process keeps what the server tells
        turns = [threading.Semaphore(0) for _ in range(num_workers)]
        return Shared(np.zeros(size, np.uint8), layout, threading.Lock(), turns, queue.Queue())
    context = processes()
    turns = [context.Semaphore(0) for _ in range(num_workers)]
    memory = context.RawArray(ctypes.c_byte, size)
    return Shared(memory, layout, context.Lock(), turns, context.SimpleQueue())


def processes() -> Any:
    """How processes are started: from a server that has imported everything and has no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["purejaxrl_a3c.host.process"])
    return context


def arrays(shared: Shared) -> Arrays:
    """The arrays in the memory."""
    views, start = {}, 0
    for name, shape, dtype in shared.layout:
        count = int(np.prod(shape))
        views[name] = np.frombuffer(shared.memory, dtype, count, start).reshape(shape)
        start += _size(shape, dtype)
    opt_state = [views.pop(name) for name in list(views) if name.startswith("opt_state_")]
    return Arrays(opt_state=opt_state, **views)


def _size(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Bytes, rounded up so that the next array begins at a multiple of a cache line."""
    return -(-int(np.prod(shape)) * dtype.itemsize // 64) * 64


def start(arrays: Arrays, params: Any, opt_state: list[Any], rollouts: int = 0) -> None:
    """The start of a run, or of its continuation after so many rollouts of every worker."""
    write(arrays, params, opt_state)
    arrays.rollouts[:] = rollouts
    arrays.pushes[0] = rollouts * arrays.rollouts.size
    arrays.pushing[0] = NOBODY
    arrays.pushing_number[:] = NOBODY


def write(arrays: Arrays, params: Any, opt_state: list[Any]) -> None:
    """Write parameters and the optimizer's state into the memory."""
    np.copyto(arrays.params, params)
    for there, new in zip(arrays.opt_state, opt_state, strict=True):
        np.copyto(there, new)


def add(arrays: Arrays, params: Any, opt_state: list[Any]) -> None:
    """Add to parameters and the optimizer's state, number by number, while others may do the same."""
    for there, difference in zip([arrays.params, *arrays.opt_state], [params, *opt_state], strict=True):
        np.add(there, difference, out=there)
