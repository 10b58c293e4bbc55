"""A3C with real workers on Gymnasium's CartPole, beside the compiled simulation of the same configuration.

``python -m benchmarks.workers`` trains five seeds with 1, 2 and 4 processes that share 16 environments, and with as
many simulated workers in gymnax's CartPole. Then it starts 16 processes and waits until all of them have pushed.
"""

import subprocess
import sys

import jax
import numpy as np
import tyro

from benchmarks.learning import interquartile_mean, interval
from benchmarks.record import describe, load, markdown_table, save, spread
from purejaxrl_a3c import a3c, evaluate, host, make_train, replace

ENVS, EPISODES, SCORE = 16, 128, 475
COUNTS, PUSHES = (1, 2, 4), ("locked", "hogwild")
MANY, STARTS = 16, 5  # workers that are started, and how often


def config(env_id, workers, frames):
    """All of them together have `ENVS` environments."""
    sizes = {"num_workers": workers, "envs_per_worker": ENVS // workers, "rollout_length": 5}
    return replace(a3c.Config(), env_id=env_id, total_frames=frames, **sizes)


def seconds_to_score(metrics, window=50):
    """Seconds until the mean return of the last episodes, ``window`` or a few more, is `SCORE`; inf if never."""
    returns, episodes = np.cumsum(metrics.return_sum), np.cumsum(metrics.episodes)
    before = np.maximum(np.searchsorted(episodes, episodes - window, side="right") - 1, 0)
    means = (returns - returns[before]) / np.maximum(episodes - episodes[before], 1)
    reached = (episodes >= window) & (means >= SCORE)
    return float(metrics.losses["wall_time"][reached.argmax()]) if reached.any() else float("inf")


def real(workers, push, frames, seed):
    """One run of real workers, measured."""
    own = config("gym/CartPole-v1", workers, frames)
    key, key_evaluate = jax.random.split(jax.random.key(seed))
    result = host.train_async(own, key, push=push)
    pushes = result.pushes
    # A worker's task is everything from one pull to the push after it.
    service = pushes.pushed - pushes.pulled
    return {
        "return": float(host.evaluate(own, result, key_evaluate, EPISODES, deterministic=True).mean()),
        "seconds": float(pushes.pushed.max()),
        "seconds_to_score": seconds_to_score(result.metrics),
        "staleness_mean": float(pushes.staleness.mean()),
        "staleness_max": int(pushes.staleness.max()),
        "service_mean": float(service.mean()),
        "service_cv": float(service.std() / service.mean()),
    }


def simulated(workers, frames, seeds):
    """Final returns ``[seeds]`` of as many simulated workers."""
    own = config("CartPole-v1", workers, frames)

    def run(key):
        key, key_evaluate = jax.random.split(key)
        return evaluate(own, make_train(own)(key), key_evaluate, EPISODES, deterministic=True).mean()

    return np.asarray(jax.jit(jax.vmap(run))(jax.vmap(jax.random.key)(np.arange(seeds))), np.float64)


def start_seconds():
    """Seconds until all of `MANY` workers have pushed, see ``benchmarks/start.py``."""
    command = [sys.executable, "-m", "benchmarks.start", str(MANY)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _return_cell(values):
    low, high = interval(np.array(values))
    return f"{interquartile_mean(values):.1f} ({low:.1f} - {high:.1f})", f"{min(values):.1f}"


def table(rows):
    """Markdown of what was measured."""
    cells = []
    for label, runs in rows.items():
        if isinstance(runs[0], dict):
            columns = {name: [run[name] for run in runs] for name in runs[0]}
            score = np.array(columns["seconds_to_score"])
            cells.append(
                [
                    label,
                    *_return_cell(columns["return"]),
                    f"{np.median(columns['seconds']):.1f}",
                    f"{np.median(score):.1f}" if np.isfinite(np.median(score)) else "never",
                    f"{np.mean(columns['staleness_mean']):.2f}",
                    max(columns["staleness_max"]),
                    f"{1e3 * np.mean(columns['service_mean']):.2f}",
                    f"{np.mean(columns['service_cv']):.2f}",
                ]
            )
        else:
            cells.append([label, *_return_cell(runs), *[""] * 6])
    return markdown_table(
        ["", "return", "worst seed", "s", f"s to {SCORE}", "staleness", "largest", "service, ms", "its CV"], cells
    )


def main(seeds: int = 5, frames: int = 500_000):
    """Measure what results/workers.json lacks, and write it and results/workers.md after every row.

    Args:
        seeds: of each row.
        frames: of each run.
    """
    before = load("workers")
    if (before.get("frames"), before.get("seeds")) != (frames, seeds):
        before = {}
    rows, circumstances = before.get("rows", {}), before.get("measured", [])

    def keep(**more):
        circumstances.append(describe())
        data = {"frames": frames, "seeds": seeds, "rows": rows, "measured": circumstances, **more}
        save("workers", data, _text(data), circumstances)

    for workers in COUNTS:
        for push in PUSHES:
            if (name := f"{workers} real, {push}") not in rows:
                rows[name] = [real(workers, push, frames, seed) for seed in range(seeds)]
                keep()
        if (name := f"{workers} simulated") not in rows:
            rows[name] = list(simulated(workers, frames, seeds))
            keep()
    if "start_seconds" not in before:
        keep(start_seconds=[start_seconds() for _ in range(STARTS)])


def _text(data):
    start = data.get("start_seconds")
    return (
        f"A3C with processes that share {ENVS} of Gymnasium's CartPoles, and with simulated workers in gymnax's: "
        f"return after {data['frames']:,} frames (interquartile mean over {data['seeds']} seeds, 95 % interval, "
        f"{EPISODES} episodes with the most probable action), seconds of the run and until the mean return of 50 "
        f"episodes was {SCORE} (medians), staleness in pushes, and the time from a pull to the next push with its "
        "coefficient of variation.\n\n"
        + table(data["rows"])
        + (
            ""
            if start is None
            else f"\n{MANY} processes: {spread(start, 1)} s from the call to the first push of the last "
            "one, with compilation.\n"
        )
    )


if __name__ == "__main__":
    tyro.cli(main)
