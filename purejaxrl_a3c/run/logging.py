"""What a run leaves on disk: ``config.json``, ``metrics.csv`` and ``learning_curve.png`` in one folder."""

import csv
import dataclasses
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from purejaxrl_a3c import checks
from purejaxrl_a3c.types import Metrics

_RECORDED_PACKAGES = ("purejaxrl-a3c", "jax", "jaxlib", "flax", "optax", "gymnax")


def make_folder(path):
    """Create the folder ``path``, with its parents. Nothing is overwritten.

    Raises:
        InputError: if it exists and is not an empty folder, or cannot be created.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        checks.reject("out", str(path), f"a folder that can be created; {error.strerror}")
    if any(path.iterdir()):
        checks.reject("out", str(path), "a new or empty folder")
    return path


def record(algorithm, config, seed):
    """What describes a run, for JSON: the algorithm's name, its settings, the seed and the versions used."""
    return {
        "algorithm": algorithm,
        "seed": seed,
        "config": dataclasses.asdict(config),
        "versions": {name: importlib.metadata.version(name) for name in _RECORDED_PACKAGES},
    }


def write_config(folder, record):
    """Write ``config.json``."""
    (folder / "config.json").write_text(json.dumps(record, indent=2) + "\n")


class MetricsFile:
    """``metrics.csv``: a row an iteration, on disk after every piece.

    Attributes:
        before: `Metrics` ``[I]`` of the iterations that were there already.
    """

    def __init__(self, folder, frames=None):
        """Create the file with its header; or, with ``frames``, go on after the row of so many.

        Rows after that one are dropped: the run that goes on makes the same again.

        Raises:
            InputError: if the file to go on in is not there or not whole up to that row.
        """
        path = folder / "metrics.csv"
        rows = [] if frames is None else _read_rows(path, frames)
        unfinished = folder / "metrics.csv.unfinished"
        with unfinished.open("w", newline="") as file:
            csv.writer(file).writerows([Metrics._fields, *rows])
        if frames is None and path.exists():
            raise FileExistsError(path)
        unfinished.rename(path)
        numbers: Any = np.array([[float(x or "nan") for x in row] for row in rows]).reshape(-1, len(Metrics._fields))
        self.before = Metrics(*numbers.T)
        self._file = path.open("a", newline="")
        self._writer = csv.writer(self._file)

    def append(self, metrics):
        """Write the rows of ``metrics``, every field ``[iterations]``; empty cells for NaN."""
        columns = [np.asarray(column).tolist() for column in metrics]
        self._writer.writerows([["" if x != x else x for x in row] for row in zip(*columns, strict=True)])
        self._file.flush()

    def close(self):
        """Close the file."""
        self._file.close()


def _read_rows(path, frames):
    try:
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
            rows = [row for row in rows if len(row) == len(header) and int(row[0]) <= frames]
    except (OSError, ValueError):
        header, rows = [], []
    if tuple(header) != Metrics._fields or not rows or int(rows[-1][0]) != frames:
        checks.reject("resume", str(path), f"the metrics of the run, up to frame {frames} at least")
    return rows


def binned_mean(frames, values, weights, bins):
    """Weighted means of ``values`` over equal stretches of ``frames``.

    Args:
        frames: ``[I]`` increasing.
        values: ``[I]``; entries with weight 0 may be NaN.
        weights: ``[I]`` such as the number of episodes behind each value.
        bins: number of stretches.

    Returns:
        ``(frames, means)`` of the stretches that have any weight, at the frames where they end.
    """
    index = np.ceil(bins * (frames / frames[-1])).astype(int) - 1
    total = np.bincount(index, np.where(weights > 0, values * weights, 0.0), minlength=bins)
    weight = np.bincount(index, weights, minlength=bins)
    ends = frames[-1] * (np.arange(bins) + 1) / bins
    return ends[weight > 0], total[weight > 0] / weight[weight > 0]


def plot_learning_curve(path, title, metrics):
    """Draw the return, entropy, value loss and staleness of a run over its frames to the image ``path``.

    Args:
        path: where to write it; the suffix says the format.
        title: the figure's title.
        metrics: `Metrics` of NumPy arrays ``[I]``, ``I >= 1``.
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    grid = figure.add_gridspec(2, 3, height_ratios=(2, 1))
    top = figure.add_subplot(grid[0, :])
    ended = metrics.episodes > 0
    # One dot an iteration would hide the curve in a long run: every k-th is enough to show the spread.
    shown = np.flatnonzero(ended)[:: max(1, ended.sum() // 3000)]
    top.plot(metrics.frames[shown], metrics.episode_return[shown], ".", ms=2, alpha=0.25, color="C0", mew=0)
    frames, means = binned_mean(metrics.frames, metrics.episode_return, metrics.episodes, bins=100)
    top.plot(frames, means, color="C0", lw=2)
    top.set_title(title)
    top.set_ylabel("episode return")
    lower = [
        ("entropy", "entropy [nats]", "C1"),
        ("value_loss", "squared value error", "C2"),
        ("staleness_mean", "staleness [updates]", "C3"),
    ]
    for column, (name, label, color) in enumerate(lower):
        axes = figure.add_subplot(grid[1, column])
        ones = np.ones(len(metrics.frames))
        axes.plot(*binned_mean(metrics.frames, getattr(metrics, name), ones, bins=100), color=color)
        axes.set_ylabel(label)
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    for axes in figure.axes:
        axes.set_xlabel("frames")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.ticklabel_format(axis="x", style="sci", scilimits=(0, 4))
    figure.savefig(path, dpi=120)
