"""The process of a worker. The server that starts it has imported this module, and with it everything else."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from typing import Any

import jax
from jax.experimental import serialize_executable

from purejaxrl_a3c.backend.compiling import compute_where_called
from purejaxrl_a3c.host.shared import Shared
from purejaxrl_a3c.host.vector import HostEnv
from purejaxrl_a3c.host.worker import Assignment, Programs, work
from purejaxrl_a3c.run import quiet


def save(programs: Programs) -> bytes:
    """Compiled programs as bytes, so that each process need neither trace nor compile them."""
    compiled: Any = programs
    return pickle.dumps([None if one is None else serialize_executable.serialize(one) for one in compiled])


def run(own: Assignment, programs: bytes, make_env: Callable[[int], HostEnv], shared: Shared) -> None:
    """Work in this process.

    Args:
        own: what this worker is told.
        programs: from `save`.
        make_env: makes so many environments.
        shared: the memory.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first one decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    use_one_core()
    work(own, load(programs), make_env, shared)


def use_one_core() -> None:
    """Compute on one core of the CPU. It must be called before JAX computes for the first time."""
    # Workers are processes so that each has a processor of its own; threads of XLA would take those of the others.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    jax.config.update("jax_platforms", "cpu")
    compute_where_called()


def load(programs: bytes) -> Programs:
    """What `save` has saved."""
    quiet.set_xla_level("CRITICAL")  # it was compiled on this machine; see `quiet` about the false alarms
    saved = pickle.loads(programs)
    loaded: list[Any] = [None if one is None else serialize_executable.deserialize_and_load(*one) for one in saved]
    quiet.set_xla_level("WARNING", "NOTSET")
    return Programs(*loaded)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
