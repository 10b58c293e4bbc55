"""Pictures of a sweep."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from purejaxrl_a3c.run.sweep import Sweep


def plot_sweep(path: Path, found: Sweep, title: str) -> None:
    """Draw a sweep to the image ``path``: one setting as points, two as a heat map, more as parallel coordinates."""
    names = [name for name in found.points[0] if len({point[name] for point in found.points}) > 1]
    width = max(6.0, 1.8 * len(names))
    figure = Figure(figsize=(width, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    if len(names) == 2 and _is_grid(found, names):
        _heat_map(figure, axes, found, names)
    elif len(names) > 1:
        _parallel(figure, axes, found, names)
    else:
        _points(axes, found, names)
    figure.savefig(path, dpi=120)


def _is_grid(found: Sweep, names: list[str]) -> bool:
    pairs = {tuple(point[name] for name in names) for point in found.points}
    return len(pairs) == np.prod([len({point[name] for point in found.points}) for name in names])


def _levels(found: Sweep, name: str) -> list[Any]:
    """The values of a setting: numbers in order, others as they come."""
    values = list(dict.fromkeys(point[name] for point in found.points))
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return sorted(values) if numbers else values


def _label(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _points(axes: Axes, found: Sweep, names: list[str]) -> None:
    levels = _levels(found, names[0]) if names else [None]
    at = [levels.index(point[names[0]]) if names else 0 for point in found.points]
    for i, row in zip(at, found.returns, strict=True):
        axes.plot([i] * len(row), row, ".", color="C0", alpha=0.5)
    order = np.argsort(at)
    axes.plot(np.array(at)[order], found.scores[order], "o-", color="C3", label="interquartile mean")
    axes.set_xticks(range(len(levels)), [_label(level) for level in levels], rotation=30)
    axes.set(xlabel=names[0] if names else "", ylabel="return")
    axes.legend(frameon=False)


def _heat_map(figure: Figure, axes: Axes, found: Sweep, names: list[str]) -> None:
    rows, columns = (_levels(found, name) for name in (names[1], names[0]))
    table = np.full((len(rows), len(columns)), np.nan)
    for point, score in zip(found.points, found.scores, strict=True):
        table[rows.index(point[names[1]]), columns.index(point[names[0]])] = score
    image = axes.imshow(table, aspect="auto", origin="lower", cmap="viridis")
    axes.set_xticks(range(len(columns)), [_label(value) for value in columns], rotation=30)
    axes.set_yticks(range(len(rows)), [_label(value) for value in rows])
    axes.set(xlabel=names[0], ylabel=names[1])
    middle = np.nanmean([np.nanmin(table), np.nanmax(table)])
    for (row, column), value in np.ndenumerate(table):
        color = "k" if value > middle else "w"
        axes.text(column, row, f"{value:.4g}", ha="center", va="center", color=color, fontsize="small")
    figure.colorbar(image, label="return, interquartile mean")


def _parallel(figure: Figure, axes: Axes, found: Sweep, names: list[str]) -> None:
    levels = {name: _levels(found, name) for name in names}
    heights = {
        name: {value: i / max(1, len(values) - 1) for i, value in enumerate(values)} for name, values in levels.items()
    }
    finite = found.scores[np.isfinite(found.scores)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    colors = ScalarMappable(Normalize(low, high if high > low else low + 1), "viridis")
    span = high - low if high > low else 1.0
    shift = np.linspace(-0.02, 0.02, len(found.points))  # so that lines which share a value do not hide each other
    for i in found.order[::-1]:  # the best ones on top
        if np.isfinite(found.scores[i]):
            lines = [heights[name][found.points[i][name]] + shift[i] for name in names]
            lines.append((found.scores[i] - low) / span)
            axes.plot(range(len(lines)), lines, color=colors.to_rgba(found.scores[i]), lw=1.5, alpha=0.8)
    for at, name in enumerate(names):
        axes.axvline(at, color="0.7", lw=1)
        shown = levels[name] if len(levels[name]) <= 8 else [levels[name][0], levels[name][-1]]
        for value in shown:
            label = f"{_label(value)} "
            axes.text(at, heights[name][value], label, ha="right", va="center", fontsize="small")
    axes.axvline(len(names), color="0.7", lw=1)
    axes.set_xticks(range(len(names) + 1), [*names, "return"])
    axes.set_yticks([])
    axes.set_xlim(-0.4, len(names) + 0.1)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    figure.colorbar(colors, ax=axes, label="return, interquartile mean")
