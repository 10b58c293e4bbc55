"""How long one waits: for the import, and from the shell to the first result of ``purejaxrl-a3c train``.

``python -m benchmarks.first_result`` measures fresh processes, in turn: ``import jax`` alone and ``import
purejaxrl_a3c``; and the command with its defaults, until the first line of ``metrics.csv``, with an empty cache of
compiled programs and once more with what that has left in it. Python's sources are compiled before, as after any first
start.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro

from benchmarks.peers.processes import compile_sources
from benchmarks.record import markdown_table, save, spread

IMPORTS = ("import jax", "import purejaxrl_a3c")
ALGORITHMS = ("a3c", "a2c", "ppo", "dqn", "sac")


def seconds_of(program: str) -> float:
    """Seconds of a fresh process that runs this program, less those of an empty one."""
    times = []
    for text in ("pass", program):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", text], check=True)
        times.append(time.perf_counter() - began)
    return times[1] - times[0]


def seconds_to_first_result(algorithm: str, cache: Path, patience: float = 120.0) -> float:
    """Seconds from the start of the command to the first measured line in its folder; the run is ended then.

    Raises:
        RuntimeError: if the command ends before, or there is none for so many seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        environment = os.environ | {"XDG_CACHE_HOME": str(cache), "JAX_PLATFORMS": "cpu"}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        command = [sys.executable, "-m", "purejaxrl_a3c", "train", algorithm, "--out", str(out)]
        began = time.perf_counter()
        run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not _has_result(out / "metrics.csv"):
                if run.poll() is not None or time.perf_counter() - began > patience:
                    raise RuntimeError(f"{' '.join(command)} has no first result")
                time.sleep(0.005)
            return time.perf_counter() - began
        finally:
            # Programs are in the cache before the first result, so the run need not end by itself.
            run.kill()
            run.wait()


def _has_result(path: Path) -> bool:
    return path.exists() and path.read_bytes().count(b"\n") >= 2


def main(turns: int = 5) -> None:
    """Measure and write results/first_result.json and results/first_result.md.

    Args:
        turns: of everything.
    """
    compile_sources(sys.executable)
    found: dict[str, list[float]] = {}
    for _ in range(turns):
        for program in IMPORTS:
            found.setdefault(program, []).append(seconds_of(program))
        for algorithm in ALGORITHMS:
            with tempfile.TemporaryDirectory() as cache:
                for state in ("empty", "filled"):
                    name = f"train {algorithm}, cache {state}"
                    found.setdefault(name, []).append(seconds_to_first_result(algorithm, Path(cache)))
    rows = [[f"`{name}`" if name in IMPORTS else name, spread(seconds, 1)] for name, seconds in found.items()]
    about = (
        "Seconds (median, and range) in fresh processes: of the import, and from the shell to the first line of results"
        " of `purejaxrl-a3c train` with its defaults, with and without a cache of compiled programs.\n\n"
    )
    save("first_result", {"turns": turns, "seconds": found}, about + markdown_table(["", "s"], rows))


if __name__ == "__main__":
    tyro.cli(main)
