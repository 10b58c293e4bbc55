"""Speed of a sweep: 64 settings in one call, and 64 runs one after the other.

``python -m benchmarks.sweeps`` needs about 6 minutes.
"""

import time

import jax
import numpy as np
import tyro

from benchmarks.record import describe, markdown_table, save, spread
from purejaxrl_a3c import a2c, a3c, evaluate, make_train, ppo, replace, sweep
from purejaxrl_a3c.run.sweep import grid

CONFIGS = {"A3C": a3c.Config(), "A2C": a2c.Config(), "PPO": ppo.Config()}
WIDTHS = (1, 2, 4, 8, 16, 32)
POINTS = {
    "learning_rate": [float(rate) for rate in np.geomspace(1e-4, 1e-2, 16)],
    "entropy_coefficient": [0.0, 0.003, 0.01, 0.03],
}
EPISODES = 8


def of_sweep(config, width):
    """Seconds a run, of every batch but the first, with which the program is compiled."""
    times: list[float] = []
    key = jax.random.key(0)[None]
    sweep(
        config,
        POINTS,
        key,
        episodes=EPISODES,
        batch_size=width,
        on_done=lambda _: times.append(time.perf_counter()),
    )
    return np.diff(times) / width


def of_single_runs(config):
    """Seconds a run, of every run but the first; one program serves all, and each is judged as in a sweep."""

    @jax.jit
    def run(key, floats):
        own = replace(config, **floats)
        return evaluate(own, make_train(own)(key), key, EPISODES, deterministic=True).mean()

    times = []
    for point in grid(POINTS):
        jax.block_until_ready(run(jax.random.key(0), {name: np.float32(value) for name, value in point.items()}))
        times.append(time.perf_counter())
    return np.diff(times)


def main(frames: int = 50_000):
    """Measure, and write results/sweeps.json and .md.

    Args:
        frames: of every run.
    """
    results = {}
    for name, config in CONFIGS.items():
        config = replace(config, total_frames=frames)
        results[name] = {"single": of_single_runs(config)}
        results[name] |= {str(width): of_sweep(config, width) for width in WIDTHS}
    rows = []
    for name, row in results.items():
        single = np.median(row["single"])
        cells = [spread(1e3 * row["single"]), *(f"{single / np.median(row[str(width)]):.2f}" for width in WIDTHS)]
        rows.append([name, *cells])
    table = (
        f"A run of {frames:,} frames of CartPole and {EPISODES} episodes of evaluation: milliseconds alone (median and "
        f"range of {len(grid(POINTS)) - 1}), and how many times as fast it is in a sweep of {len(grid(POINTS))} "
        "settings, by the number of runs that are trained side by side (medians). Compilation is not counted: it takes "
        "place once in both.\n\n"
        + markdown_table(["", "alone, ms", *(f"{width} side by side" for width in WIDTHS)], rows)
    )
    save("sweeps", {"frames": frames, "rows": results}, table, [describe()])


if __name__ == "__main__":
    tyro.cli(main)
