"""Whether a run survives: killed at random moments and resumed, and interrupted while it compiles.

``python -m benchmarks.kill`` starts runs of the command line and ends them with SIGKILL after a random time, from the
start of the process to the end of training. Each is resumed until it is done. Its metrics and its last state are then
compared with those of an uninterrupted run, byte for byte. A second table is about Ctrl-C while XLA compiles.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import tyro

from benchmarks.record import markdown_table, save
from purejaxrl_a3c import load


class Arm(NamedTuple):
    """A run to kill."""

    algorithm: str
    num_devices: int
    frames: int  # some seconds of training

    @property
    def title(self) -> str:
        """For the table."""
        return f"{self.algorithm.upper()}, {self.num_devices} device" + "s" * (self.num_devices > 1)

    @property
    def command(self) -> list[str]:
        """Without the folder."""
        every = str(max(1, self.frames // 8))
        settings = ["--total-frames", str(self.frames), "--checkpoint-every-frames", every, "--hidden-sizes", "16"]
        devices = ["--num-devices", str(self.num_devices), "--evaluation-episodes", "1"]
        return ["train", self.algorithm, *settings, *devices]


ARMS = (Arm("a3c", 1, 800_000), Arm("ppo", 1, 1_200_000), Arm("a3c", 2, 200_000), Arm("ppo", 2, 400_000))


def start(arm: Arm, arguments: list[str], cache: Path) -> subprocess.Popen[bytes]:
    """A process of the command line."""
    flags = f"--xla_force_host_platform_device_count={arm.num_devices}"
    return subprocess.Popen(
        [sys.executable, "-m", "purejaxrl_a3c", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"XLA_FLAGS": flags, "XDG_CACHE_HOME": str(cache)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def contents(folder: Path) -> tuple[bytes, list[bytes]]:
    """The metrics and the last state of a run."""
    state = load(folder).state
    return (folder / "metrics.csv").read_bytes(), [np.asarray(x).tobytes() for x in jax.tree.leaves(state)]


def survive(arm: Arm, kills: int, rng: np.random.Generator, folder: Path) -> list[object]:
    """A row: how many kills, in how many runs, at which moments, and how many runs differ from the whole one."""
    began = time.perf_counter()
    whole = folder / "whole"
    if start(arm, [*arm.command, "--out", str(whole)], folder / "cache").wait():
        raise RuntimeError(f"{arm.title}: the uninterrupted run failed")
    seconds, expected = time.perf_counter() - began, contents(whole)
    done, runs, moments, differ = 0, 0, Counter[str](), 0
    while done < kills:
        out = folder / f"run-{runs}"
        while True:
            arguments = ["train", "--resume", str(out)] if (out / "config.json").exists() else [*arm.command, "--out"]
            process = start(arm, arguments if arguments[1] == "--resume" else [*arguments, str(out)], folder / "cache")
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(rng.uniform(0, seconds) if done < kills else None)
                if status:
                    raise RuntimeError(f"{arm.title}: a run ended with status {status}")
                break
            process.kill()
            process.wait()
            done += 1
            checkpoints = list(out.glob("checkpoints/*/digests.json"))
            begun = (out / "metrics.csv").exists()
            moments["after a checkpoint" if checkpoints else "before" if begun else "before training"] += 1
        runs += 1
        differ += contents(out) != expected
    where = [moments[name] for name in ("before training", "before", "after a checkpoint")]
    return [arm.title, done, runs, *where, differ]


def interrupt_compilation(tries: int, rng: np.random.Generator, folder: Path) -> Counter[str]:
    """How processes end that get Ctrl-C while they compile: exit statuses, and whether a folder was left."""
    ends = Counter[str]()
    for number in range(tries):
        out = folder / f"compiled-{number}"
        arguments = ["train", "ppo", "--core", "lstm", "--seed", str(number), "--out", str(out)]
        process = start(Arm("ppo", 1, 0), arguments, folder / f"cache-{number}")
        while not (out / "config.json").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 5))
        process.send_signal(signal.SIGINT)
        status = process.wait(timeout=60)
        left = "a folder is left" if out.exists() else "no folder is left"
        ends[f"status {status}, {left}"] += 1
    return ends


def main(kills: int = 50, compilations: int = 30, seed: int = 0) -> None:
    """Kill, resume, compare, and write results/kill.json and .md.

    Args:
        kills: of all runs together.
        compilations: how many are interrupted.
        seed: of the moments.
    """
    rng = np.random.default_rng(seed)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number, arm in enumerate(ARMS):
            own = Path(folder) / str(number)
            own.mkdir()
            share = kills // len(ARMS) + (number < kills % len(ARMS))
            rows.append(survive(arm, share, rng, own))
            print(rows[-1], file=sys.stderr, flush=True)
        ends = interrupt_compilation(compilations, rng, Path(folder))
    names = ["run", "kills", "runs", "before training", "before a checkpoint", "after a checkpoint", "runs that differ"]
    text = "Runs killed at random moments and resumed, against the uninterrupted run, byte for byte.\n\n"
    text += markdown_table(names, rows)
    text += f"\nCtrl-C within 5 seconds after the folder is made, while XLA compiles, {compilations} times.\n\n"
    text += markdown_table(["end", "times"], [[end, times] for end, times in sorted(ends.items())])
    save("kill", {"seed": seed, "results": rows, "compilation": dict(ends)}, text)


if __name__ == "__main__":
    tyro.cli(main)
