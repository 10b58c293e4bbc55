"""Claims that are decided on three tasks together: what is swept, the statistics, the table and the figure.

Every arm has its own learning rate, chosen on other seeds than those that are reported. Scores are returns as shares of
what the task allows, so that tasks can be averaged.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.claims.common import at_chosen_rates, interval, once, sweep
from benchmarks.figures import caption, legend_above, panels
from benchmarks.learning import interquartile_mean
from benchmarks.record import markdown_table

RATES = tuple(4e-4 * 1.6**i for i in range(12))
SEARCH_SEEDS, SEEDS = 6, 30
RESAMPLES = 5000


class Task(NamedTuple):
    """An environment, how long to learn in it, and what its returns lie between."""

    env_id: str
    frames: int
    low: float
    high: float


TASKS = (
    Task("CartPole-v1", 100_000, 0, 500),
    Task("Acrobot-v1", 150_000, -500, -80),
    Task("Catch-bsuite", 150_000, -1, 1),
)


class Arm(NamedTuple):
    """One thing to compare: its runs at every point of a grid."""

    returns: np.ndarray  # [tasks, points, seeds]
    chosen: np.ndarray  # learning rates [tasks, points]
    others: tuple[np.ndarray, ...] = ()  # what else was measured of a run, [tasks, points, seeds]


def measure_arm(
    name: str, label: str, run: Callable[..., Any], grid: Mapping[str, Sequence[float]], rates: Sequence[float] = RATES
) -> Arm:
    """Train on every task, at every point of a grid, at the learning rate that is best there.

    Args:
        name: of the claim.
        label: of the arm.
        run: ``run(task, key, **point, learning_rate)`` to ``(return, others...)``.
        grid: values of one name.
        rates: learning rates to choose from.
    """

    def on(task):
        found, chosen, _ = at_chosen_rates(partial(run, task), grid, rates, SEARCH_SEEDS, SEEDS)
        return chosen, *found

    arms = [once(name, f"{label}, {task.env_id}", partial(on, task)) for task in TASKS]
    chosen, returns, *others = (np.stack(arrays) for arrays in zip(*arms, strict=True))
    return Arm(returns, chosen, tuple(others))


def measure_at(
    name: str, label: str, run: Callable[..., Any], grid: Mapping[str, Sequence[float]], rates: np.ndarray
) -> Arm:
    """As `measure_arm`, but at one given learning rate for each task, ``rates [tasks]``, at all points."""

    def on(task, rate):
        found = sweep(partial(run, task), {**grid, "learning_rate": (rate,)}, SEEDS)
        return tuple(values[:, 0] for values in found)

    arms = [
        once(name, f"{label}, {rate:.3g}, {task.env_id}", partial(on, task, rate))
        for task, rate in zip(TASKS, rates, strict=True)
    ]
    returns, *others = (np.stack(arrays) for arrays in zip(*arms, strict=True))
    return Arm(returns, np.repeat(rates[:, None], returns.shape[1], 1), tuple(others))


def scores(returns: np.ndarray) -> np.ndarray:
    """Returns ``[tasks, ...]`` as shares of what each task allows."""
    each = (-1,) + (1,) * (returns.ndim - 1)
    low, high = (np.reshape([getattr(task, end) for task in TASKS], each) for end in ("low", "high"))
    return (returns - low) / (high - low)


def over_tasks(*terms: tuple[float, np.ndarray]) -> tuple[float, float, float]:
    """A weighted sum of arms' scores: ``(middle, low, high)``, a bootstrap 95 % interval.

    An arm's score is the mean over tasks of the interquartile mean over seeds. Seeds are resampled within each task,
    and independently in each arm (stratified bootstrap, Agarwal et al. 2021, arXiv 2108.13264).

    Args:
        terms: pairs of a weight and scores ``[tasks, seeds]``.
    """
    rng = np.random.default_rng(0)

    def resampled(values):
        draws = rng.integers(values.shape[-1], size=(RESAMPLES, *values.shape))
        return interquartile_mean(np.take_along_axis(values[None], draws, -1)).mean(-1)

    middle = sum(weight * interquartile_mean(values).mean() for weight, values in terms)
    low, high = np.percentile(sum(weight * resampled(values) for weight, values in terms), [2.5, 97.5])
    return float(middle), float(low), float(high)


def gain(arm: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """By how much one arm's score exceeds another's, of `over_tasks`: scores ``[tasks, seeds]``."""
    return over_tasks((1, arm), (-1, other))


def decided(found: tuple[float, float, float], threshold: float) -> str:
    """The verdict on "more than ``threshold``" of an interval."""
    _, low, high = found
    return "confirmed" if low > threshold else "refuted" if high < threshold else "not decided"


def seeds_to_decide(found: tuple[float, float, float], threshold: float) -> float:
    """How many seeds would decide with a power of 80 %, if what was found is what there is."""
    middle, low, high = found
    error = (high - low) / 2 / 1.96
    return SEEDS * (error * (1.96 + 0.84) / max(abs(middle - threshold), 1e-9)) ** 2


def shown(found: tuple[float, float, float], sign: str = "+") -> str:
    """A score and its interval, in points of 100."""
    middle, low, high = (100 * x for x in found)
    return f"{middle:{sign}.0f} ({low:.0f} to {high:.0f})"


def table_of(arms: Mapping[str, Arm], ticks: Sequence[float], header: str) -> str:
    """A table of every arm's return on every task, with the rates."""
    rows: list[list[str]] = []
    for i, task in enumerate(TASKS):
        for label, arm in arms.items():
            cells = zip(*interval(arm.returns[i]), arm.chosen[i], strict=True)
            rows.append([task.env_id, label, *("{:.3g} ({:.3g} - {:.3g}) at {:.2g}".format(*cell) for cell in cells)])
    return (
        f"Return late in training (interquartile mean over {SEEDS} seeds, 95 % interval) at the learning rate that is "
        f"named: the best of {len(RATES)}, a factor 1.6 apart, on {SEARCH_SEEDS} other seeds, unless the row says "
        "otherwise.\n\n"
    ) + markdown_table(["task", "", *(f"{header} {tick:g}" for tick in ticks)], rows)


