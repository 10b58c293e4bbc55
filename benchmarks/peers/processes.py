"""Runs of ours and of peers, each in a process and an environment of its own."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.peers.protocol import Task, arguments

FOLDER = Path(__file__).parent


OURS = ("ours", "ours_outside")
"""Scripts of ours, the second for environments outside of JAX."""


class Unavailable(Exception):
    """The environment of a peer cannot be made here."""


def interpreter(script: str):
    """The Python that runs ``SCRIPT.py``: ours is this one, a peer's that of the environment that its header asks for.

    uv makes that environment if need be. The script then runs without uv, whose own time is not the peer's.
    """
    if script in OURS:
        python = sys.executable
    else:
        uv(["sync", "--script", _path(script)])
        python = uv(["python", "find", "--script", _path(script)]).strip()
    compile_sources(python)
    return python


@functools.cache
def compile_sources(python: str):
    """Compile the Python sources of what is installed, as a first start does for all that come after it.

    Where ``PYTHONDONTWRITEBYTECODE`` is set no start does, and importing JAX takes four times as long, every time.
    """
    program = "import compileall, sys, sysconfig; [compileall.compile_dir(folder, quiet=2, workers=0) for folder in "
    program += "(sysconfig.get_path('purelib'), *sys.argv[1:])]"
    subprocess.run([python, "-c", program, str(FOLDER.parents[1] / "purejaxrl_a3c"), str(FOLDER)], check=True)


def uv(command):
    try:
        run = subprocess.run(["uv", *command], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Unavailable("there is no uv") from error
    if run.returncode:
        raise Unavailable(run.stderr.strip())
    return run.stdout


def train(script: str, python: str, task: Task):
    """What the script answers after a run of ``task``, as a dict."""
    # Everything on the CPU, where all of them run, and nothing from a cache of compiled programs.
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parents[1]), "JAX_PLATFORMS": "cpu"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    if task.memory_schedule:
        environment["XLA_FLAGS"] = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
    options = arguments(dataclasses.replace(task, launched=time.time()))
    run = subprocess.run(
        [python, _path(script), *options], env=environment, capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise RuntimeError(f"{script}.py {' '.join(options)}\n{run.stderr}")
    return json.loads(run.stdout.splitlines()[-1])


def _path(script):
    return str(FOLDER / f"{script}.py")
