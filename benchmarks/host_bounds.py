"""What A2C and A3C can reach at most in environments outside of JAX, beside Stable-Baselines3's A2C, all in turns.

``python -m benchmarks.host_bounds`` measures, on 16 CartPoles of Gymnasium and rollouts of 5 steps:

- *A2C* in one process and *A3C* in two that share parameters without a lock, each a run as in `benchmarks.peers`;
- *the parts of A2C*: what its steps would take if they were nothing but the environments' steps, the compiled policy
  and the compiled update, each called again and again, see `benchmarks.host_parts`;
- *two processes that act*: each steps 8 environments and calls the compiled policy, and neither learns;
- *Stable-Baselines3's A2C*.
"""

import subprocess
import sys
import time
from typing import Any

import numpy as np
import tyro

from benchmarks.host_parts import CONFIGS, calls_of, seconds_of
from benchmarks.peers import processes
from benchmarks.peers.__main__ import COMPARISONS
from benchmarks.record import ROOT, markdown_table, save, spread
from purejaxrl_a3c import replace
from purejaxrl_a3c.backend.compiling import compute_where_called
from purejaxrl_a3c.host.process import use_one_core

COMPARISON = COMPARISONS["SB3 A2C, 16 environments of Gymnasium"]
CONFIG: Any = CONFIGS["A2C, 16 CartPole-v1, 5 steps"]
PROCESSES = 2
PEER = "Stable-Baselines3's A2C"


def rate_of_parts(calls: Any, length: int, count: int, seconds: float) -> float:
    """Frames a second of steps that are nothing but their parts."""
    step = sum(seconds_of(calls[part], seconds)[0] for part in ("environments", "act"))
    return count / (step + seconds_of(calls["learn"], seconds)[0] / length)


def act_alone(count: int, seconds: float) -> None:
    """In a process of its own: say that it can begin, wait to be told, and print frames a second."""
    use_one_core()  # as a worker does
    calls, _ = calls_of(replace(CONFIG, num_envs=count))

    def both() -> None:
        calls["act"]()
        calls["environments"]()

    seconds_of(both, seconds)  # the first calls are slower
    print("ready", flush=True)
    sys.stdin.readline()
    print(count / seconds_of(both, seconds)[0], flush=True)


def rate_of_acting(count: int, seconds: float) -> float:
    """Frames a second of `PROCESSES` that act at the same time, in ``count`` environments each."""
    program = f"from benchmarks.host_bounds import act_alone; act_alone({count}, {seconds})"
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers: list[Any] = [
        subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, **pipes) for _ in range(PROCESSES)
    ]
    for worker in workers:
        while worker.stdout.readline().strip() != "ready":
            if worker.poll() is not None:
                raise RuntimeError("a process that was to act has ended")
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    return sum(float(worker.communicate()[0].split()[-1]) for worker in workers)


def main(turns: int = 5, seconds: float = 2.0) -> None:
    """Measure and write results/host_bounds.json and results/host_bounds.md.

    Args:
        turns: in each of which everything is measured once.
        seconds: of each part, about.
    """
    compute_where_called()  # as the command line does
    python = processes.interpreter(COMPARISON.peer)
    calls, length = calls_of(CONFIG)
    count = COMPARISON.work.num_envs
    found: dict[str, list[float]] = {}

    def add(name: str, rate: float) -> None:
        found.setdefault(name, []).append(rate)
        print(f"{time.strftime('%X')} {name} {rate:.0f}", file=sys.stderr, flush=True)

    def train(script: str, python: str, task: Any) -> float:
        answer = processes.train(script, python, task)
        return answer["frames"] / answer["run_seconds"]

    for _ in range(turns):
        for algorithm, bound, measure in (
            ("a2c", "the parts of A2C", lambda: rate_of_parts(calls, length, count, seconds)),
            ("a3c", "two processes that act", lambda: rate_of_acting(count // PROCESSES, seconds)),
        ):
            add(algorithm.upper(), train(COMPARISON.script, sys.executable, COMPARISON.task_of_ours(algorithm)))
            add(bound, measure())
        add(PEER, train(COMPARISON.peer, python, COMPARISON.task_of_peer()))
    theirs = np.array(found[PEER])
    rows = [[name, spread(np.array(rates)), spread(np.array(rates) / theirs, 2)] for name, rates in found.items()]
    table = (
        f"Frames per second in {count} CartPoles of Gymnasium, rollouts of 5 steps, and beside Stable-Baselines3's A2C "
        "within one turn (median, and range).\n\n" + markdown_table(["", "frames/s", "/ Stable-Baselines3"], rows)
    )
    save("host_bounds", {"turns": turns, "frames_per_second": found}, table)


if __name__ == "__main__":
    tyro.cli(main)
