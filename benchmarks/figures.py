"""How all figures look: sizes, colours, and what is written below each of them."""

from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ALGORITHM_COLORS = {
    "A3C": "C3",
    "A2C": "C0",
    "PPO": "C2",
    "IMPALA": "C4",
    "REINFORCE": "C5",
    "averaging": "C1",
    "RND": "C6",
    "DQN": "darkgoldenrod",
    "R2D2": "teal",
    "SAC": "C7",
    "TD3": "navy",
    "D4PG": "orchid",
    "PQN": "limegreen",
    "n-step Q": "saddlebrown",
    "one-step Q": "steelblue",
    "one-step SARSA": "olive",
}
"""The colour of an algorithm, the same in every figure."""
OTHER_COLORS = ("k", "C8", "C9", "0.55")
"""Colours of curves that are not of different algorithms and have no order; see `shades` for those that have one."""
WIDTH = 9.0
"""Inches: at the README's 900 pixels, 11 points are then 15 pixels."""
DOTS_PER_INCH = 140

matplotlib.rcParams.update(
    {
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 12,
        "font.size": 11,
        "grid.alpha": 0.3,
        "legend.fontsize": 10.5,
        "legend.framealpha": 0.75,
        "legend.edgecolor": "none",
    }
)


def panels(columns: int = 1, rows: int = 1, height: float = 3.6, **settings: Any) -> tuple[Figure, list[Axes]]:
    """A `Figure` as wide as the README, and its axes row by row.

    Args:
        columns: of the grid of axes.
        rows: of the grid of axes.
        height: of a row, in inches.
        **settings: for ``Figure.subplots``.
    """
    figure = Figure(figsize=(WIDTH if columns > 1 else 0.8 * WIDTH, height * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **settings).flat)


def shades(count: int) -> list[Any]:
    """Colours of curves in an order, such as that of their learning rates, from dark to light."""
    return [matplotlib.colormaps["viridis"](0.88 * i / max(1, count - 1)) for i in range(count)]


def color_of(label: str, default: str = "0.3") -> str:
    """The colour of the algorithm that a curve's label begins with."""
    return next((color for name, color in ALGORITHM_COLORS.items() if label.startswith(name)), default)


def caption(figure: Figure, text: str) -> None:
    """Write below a figure how many seeds there are and what the bands or bars are."""
    figure.supxlabel(text, fontsize=10, color="0.3")


def legend_above(figure: Figure, axes: Axes, columns: int) -> None:
    """One legend for all axes, above them, where it hides no curve."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=columns)
