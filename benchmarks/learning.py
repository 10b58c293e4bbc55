"""Final returns of A3C and A2C over seeds: the default settings of each, on three environments.

``python -m benchmarks.learning`` trains all seeds of a row in one ``vmap``ped program and evaluates each on whole
episodes with the most probable action. It writes a table (interquartile mean over seeds with its bootstrap 95 %
interval, worst seed) and the learning curves.
"""

import time
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import scipy.stats
import tyro
from matplotlib.figure import Figure

from benchmarks.record import RESULTS, markdown_table, save
from purejaxrl_a3c import a2c, a3c, evaluate, make_train
from purejaxrl_a3c.logging import binned_mean

ALGORITHMS: dict[str, Any] = {"A3C": a3c.Config(), "A2C": a2c.Config()}
ENVIRONMENTS = ("CartPole-v1", "Acrobot-v1", "Catch-bsuite")


def interquartile_mean(values, axis=-1):
    """Mean of the middle half (Agarwal et al. 2021, arXiv 2108.13264)."""
    return scipy.stats.trim_mean(values, 0.25, axis=axis)


def interval(values):
    """Bootstrap 95 % percentile interval of the interquartile mean: ``(low, high)``."""
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    found = scipy.stats.bootstrap(
        (values,), interquartile_mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(0)
    )
    return tuple(map(float, found.confidence_interval))


def train_and_evaluate(config, seeds, episodes):
    """Metrics ``[seeds, I]`` and mean returns ``[seeds]`` of the seeds 0, 1, ..."""
    keys = jax.vmap(jax.random.key)(np.arange(seeds))
    keys = jax.vmap(jax.random.split)(keys)
    result = jax.jit(jax.vmap(make_train(config)))(keys[:, 0])

    def final_return(state, key):
        return evaluate(config, state, key, episodes, deterministic=True).mean()

    returns = jax.jit(jax.vmap(final_return))(result.state, keys[:, 1])
    return jax.device_get(result.metrics), np.asarray(returns, np.float64)


def plot(path, curves):
    """Learning curves: the interquartile mean over seeds, and the range of the seeds."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = figure.subplots(1, len(ENVIRONMENTS))
    for axes, env_id in zip(panels, ENVIRONMENTS, strict=True):
        for color, name in zip(("C3", "C0"), ALGORITHMS, strict=True):
            frames, returns = curves[env_id, name]
            axes.plot(frames, interquartile_mean(returns, axis=0), color=color, lw=2, label=name)
            axes.fill_between(frames, returns.min(0), returns.max(0), color=color, alpha=0.15, lw=0)
        axes.set_title(env_id)
        axes.set_xlabel("frames")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.ticklabel_format(axis="x", style="sci", scilimits=(0, 4))
    panels[0].set_ylabel("return while training")
    panels[0].legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=130)


def smooth(metrics, bins=50):
    """``(frames [bins], returns [seeds, bins])``; a stretch in which no episode ended repeats the one before."""
    ends = metrics.frames[0, -1] * (np.arange(bins) + 1) / bins
    rows = []
    for frames, returns, episodes in zip(metrics.frames, metrics.episode_return, metrics.episodes, strict=True):
        at, means = binned_mean(frames, returns, episodes, bins)
        rows.append(means[np.maximum(np.searchsorted(at, ends, side="right") - 1, 0)])
    return ends, np.array(rows)


def main(seeds: int = 10, total_frames: int = 500_000, episodes: int = 128):
    """Train, evaluate and write results/learning.json, .md and .png."""
    rows, data, curves = [], {}, {}
    for env_id in ENVIRONMENTS:
        for name, config in ALGORITHMS.items():
            began = time.perf_counter()
            config = replace(config, env_id=env_id, total_frames=total_frames)
            metrics, returns = train_and_evaluate(config, seeds, episodes)
            curves[env_id, name] = smooth(metrics)
            low, high = interval(returns)
            middle = float(interquartile_mean(returns))
            staleness = float(metrics.staleness_mean.mean())
            digits = 2 if abs(middle) < 10 else 1
            rows.append(
                [
                    f"{name} on {env_id}",
                    f"{middle:.{digits}f}",
                    f"{low:.{digits}f} to {high:.{digits}f}",
                    f"{returns.min():.{digits}f}",
                    f"{staleness:.1f}",
                ]
            )
            print(*rows[-1], f"{time.perf_counter() - began:.0f} s", flush=True)
            data[f"{name} {env_id}"] = {
                "config": vars(config),
                "returns": returns.tolist(),
                "interquartile_mean": middle,
                "interval": [low, high],
                "staleness_mean": staleness,
            }
    table = (
        f"Return after {total_frames:,} frames with the default settings: interquartile mean over {seeds} seeds, each "
        f"the mean of {episodes} whole episodes with the most probable action.\n\n"
        + markdown_table(["", "return", "95 % interval", "worst seed", "mean staleness"], rows)
    )
    save("learning", {"seeds": list(range(seeds)), "episodes": episodes, "results": data}, table)
    plot(RESULTS / "learning.png", curves)


if __name__ == "__main__":
    tyro.cli(main)
