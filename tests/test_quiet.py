import logging
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from purejaxrl_a3c.run import quiet
from purejaxrl_a3c.run.quiet import cache_folder, quiet_cache, quiet_orbax

# Compiles two programs, marks them in the cache as a machine with AVX-512 would, and loads them from there. XLA logs an
# error whenever it compiles, as it cannot make the folder to dump to.
PROGRAM = """
import concurrent.futures, os, re, sys, zlib
os.environ["XLA_FLAGS"] = "--xla_dump_to=/dev/null/dump"
import jax, jax.numpy as jnp
from purejaxrl_a3c.run.quiet import cache_folder, quiet_cache

jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
x = jnp.ones(4)

def phase():
    jax.clear_caches()
    print("NEXT PHASE", file=sys.stderr, flush=True)

def compile(factor):
    jax.jit(lambda x: factor * x).lower(x).compile()

def compile_both():
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        list(threads.map(compile, [2.0, 3.0]))

def mark(entry, mark=b"+prefer-no-gather,+prefer-no-scatter"):
    program = zlib.decompress(entry.read_bytes())
    features = re.search(rb"(?:[+-][a-z0-9.-]+,){20,}[+-][a-z0-9.-]+", program).group().split(b",")
    runs = (b",".join(features[i:j]) for i in range(len(features)) for j in range(i, len(features)))
    absent = next(run for run in runs if len(run) == len(mark) and b"+" not in run)
    entry.write_bytes(zlib.compress(program.replace(absent, mark)))

with quiet_cache():
    phase()
    compile_both()
try:
    for entry in cache_folder().glob("*-cache"):
        mark(entry)
except Exception as error:
    sys.exit(f"CANNOT MARK: {error!r}")
with quiet_cache():
    phase()
    compile_both()
    phase()
    compile(4.0)
phase()
compile_both()
"""

READ = "/jax/compilation_cache/compile_requests_use_cache"


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """The folder of the cache, below a new one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
    yield cache_folder()
    jax.config.update("jax_compilation_cache_dir", before)


def level():
    return jax.config.values["jax_logging_level"]


def test_only_the_alarm_at_loading_is_hidden(tmp_path):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "0"
    command = [sys.executable, "-c", PROGRAM]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    if "CANNOT MARK" in run.stderr:
        pytest.skip(run.stderr.splitlines()[-1])  # another form of cache or processor
    assert run.returncode == 0, run.stderr
    _, compiled, loaded, compiled_after, loaded_loudly = run.stderr.split("NEXT PHASE\n")
    assert "/dev/null/dump" in compiled
    assert loaded == ""
    assert "/dev/null/dump" in compiled_after
    if "cpu_aot_loader" not in loaded_loudly:
        pytest.skip("this version of XLA raises no such alarm")  # from jaxlib 0.12
    assert "prefer-no-gather" in loaded_loudly


SMALL_RUN = """
from purejaxrl_a3c.run import cli
cli.LEAST_SECONDS = 0.0  # a busy machine takes long for the smallest programs, which then are in the cache too
cli.main(["train", "--total-frames", "640", "--hidden-sizes", "4", "--evaluation-episodes", "1"])
"""


def test_a_run_whose_every_program_is_in_the_cache_raises_no_alarm(tmp_path):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    for _ in range(2):
        command = [sys.executable, "-c", SMALL_RUN]
        run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, run.stderr
        lines = run.stderr.split("\n")
        # An older rich leaves an empty line.
        assert [line.split()[0] for line in lines if line] == ["A3C", "return"], run.stderr


def test_the_level_is_raised_only_while_a_program_is_read(cache):
    loggers = [logging.getLogger(name) for name in ("jax", "jaxlib", "jax._src.compiler")]
    before = [(logger.level, logger.handlers[:], logger.filters[:]) for logger in loggers]
    with quiet_cache():
        assert level() == "NOTSET"
        jax.monitoring.record_event(READ)
        assert level() == "CRITICAL"
        assert logging.getLogger("jax").isEnabledFor(logging.WARNING)
        logging.getLogger("jax._src.compiler").debug("it was there")
        assert level() == "NOTSET"
    with quiet_cache():
        jax.monitoring.record_event(READ)  # and then it is interrupted
    assert level() == "NOTSET"
    assert before == [(logger.level, logger.handlers, logger.filters) for logger in loggers]


def test_the_users_choices_are_left_alone(cache, monkeypatch):
    with monkeypatch.context() as changes:
        changes.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
        with quiet_cache():
            jax.monitoring.record_event(READ)
            assert level() == "NOTSET"
    jax.config.update("jax_compilation_cache_dir", str(cache.parent))
    with quiet_cache():
        jax.monitoring.record_event(READ)
        assert level() == "NOTSET"


def test_of_orbax_only_what_was_asked_for_is_hidden(tmp_path, caplog):
    import orbax.checkpoint as ocp
    from absl import logging as absl_logging

    def open_to_read():
        ocp.CheckpointManager(tmp_path, options=ocp.CheckpointManagerOptions(read_only=True)).close()

    with quiet_orbax():
        open_to_read()
        absl_logging.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]
    open_to_read()
    assert len(caplog.records) > 1


def test_each_processor_has_a_cache_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.setattr(quiet, "_CPU_INFO", tmp_path / "cpuinfo")
    assert cache_folder().parent == Path("/somewhere/purejaxrl_a3c")  # without that file, as on a Mac

    def folder(megahertz, flags):
        text = f"processor : 0\nmodel name : One\ncpu MHz : {megahertz}\nflags : {flags}\n\nprocessor : 1\n"
        (tmp_path / "cpuinfo").write_text(text)
        return cache_folder()

    assert folder(2000, "avx2").parent == Path("/somewhere/purejaxrl_a3c")
    assert folder(2000, "avx2") == folder(3000, "avx2")
    assert folder(2000, "avx2") != folder(2000, "avx2 avx512f")
