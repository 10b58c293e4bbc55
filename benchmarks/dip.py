"""How far the return on CartPole falls in the middle of training, before it reaches 500.

``python -m benchmarks.dip`` trains A3C with its defaults and with scaled rewards. The *fall* of a seed is the largest
difference between the best mean return so far, over stretches of 10,000 frames, and a later one. The remedy was chosen
on the seeds 100 to 104.
"""

from typing import Any

import jax
import numpy as np
import tyro

from benchmarks.learning import interquartile_mean, interval
from benchmarks.record import markdown_table, save
from purejaxrl_a3c import a3c, make_train, replace
from purejaxrl_a3c.run.plots import binned_mean

ARMS: dict[str, dict[str, Any]] = {"defaults": {}, "scale_rewards": {"scale_rewards": True}}


def falls(config: a3c.Config, seeds: int) -> np.ndarray:
    """The fall of each of the seeds 0, 1, ..., float64 ``[seeds]``."""
    metrics = jax.jit(jax.vmap(make_train(config)))(jax.vmap(jax.random.key)(np.arange(seeds))).metrics
    found = []
    for seed in range(seeds):
        frames, episodes, returns = (
            np.asarray(x[seed], np.float64) for x in (metrics.frames, metrics.episodes, metrics.episode_return)
        )
        _, means = binned_mean(frames, returns, episodes, bins=max(2, int(frames[-1]) // 10_000))
        found.append((np.maximum.accumulate(means) - means).max())
    return np.array(found)


def main(seeds: int = 10, frames: int = 500_000) -> None:
    """Train both arms and write results/dip.json and .md.

    Args:
        seeds: how many; the seeds are 0, 1, ...
        frames: of each run.
    """
    rows, data = [], {}
    for name, changes in ARMS.items():
        fall = falls(replace(a3c.Config(), total_frames=frames, **changes), seeds)
        low, high = interval(fall)
        rows.append(
            [f"A3C, {name}", f"{interquartile_mean(fall):.0f}", f"{low:.0f} to {high:.0f}", f"{fall.max():.0f}"]
        )
        data[name] = {"falls": fall}
    title = (
        f"Fall of the mean return while training on CartPole-v1, {frames:,} frames: interquartile mean over {seeds} "
        "seeds.\n\n"
    )
    table = title + markdown_table(["", "fall", "95 % interval", "worst seed"], rows)
    save("dip", {"seeds": list(range(seeds)), "frames": frames, "results": data}, table)


if __name__ == "__main__":
    tyro.cli(main)
