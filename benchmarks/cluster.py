"""A3C with a parameter server and workers as actors of Ray, one of which is killed; processes that share memory beside.

``python -m benchmarks.cluster`` trains with 4 workers on Gymnasium's CartPole, on this machine.
"""

import dataclasses
import os
import signal
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import tyro

from benchmarks.learning import interquartile_mean, interval
from benchmarks.record import describe, markdown_table, save, spread
from purejaxrl_a3c import a3c, host, replace

ENV_ID = "gym/CartPole-v1"
WORKERS, ENVS_PER_WORKER, ROLLOUT_LENGTH, EPISODES = 4, 4, 5, 128
ROWS = {"processes, shared memory": "processes", "actors of Ray": "ray", "actors of Ray, one killed": "ray"}


@dataclasses.dataclass(frozen=True)
class Mortal:
    """Makes environments whose process is killed at step ``at``, once: then ``mark`` exists."""

    mark: Path
    at: int

    def __call__(self, num_envs: int) -> host.HostEnv:
        """So many environments."""
        env = host.make(ENV_ID, num_envs)
        steps = iter(range(1, self.at + 1))

        def step(action):
            if next(steps, None) == self.at and not self.mark.exists():
                self.mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return env.step(action)

        return env._replace(step=step)


def train(backend, kill, frames, seed):
    """One run, measured."""
    config = replace(
        a3c.Config(),
        env_id=ENV_ID,
        num_workers=WORKERS,
        envs_per_worker=ENVS_PER_WORKER,
        rollout_length=ROLLOUT_LENGTH,
        total_frames=frames,
    )
    key, key_evaluate = jax.random.split(jax.random.key(seed))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        mark = Path(folder) / "killed"
        # A worker that has done a third of its steps.
        make_env = Mortal(mark, frames // (3 * WORKERS * ENVS_PER_WORKER)) if kill else None
        result = host.train_async(config, key, backend=backend, make_env=make_env)
        assert mark.exists() == kill
    pushes = result.pushes
    assert len(pushes.worker) == frames // (ROLLOUT_LENGTH * ENVS_PER_WORKER)
    gaps = [np.diff(pushes.pushed[pushes.worker == worker]).max() for worker in range(WORKERS)]
    return {
        "return": float(host.evaluate(config, result, key_evaluate, EPISODES, deterministic=True).mean()),
        "start": time.perf_counter() - began - float(pushes.pushed.max()),
        "frames_per_second": frames / float(pushes.pushed.max()),
        "staleness": float(pushes.staleness.mean()),
        "longest_gap": float(max(gaps)),
    }


def main(seeds: int = 3, frames: int = 500_000):
    """Measure, and write results/cluster.json and .md.

    Args:
        seeds: of each row.
        frames: of each run.
    """
    rows: dict[str, list] = {name: [] for name in ROWS}
    for seed in range(seeds):
        for name, backend in ROWS.items():
            rows[name].append(train(backend, "killed" in name, frames, seed))
    cells = []
    for name, runs in rows.items():
        of = {key: [run[key] for run in runs] for key in runs[0]}
        low, high = interval(np.array(of["return"]))
        returns = f"{interquartile_mean(of['return']):.1f} ({low:.1f} - {high:.1f})"
        texts = [spread(of["frames_per_second"], 0), f"{np.mean(of['staleness']):.2f}"]
        cells.append([name, returns, *texts, spread(of["start"], 1), spread(of["longest_gap"], 2)])
    table = (
        f"A3C with {WORKERS} workers of {ENVS_PER_WORKER} of Gymnasium's CartPoles: return after {frames:,} frames "
        f"(interquartile mean over {seeds} seeds, 95 % interval, {EPISODES} episodes with the most probable action), "
        "frames per second once all workers have begun, mean staleness, seconds until then and after the last push, "
        "and the longest time that a worker went without a push (medians and ranges).\n\n"
        + markdown_table(["", "return", "frames / s", "staleness", "start and end, s", "longest gap, s"], cells)
    )
    save("cluster", {"frames": frames, "seeds": seeds, "rows": rows}, table, [describe()])


if __name__ == "__main__":
    tyro.cli(main)