def data_of(arms: Mapping[str, Arm], ticks: Sequence[float]) -> dict[str, Any]:
    """What the JSON holds, see `draw_tasks`."""
    return {
        "tasks": [task.env_id for task in TASKS],
        "bounds": [(task.low, task.high) for task in TASKS],
        "ticks": ticks,
        "rates": RATES,
        "arms": list(arms),
        "returns": np.stack([arm.returns for arm in arms.values()]),
        "chosen": np.stack([arm.chosen for arm in arms.values()]),
    }


def draw_tasks(found: dict[str, Any], colors: Sequence[Any], xlabel: str):
    """Figure of the return of every arm, a panel a task."""
    figure, axes = panels(len(found["tasks"]), height=4)
    returns = np.array(found["returns"])  # [arms, tasks, ticks, seeds]
    ticks = found["ticks"]
    for j, (axis, task, bounds) in enumerate(zip(axes, found["tasks"], found["bounds"], strict=True)):
        for i, (color, label) in enumerate(zip(colors, found["arms"], strict=False)):
            middle, low, high = interval(returns[i, j])
            at = np.arange(len(ticks)) + 0.06 * (i - len(found["arms"]) / 2)  # so that bars do not hide each other
            axis.errorbar(
                at, middle, [middle - low, high - middle], fmt="o-", ms=4, color=color, label=label, capsize=2
            )
        room = 0.04 * (bounds[1] - bounds[0])
        axis.set(xticks=range(len(ticks)), xticklabels=[f"{tick:g}" for tick in ticks], xlabel=xlabel, title=task)
        axis.set_ylim(min(bounds[0], returns[:, j].min()) - room, bounds[1] + room)
    axes[0].set_ylabel("return late in training")
    legend_above(figure, axes[0], 3)
    caption(
        figure,
        "Each at its best learning rate unless it says otherwise. "
        f"Interquartile mean over {len(found['seeds'])} seeds; bars: bootstrap 95 % interval.",
    )
    return figure
