"""The speed of two commits, measured in turn: the default runs of A3C, A2C, PPO, DQN and SAC.

``python -m benchmarks.ab BEFORE [AFTER]`` checks both commits out into temporary folders and starts fresh processes in
turn, A B A B. Each process compiles and times iterations of every algorithm. The ratio of a turn compares two processes
that ran one after the other, because the speed of a shared machine drifts. Algorithms that one of the commits does not
have are left out.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from benchmarks.record import ROOT, markdown_table, save, spread

MEASURE = """
import importlib.util, json, sys, time
import jax
found = {}
for name in ("a3c", "a2c", "ppo", "dqn", "sac"):
    if importlib.util.find_spec(f"purejaxrl_a3c.algorithms.{name}") is None:
        continue
    module = importlib.import_module(f"purejaxrl_a3c.algorithms.{name}")
    algorithm = module.Config().build()
    def loop(key, state, n):
        step = lambda i, state: algorithm.step(jax.random.fold_in(key, i), state)[0]
        return jax.lax.fori_loop(0, n, step, state)
    state, key = jax.jit(algorithm.init)(jax.random.key(0)), jax.random.key(1)
    run, n = jax.jit(loop).lower(key, state, 1).compile(), 1
    # What learns from replay does so from 1,000 frames on.
    state = run(key, state, 1 + 2_000 // algorithm.frames_per_step)
    def seconds():
        began = time.perf_counter()
        jax.block_until_ready(run(key, state, n))
        return time.perf_counter() - began
    seconds()
    while seconds() < float(sys.argv[1]):
        n *= 2
    found[name.upper()] = n * algorithm.frames_per_step / min(seconds() for _ in range(3))
print(json.dumps(found))
"""


def measure(tree: Path, seconds: float) -> dict[str, float]:
    """Frames a second of each algorithm in the checkout ``tree``: the best of three times of about ``seconds``."""
    path = f"import sys; sys.path.insert(0, {str(tree)!r})\n"
    program = [sys.executable, "-c", path + MEASURE, str(seconds)]
    return json.loads(subprocess.run(program, cwd=tree, check=True, capture_output=True, text=True).stdout)


def main(
    before: Annotated[str, tyro.conf.Positional],
    after: Annotated[str, tyro.conf.Positional] = "HEAD",
    turns: int = 5,
    seconds: float = 0.3,
) -> None:
    """Measure both commits and write results/ab.json and .md.

    Args:
        before: a commit.
        after: another one.
        turns: processes of each commit.
        seconds: of one measurement.
    """
    resolve = ["git", "rev-parse", "--short", after]
    after = subprocess.run(resolve, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    found: dict[str, list[dict[str, float]]] = {before: [], after: []}
    with tempfile.TemporaryDirectory() as folder:
        trees = {commit: Path(folder) / commit for commit in found}
        try:
            for commit, tree in trees.items():
                add = ["git", "worktree", "add", "--detach", "--quiet", str(tree), commit]
                subprocess.run(add, cwd=ROOT, check=True)
            for _ in range(turns):
                for commit, tree in trees.items():
                    found[commit].append(measure(tree, seconds))
        finally:
            for tree in trees.values():
                subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=False)
    rows = []
    for name in (name for name in found[before][0] if name in found[after][0]):
        old, new = (np.array([turn[name] for turn in found[commit]]) for commit in (before, after))
        rows.append([name, spread(old), spread(new), spread(new / old, 2)])
    table = f"Frames per second of the default run (median and range of {turns} processes each, in turn).\n\n"
    table += markdown_table(["", before, after, f"{after} / {before}"], rows)
    save("ab", {"before": before, "after": after, "results": found}, table)


if __name__ == "__main__":
    tyro.cli(main)
