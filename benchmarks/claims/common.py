"""Shared by the scripts of the claims: sweeps in one program, intervals, figures and reports."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
import tyro
from matplotlib.figure import Figure

from benchmarks import record
from benchmarks.learning import interquartile_mean
from benchmarks.record import plain, save


class Sizes(NamedTuple):
    """How much to measure."""

    seeds: int
    frames: int  # of each run


DEFAULT, FULL = Sizes(10, 100_000), Sizes(30, 1_000_000)


def main(measure):
    """Run a claim's ``measure(sizes)`` from the command line; ``--full`` is for a GPU."""

    def script(full: bool = False):
        measure(FULL if full else DEFAULT)

    tyro.cli(script, description=measure.__doc__)


def compiled(run, batch: int):
    """``run(key, **point) -> arrays`` at any number of points, in one program.

    Args:
        run: a pure function; the points' values are traced floats.
        batch: runs that are computed side by side.

    Returns:
        A function of seeds ``[n]`` and of values by name ``[n]``, which returns NumPy arrays ``[n, ...]``.
    """
    side_by_side = jax.jit(jax.vmap(lambda seed, point: run(jax.random.key(seed), **point)))

    def at(seeds, points):
        rows = []
        for start in range(0, len(seeds), batch):
            # The last ones are run again where a batch would not be full.
            some = np.minimum(np.arange(start, start + batch), len(seeds) - 1)
            rows.append(
                jax.device_get(
                    side_by_side(
                        jnp.asarray(seeds[some], jnp.uint32),
                        {name: jnp.asarray(values[some], jnp.float32) for name, values in points.items()},
                    )
                )
            )
        return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(seeds)], *rows)

    return at


def all_points(grid: Mapping[str, Sequence[float]], seeds: Sequence[int]):
    """Every point of a grid with every seed: the shape of all of them, seeds ``[n]`` and values by name ``[n]``."""
    mesh = [axis.reshape(-1) for axis in np.meshgrid(*map(np.asarray, grid.values()), seeds, indexing="ij")]
    return (*map(len, grid.values()), len(seeds)), mesh[-1], dict(zip(grid, mesh[:-1], strict=True))


BATCH = 80
"""Runs that are computed side by side, at most."""


def width(points: int, batch: int = BATCH):
    """How many of so many runs to compute side by side, so that no batch is much emptier than the others."""
    return -(-points // -(-points // batch))


def sweep(run, grid: Mapping[str, Sequence[float]], seeds: int, batch=BATCH, first_seed=0):
    """``run(key, **point) -> arrays`` at every point of ``grid``, for every seed, in one compiled program.

    Args:
        run: a pure function; the points' values are traced floats.
        grid: values by name.
        seeds: how many seeds, which all points share.
        batch: runs that are computed side by side, at most.
        first_seed: the seeds are this one and the next ones.

    Returns:
        What ``run`` returns, as NumPy arrays with the leading axes ``[*sizes of the grid, seeds]``.
    """
    shape, every_seed, points = all_points(grid, range(first_seed, first_seed + seeds))
    flat = compiled(run, width(len(every_seed), batch))(every_seed, points)
    return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), flat)


def cross_fitted(returns, share=0.5):
    """Returns at the best rate, which is chosen for each part of the seeds on the others.

    Args:
        returns: ``[..., rates, seeds]``.
        share: of the seeds in the first of the two parts.

    Returns:
        ``[..., seeds]``.
    """
    cut = max(1, round(share * returns.shape[-1]))
    parts = returns[..., :cut], returns[..., cut:]
    chosen = [best_rate(other) for other in parts[::-1]]
    picked = [np.take_along_axis(x, i[..., None, None], -2)[..., 0, :] for x, i in zip(parts, chosen, strict=True)]
    return np.concatenate(picked, -1)


def fine_best_rates(returns, rates, share=0.9):
    """The best learning rates, not bound to the grid: ``[..., rates, seeds]`` to ``[...]``.

    The mean of the rates' logarithms, each weighted by how far the interquartile mean of its return lies above
    ``share`` of the way from the worst to the best one.
    """
    middle = interquartile_mean(returns, axis=-1)
    low, high = middle.min(-1, keepdims=True), middle.max(-1, keepdims=True)
    weight = np.maximum(middle - low - share * (high - low), 1e-9)
    return np.exp((weight * np.log(rates)).sum(-1) / weight.sum(-1))


def slope_interval(returns, rates, at):
    """``(middle, low, high)`` of the power of ``at`` with which the best rate changes, seeds resampled.

    Args:
        returns: ``[points, rates, seeds]``.
        rates: learning rates.
        at: positive numbers ``[points]``.
    """
    rng = np.random.default_rng(0)

    def slope(some):
        return np.polyfit(np.log(at), np.log(fine_best_rates(some, rates)), 1)[0]

    draws = rng.integers(returns.shape[-1], size=(1000, returns.shape[-1]))
    low, high = np.percentile([slope(returns[..., draw]) for draw in draws], [2.5, 97.5])
    return float(slope(returns)), float(low), float(high)


