"""Memory of short and of long runs: what a program holds must not grow with the number of frames.

``python -m benchmarks.memory`` trains each algorithm in processes of their own, as the command line does, and reports
the most memory that each process ever held.
"""

import json
import subprocess
import sys

import tyro

from benchmarks.record import markdown_table, save

PROGRAM = """
import json, resource, sys
import jax
from purejaxrl_a3c import {name}, replace
from purejaxrl_a3c.run.chunks import compile_run, run_in_chunks
run = compile_run(replace({name}.Config(), {settings}, total_frames=int(sys.argv[1])))
for result in run_in_chunks(run, jax.random.key(0)):
    pass
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))  # Linux counts kilobytes
"""
SETTINGS = {"a2c": "num_envs=64", "a3c": "envs_per_worker=4", "ppo": "num_envs=64"}


def peak(name, frames):
    """Bytes that a process of a run held at most."""
    program = PROGRAM.format(name=name, settings=SETTINGS[name])
    ran = subprocess.run([sys.executable, "-c", program, str(frames)], capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


def main(frames: tuple[int, ...] = (1_000_000, 10_000_000)):
    """Measure and write results/memory.json and results/memory.md.

    Args:
        frames: of the runs.
    """
    found = {name: {n: peak(name, n) for n in frames} for name in SETTINGS}
    rows = [[name.upper(), *(f"{by[n] / 1e6:,.0f}" for n in frames)] for name, by in found.items()]
    table = (
        "Megabytes that the process of a run on CartPole-v1 held at most, JAX itself and the compiler included.\n\n"
        + markdown_table(["64 environments", *(f"{n:,} frames" for n in frames)], rows)
    )
    save("memory", {"bytes": found}, table)


if __name__ == "__main__":
    tyro.cli(main)
