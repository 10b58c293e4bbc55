"""``purejaxrl-a3c compare RUN RUN ...``: what differs between runs, in their settings and in their returns."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.run.folder import CONFIG
from purejaxrl_a3c.run.metrics_file import read_columns
from purejaxrl_a3c.run.plots import binned_mean
from purejaxrl_a3c.run.report import RESULTS

POINTS = 100
"""Of a learning curve."""


class OneRun(NamedTuple):
    """What the folder of a run says."""

    path: Path
    algorithm: str
    settings: dict[str, Any]
    seed: int
    frames: np.ndarray  # [POINTS]
    curve: np.ndarray  # [POINTS]: mean return while training; NaN before the first episode has ended
    evaluation: float | None  # mean return of its last one, if there is one


class Group(NamedTuple):
    """Runs that differ in their seeds only."""

    label: str
    runs: list[OneRun]
    scores: np.ndarray  # [runs]: evaluations or, if a run of any group has none, the ends of the curves


class Estimate(NamedTuple):
    """An interquartile mean with its bootstrap 95 % interval (Agarwal et al. 2021, arXiv 2108.13264)."""

    middle: float
    low: float
    high: float


def read_run(path: Path) -> OneRun:
    """What the folder of a run says.

    Raises:
        InputError: if it is no such folder, or nothing was trained.
    """
    try:
        record = json.loads((path / CONFIG).read_text())
        algorithm, settings, seed = record["algorithm"], record["config"], int(record["seed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reject("run", str(path), f"the folder of a run ({type(error).__name__} in {CONFIG})")
    columns = read_columns(path)
    if not len(columns.get("frames", ())):
        reject("run", str(path), "the folder of a run that has trained: there is no row in its metrics.csv")
    frames, means = binned_mean(columns["frames"], columns["episode_return"], columns["episodes"], POINTS)
    at = columns["frames"][-1] * (np.arange(POINTS) + 1) / POINTS
    curve = np.interp(at, frames, means, left=np.nan) if len(frames) else np.full(POINTS, np.nan)
    return OneRun(path, algorithm, settings, seed, at, curve, _evaluation(path))


def _evaluation(path: Path) -> float | None:
    try:
        return float(json.loads((path / RESULTS).read_text().splitlines()[-1])["evaluation_return_mean"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def group(runs: list[OneRun]) -> list[Group]:
    """Runs by their settings, each group labelled by what makes it differ.

    Raises:
        InputError: if a seed comes twice with the same settings.
    """
    found: dict[str, list[OneRun]] = {}
    for run in runs:
        found.setdefault(json.dumps([run.algorithm, run.settings], sort_keys=True), []).append(run)
    for same in found.values():
        seeds = [run.seed for run in same]
        if len(set(seeds)) < len(seeds):
            reject("run", str(same[-1].path), f"a run with another seed or other settings than {same[0].path}")
    firsts = [same[0] for same in found.values()]
    names = [name for name, values in differences(firsts).items() if name != "algorithm" or len(values) > 1]
    evaluated = all(run.evaluation is not None for run in runs)
    groups: list[Group] = []
    for same in found.values():
        settings = {"algorithm": same[0].algorithm, **same[0].settings}
        parts = [same[0].algorithm.upper(), *(f"{n} {_text(settings.get(n))}" for n in names if n != "algorithm")]
        label = ", ".join(parts) if len(parts) < 5 else f"{parts[0]} {len(groups) + 1}"
        scores = [run.evaluation if evaluated else run.curve[-1] for run in same]
        groups.append(Group(label, same, np.array(scores, np.float64)))
    return groups


def differences(runs: list[OneRun]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs, by name; None where a run has no such setting."""
    rows = [{"algorithm": run.algorithm, **run.settings} for run in runs]
    names = dict.fromkeys(name for row in rows for name in row)
    found = {name: [row.get(name) for row in rows] for name in names}
    return {name: values for name, values in found.items() if any(value != values[0] for value in values)}


def estimate(values: np.ndarray, seed: int = 0) -> Estimate:
    """The `Estimate` of ``[runs]``, or of each column of ``[runs, n]`` as arrays."""
    from scipy import stats  # comes with JAX

    middle = stats.trim_mean(values, 0.25, axis=0)
    rng = np.random.default_rng(seed)
    drawn = values[rng.integers(len(values), size=(2000, len(values)))]
    low, high = np.percentile(stats.trim_mean(drawn, 0.25, axis=1), [2.5, 97.5], axis=0)
    return Estimate(middle, low, high)


def chance_of_improvement(a: np.ndarray, b: np.ndarray) -> float:
    """The chance that a run of ``a`` scores more than one of ``b``; equal ones count half."""
    pairs = a[:, None] - b[None]
    return float((pairs > 0).mean() + 0.5 * (pairs == 0).mean())


def table(groups: list[Group]) -> str:
    """Markdown: settings that differ, and scores."""
    evaluated = all(run.evaluation is not None for one in groups for run in one.runs)
    kind = "evaluated" if evaluated else "return while training, at the end"
    rows = [f"| | frames | seeds | {kind} | 95 % interval | worst | better than the first |"]
    rows.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for one in groups:
        found = estimate(one.scores)
        chance = "" if one is groups[0] else f"{100 * chance_of_improvement(one.scores, groups[0].scores):.0f} %"
        rows.append(
            f"| {one.label} | {one.runs[0].frames[-1]:,.0f} | {len(one.runs)} | {found.middle:.1f} | "
            f"{found.low:.1f} to {found.high:.1f} | {one.scores.min():.1f} | {chance} |"
        )
    return "\n".join(rows) + "\n"


def draw(path: Path, groups: list[Group]) -> None:
    """Draw learning curves and performance profiles to the image ``path``."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    curves, profiles = figure.subplots(1, 2, width_ratios=(3, 2))
    scores = np.concatenate([one.scores for one in groups])
    span = np.ptp(scores) or 1.0
    levels = np.linspace(scores.min() - 0.05 * span, scores.max() + 0.05 * span, 300)
    for i, one in enumerate(groups):
        color = f"C{i % 10}"
        found = estimate(np.stack([run.curve for run in one.runs]))
        frames = one.runs[0].frames
        curves.plot(frames, found.middle, color=color, label=f"{one.label} ({len(one.runs)} seeds)")
        curves.fill_between(frames, found.low, found.high, color=color, alpha=0.2, lw=0)
        profiles.plot(levels, (one.scores[:, None] > levels).mean(0), color=color, drawstyle="steps-post")
    curves.set(xlabel="frames", ylabel="return while training", xlim=(0, None))
    curves.xaxis.set_major_formatter(EngFormatter(sep=""))
    curves.legend(frameon=False, fontsize="small")
    profiles.set(xlabel="return", ylabel="share of runs with more", ylim=(-0.03, 1.03))
    for axes in (curves, profiles):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def compare(folders: list[Path], out: Path) -> str:
    """Compare runs, and draw them to the image ``out``.

    Args:
        folders: of runs, at least one.
        out: where the picture is written.

    Returns:
        The table, as Markdown.

    Raises:
        InputError: for a folder that is not one of a run.
    """
    groups = group([read_run(folder) for folder in folders])
    draw(out, groups)
    return table(groups)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