SEARCH = 1000
"""The first of the seeds on which settings are chosen where that is not done on the seeds that are reported on."""


def at_chosen_rates(run, grid: Mapping[str, Sequence[float]], rates: Sequence[float], search: int, seeds: int):
    """Runs at every point of ``grid``, each at the learning rate that is best on other seeds.

    Args:
        run: ``run(key, **point, learning_rate)`` to ``(return, others...)``.
        grid: values by name.
        rates: learning rates to choose from.
        search: seeds on which they are chosen, by the interquartile mean of the return.
        seeds: seeds to report on, 0, 1, ...

    Returns:
        ``(found, chosen, searched)``: what ``run`` returns ``[*sizes of the grid, seeds]``, the rates ``[*sizes of the
        grid]``, and the returns of the search ``[*sizes of the grid, rates, search]``.
    """
    shape, some_seeds, points = all_points({**grid, "learning_rate": rates}, range(SEARCH, SEARCH + search))
    at = compiled(run, width(len(some_seeds)))
    searched = at(some_seeds, points)[0].reshape(shape)
    chosen = np.asarray(rates)[best_rate(searched)]
    shape, every_seed, points = all_points(grid, range(seeds))
    found = at(every_seed, points | {"learning_rate": np.repeat(chosen.reshape(-1), seeds)})
    return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), found), chosen, searched


def once(name: str, arm: str, measure: Callable[[], tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    """What ``measure()`` returns, or what it did before an interruption, at the same commit.

    Args:
        name: of the claim.
        arm: what is measured, with all that decides the outcome.
        measure: returns arrays.
    """
    path = (record.RESULTS / "claims" / name).with_suffix(".unfinished.json")
    found = json.loads(path.read_text()) if path.exists() else {}
    commit = record.describe()["commit"]
    key = f"{arm}, {commit}"
    # A commit with local changes can be any program.
    if key not in found or commit.endswith(record.CHANGED):
        found[key] = plain(list(measure()))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
    return tuple(np.array(values) for values in found[key])


def late_return(metrics, share=0.2):
    """Mean return of the episodes that ended in the last part of a run: float32 [], pure."""
    late = metrics.episodes * (metrics.frames > (1 - share) * metrics.frames[-1])
    return jnp.where(late > 0, metrics.episode_return * late, 0.0).sum() / late.sum()


def interval(values, statistic=interquartile_mean):
    """``(middle, low, high)`` of a statistic of ``values [..., seeds]`` with its bootstrap 95 % percentile interval."""
    found = scipy.stats.bootstrap(
        (np.asarray(values, np.float64),),
        statistic,
        method="percentile",
        n_resamples=5000,
        axis=-1,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return statistic(values, axis=-1), found.confidence_interval.low, found.confidence_interval.high


def difference(a, b, statistic=interquartile_mean):
    """``(middle, low, high)`` of statistic(a) - statistic(b), seeds resampled independently in each arm."""
    rng = np.random.default_rng(0)

    def resample(values):
        return statistic(values[rng.integers(len(values), size=(5000, len(values)))], axis=-1)

    low, high = np.percentile(resample(np.asarray(a)) - resample(np.asarray(b)), [2.5, 97.5])
    return float(statistic(a) - statistic(b)), float(low), float(high)


def best_rate(returns, axis=-2):
    """Index along ``axis`` (learning rates) of the best interquartile mean over the last axis (seeds)."""
    return np.argmax(interquartile_mean(returns, axis=-1), axis=axis + 1 if axis < -1 else axis)


def seeds_note(found, bands="bars"):
    """The caption of a figure of interquartile means over the seeds of ``found``."""
    return f"Interquartile mean over {len(found['seeds'])} seeds; {bands}: its bootstrap 95 % interval."


def report(
    number: int,
    name: str,
    claim: str,
    verdict: str,
    sentence: str,
    table: str,
    draw: Callable[[dict[str, Any]], Figure],
    data: Mapping[str, Any],
    sizes: Sizes | None = None,
):
    """Write ``results/claims/NAME.json``, ``.md`` and ``.png``, and print table and verdict.

    Args:
        number: of the experiment.
        name: of the files and of the script.
        claim: one sentence, as a tutorial would have it.
        verdict: "confirmed", "refuted" or "not decided".
        sentence: why, with figures and intervals.
        table: Markdown, with what a reader needs to understand it.
        draw: makes the figure from what the JSON holds.
        data: everything measured, for the JSON.
        sizes: seeds and frames, where runs were trained.
    """
    if verdict not in ("confirmed", "refuted", "not decided"):
        raise ValueError(verdict)
    about = {"number": number, "claim": claim, "verdict": verdict, "sentence": sentence}
    about |= {"seeds": list(range(sizes.seeds)), "frames": sizes.frames} if sizes else {}
    text = f"**{claim}**\n\n{table}\n{verdict.capitalize()}: {sentence}\n"
    save(f"claims/{name}", about | plain(dict(data)), text, draw=draw)
    (record.RESULTS / "claims" / name).with_suffix(".unfinished.json").unlink(missing_ok=True)
    print(f"{number}. {verdict}: {sentence}")
