"""Learning curves."""

from pathlib import Path
from typing import Any

import numpy as np

from purejaxrl_a3c.types import Metrics

_PANELS = {
    "staleness_mean": ("staleness [updates]", "C3"),
    "entropy": ("entropy of the policy [nats]", "C1"),
    "value_loss": ("value loss", "C2"),
    "explained_variance": ("explained variance", "C4"),
    "gradient_norm": ("norm of the gradient", "C5"),
}
"""Reports worth a panel, with label and colour; the first three that are not 0 all along are drawn."""


def binned_mean(
    frames: np.ndarray, values: np.ndarray, weights: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means of ``values`` over equal stretches of ``frames``.

    Args:
        frames: ``[I]`` increasing.
        values: ``[I]``; entries with weight 0 may be NaN.
        weights: ``[I]``, such as the number of episodes behind each value.
        bins: number of stretches.

    Returns:
        ``(frames, means)`` of the stretches that have any weight, at the frames where they end.
    """
    index = np.ceil(bins * (frames / frames[-1])).astype(int) - 1
    total = np.bincount(index, np.where(weights > 0, values * weights, 0.0), minlength=bins)
    weight = np.bincount(index, weights, minlength=bins)
    ends = frames[-1] * (np.arange(bins) + 1) / bins
    return ends[weight > 0], total[weight > 0] / weight[weight > 0]


def plot_learning_curve(path: Path, title: str, metrics: Metrics) -> None:
    """Draw the returns and the main reports of a run over its frames to the image ``path``.

    Args:
        path: where to write it; the suffix says the format.
        title: the figure's title.
        metrics: `Metrics` of NumPy arrays ``[I]``, ``I >= 1``.
    """
    from matplotlib.figure import Figure  # importing it takes as long as half of JAX, and a run draws at its end
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    panels = [name for name in _PANELS if np.any(np.nan_to_num(metrics.losses.get(name, np.zeros(1))))][:3]
    grid = figure.add_gridspec(2, max(1, len(panels)), height_ratios=(2, 1))
    figure.suptitle(title)
    _draw_returns(figure.add_subplot(grid[0, :]), metrics)
    for column, name in enumerate(panels):
        label, color = _PANELS[name]
        axes = figure.add_subplot(grid[1, column])
        values = np.asarray(metrics.losses[name], np.float64)
        finite = np.isfinite(values)
        axes.plot(
            *binned_mean(np.asarray(metrics.frames), np.where(finite, values, 0), finite * 1.0, bins=100), color=color
        )
        axes.set_title(label, fontsize="medium")
        axes.margins(y=0.1)
    for axes in figure.axes:
        axes.set_xlabel("frames")
        axes.set_xlim(0, float(metrics.frames[-1]))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.locator_params(axis="x", nbins=5)
    figure.savefig(path, dpi=120)


def _draw_returns(axes: Any, metrics: Metrics) -> None:
    returns, ended = np.asarray(metrics.episode_return), np.asarray(metrics.episodes) > 0
    axes.set_ylabel("episode return")
    if not ended.any():
        axes.text(0.5, 0.5, "no episode has ended yet", transform=axes.transAxes, ha="center")
        return
    # One dot an iteration would hide the curve in a long run: every k-th is enough to show the spread.
    shown = np.flatnonzero(ended)[:: max(1, ended.sum() // 1500)]
    label = "episodes that ended in an iteration (mean)"
    axes.plot(metrics.frames[shown], returns[shown], ".", ms=5, alpha=0.4, color="C0", mew=0, label=label)
    frames, means = binned_mean(np.asarray(metrics.frames), returns, np.asarray(metrics.episodes, np.float64), bins=100)
    axes.plot(frames, means, color="C3", lw=2, label="mean over a hundredth of the run")
    axes.legend(frameon=False, loc="upper left")
