"""Keep false alarms of JAX's dependencies off standard error, and the wrong programs out of the cache."""

import contextlib
import hashlib
import importlib.metadata
import logging
import os
import platform
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

# XLA logs as an error that the processor lacks the features prefer-no-gather and prefer-no-scatter whenever it reads a
# program that it compiled for AVX-512 from the cache: they are settings of its compiler (jax issue 38445). Its log can
# only be cut by level, in the whole process. So the level is raised for as long as a program is being read from
# `cache_folder`, which holds none for other processors. Other failures to read one come as exceptions, fatal errors are
# still logged, and what is not in the cache is compiled at the usual level. Filtering file descriptor 2 would be less
# safe: a thread loses the last words of a process that crashes, and deadlocks when C++ fills the pipe while it holds
# the interpreter's lock; a child process does neither, but hides the terminal from progress bars.
_READ_EVENT = "/jax/compilation_cache/compile_requests_use_cache"  # recorded before a program is read
_COMPILER_LOGGER = "jax._src.compiler"  # says next, at level DEBUG, whether the program was there

_ORBAX_READ_ONLY = ("CheckpointManagerOptions.read_only=True, setting", "Given directory is read only")

_CPU_INFO = Path("/proc/cpuinfo")
_CPU_FIELDS = {
    *("vendor_id", "cpu family", "model", "model name", "flags"),  # x86
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),  # Arm
}


@contextlib.contextmanager
def quiet_cache() -> Iterator[None]:
    """Hide XLA's false alarms about programs that are read from `cache_folder` on the CPU.

    Does nothing with another cache, or with a log level of ``JAX_LOGGING_LEVEL`` or ``TF_CPP_MIN_LOG_LEVEL``.
    """
    folder, level = (jax.config.values[name] for name in ("jax_compilation_cache_dir", "jax_logging_level"))
    if (folder, level, os.environ.get("TF_CPP_MIN_LOG_LEVEL")) != (str(cache_folder()), "NOTSET", "1"):
        return (yield)
    compiler = logging.getLogger(_COMPILER_LOGGER)
    own_level, shown_level = compiler.level, compiler.getEffectiveLevel()
    lock, reading = threading.Lock(), set[int]()  # the threads that read a program

    def begin(event: str, **_: Any) -> None:
        if event == _READ_EVENT and end_at in compiler.filters and jax.default_backend() == "cpu":
            with lock:
                reading.add(threading.get_ident())
                compiler.setLevel(logging.DEBUG)
                set_xla_level("CRITICAL")

    def end(threads: set[int]) -> None:
        with lock:
            if reading & threads:
                reading.difference_update(threads)
                if not reading:
                    compiler.setLevel(own_level)
                    set_xla_level("WARNING", "NOTSET")  # JAX's defaults, the first for C++, the second for Python

    def end_at(record: logging.LogRecord) -> bool:
        end({threading.get_ident()})
        return record.levelno >= shown_level

    jax.monitoring.register_event_listener(begin)  # for good: before 0.9, JAX cannot unregister it
    compiler.addFilter(end_at)
    try:
        yield
    finally:
        compiler.removeFilter(end_at)
        end(set(reading))  # some are left if it was interrupted


@contextlib.contextmanager
def without_cache() -> Iterator[None]:
    """Compile without JAX's cache of compiled programs.

    A program that was read from it loses parts of itself when it is serialized anew: on the CPU its functions are not
    found where that is loaded (jaxlib 0.10.1).
    """
    name = "jax_enable_compilation_cache"
    if not jax.config.values[name]:  # its folder says nothing: JAX goes on using one that it has opened
        return (yield)
    try:
        jax.config.update(name, False)
        compilation_cache.reset_cache()  # it looks at the setting only once
        yield
    finally:
        jax.config.update(name, True)
        compilation_cache.reset_cache()


def set_xla_level(*levels: str) -> None:
    """Set the level of XLA's log, and leave JAX's Python loggers as they are."""
    loggers = [logging.getLogger(name) for name in ("jax", "jaxlib")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    for level in levels:
        jax.config.update("jax_logging_level", level)
    for logger, python_level, handlers in before:
        logger.setLevel(python_level)
        logger.handlers[:] = handlers


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Hide orbax's warnings that a folder opened only for reading is opened only for reading."""
    from absl import logging as absl_logging  # comes with orbax, which is imported as late

    def wanted(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(_ORBAX_READ_ONLY)

    logger = absl_logging.get_absl_logger()
    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


def cache_folder() -> Path:
    """The folder for compiled programs in the user's cache: one for each type of processor and version of jaxlib.

    A program compiled for one processor can crash on another that shares the home folder.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    machine = (*_processor(), platform.system(), platform.machine(), importlib.metadata.version("jaxlib"))
    return cache / "purejaxrl_a3c" / hashlib.sha256("\n".join(machine).encode()).hexdigest()[:12]


def _processor() -> list[str]:
    """Model and features of the first processor on Linux, the model elsewhere."""
    try:
        lines = _CPU_INFO.read_text().split("\n\n")[0].splitlines()
    except OSError:
        return [platform.processor()]
    return sorted(line for line in lines if line.partition(":")[0].strip() in _CPU_FIELDS)
