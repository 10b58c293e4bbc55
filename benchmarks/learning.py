"""Final returns of trained policies over seeds.

``python -m benchmarks.learning [suite]`` trains all seeds of a row in one ``vmap``ped program and evaluates each on
whole episodes with the most probable action. It writes a table (interquartile mean over seeds with its bootstrap 95 %
interval, worst seed) and the learning curves. The suites are in ``benchmarks/suites.py``.
"""

import time
from typing import Annotated, Any

import jax
import numpy as np
import scipy.stats
import tyro
from matplotlib.ticker import EngFormatter, MaxNLocator

from benchmarks import record
from benchmarks.figures import ALGORITHM_COLORS, OTHER_COLORS, caption, color_of, panels
from benchmarks.record import describe, markdown_table, save
from benchmarks.suites import ARMS, BEST, CORES, SUITES
from purejaxrl_a3c import evaluate, make_train
from purejaxrl_a3c.config import flat, to_json
from purejaxrl_a3c.run.plots import binned_mean

SAMPLED = "_sampled"
"""At the end of the names of the results of policies that were evaluated with sampled actions."""


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


def train_and_evaluate(config, seeds, episodes, deterministic=True):
    """Metrics ``[seeds, I]`` and mean returns ``[seeds]`` of the seeds 0, 1, ..."""
    keys = jax.vmap(jax.random.key)(np.arange(seeds))
    keys = jax.vmap(jax.random.split)(keys)
    result = jax.jit(jax.vmap(make_train(config)))(keys[:, 0])

    def final_return(state, key):
        return evaluate(config, state, key, episodes, deterministic).mean()

    returns = jax.jit(jax.vmap(final_return))(result.state, keys[:, 1])
    return jax.device_get(result.metrics), np.asarray(returns, np.float64)


def staleness_of(metrics):
    """The mean staleness in updates; None of an algorithm that learns from replay, which has no snapshots."""
    found = metrics.losses.get("staleness_mean")
    return None if found is None else float(found.mean())


def draw(found):
    """Figure of the learning curves, or of the returns in the end, a panel for each environment."""
    panels_of: dict[str, dict[str, Any]] = {}
    for name, row in found["results"].items():
        label, title = _split(name)
        panels_of.setdefault(title, {})[label] = row
    if found.get("picture") == "bars":
        return _bars(panels_of, len(found["seeds"]))
    columns = 2 if len(panels_of) == 4 else min(3, len(panels_of))
    figure, axes = panels(columns, -(-len(panels_of) // columns), height=3.4)
    shown: dict[str, Any] = {}
    for one, (title, curves) in zip(axes, panels_of.items(), strict=False):
        for label, row in curves.items():
            curve = row["curve"]
            style, frames = _style(label), np.array(curve["frames"])
            shown[label] = one.plot(frames, curve["middle"], lw=2, label=label, **style)[0]
            one.fill_between(frames, curve["low"], curve["high"], color=style["color"], alpha=0.15, lw=0)
        one.set(title=title.replace("-bsuite", ""), xlabel="frames", xlim=(0, None))
        one.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        one.xaxis.set_major_formatter(EngFormatter(sep=""))
    for one in axes[len(panels_of) :]:
        one.axis("off")
    for one in axes[::columns]:
        one.set_ylabel("return while training")
    if len(shown) > 1:
        figure.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=min(4, len(shown)))
    only = "" if len(shown) > 1 else f"{next(iter(shown))}. "
    caption(
        figure, f"{only}Interquartile mean over {len(found['seeds'])} seeds; bands: from the worst to the best seed."
    )
    return figure


def _bars(panels_of, seeds):
    """Figure of the returns of trained policies, a bar for each algorithm, beside the highest that there is."""
    figure, axes = panels(len(panels_of), height=3.4)
    for one, (title, rows) in zip(axes, panels_of.items(), strict=True):
        middle = np.array([row["interquartile_mean"] for row in rows.values()])
        low, high = np.array([(min(row["returns"]), max(row["returns"])) for row in rows.values()]).T
        # An interquartile mean never lies outside of the range, but for rounding.
        whiskers = np.maximum([middle - low, high - middle], 0)
        one.bar(list(rows), middle, color=[color_of(label) for label in rows], yerr=whiskers, capsize=3)
        one.axhline(BEST[title], color="k", lw=1, ls=":")
        one.axhline(0, color="k", lw=0.8)
        one.set_title(title.removesuffix("-bsuite"), fontsize=10.5)
        one.tick_params("x", rotation=90)
        one.grid(False, axis="x")
    axes[0].set_ylabel("return of the trained policy")
    caption(
        figure,
        f"Interquartile mean over {seeds} seeds; whiskers: from the worst to the best seed; dotted: the best return.",
    )
    return figure


def _split(name):
    """Label and title of a row: an environment's name may hold spaces, but no label ends with that of another."""
    known = {
        f"{label} {title}": (label, title) for suite in SUITES.values() for title in suite for label in suite[title]
    }
    return known[name]


def _style(label):
    """The algorithm's colour, and another line for its second variant."""
    if label in ARMS:
        return {"color": OTHER_COLORS[ARMS.index(label)], "ls": "-"}
    if (core := label.removeprefix("PPO-")) in CORES:
        return {"color": f"C{list(CORES).index(core)}", "ls": "-"}
    variant = any(word in label for word in ("feed-forward", "without", "at rate 0"))
    if label.startswith("RND"):
        return {"color": ALGORITHM_COLORS["RND"], "ls": ":" if "A2C" in label else "-"}
    if label == "one-step actor-critic":  # A2C with lambda 0
        return {"color": ALGORITHM_COLORS["A2C"], "ls": ":"}
    return {"color": color_of(label), "ls": "--" if variant else "-"}


def smooth(metrics, bins=50):
    """``(frames [bins], returns [seeds, bins])``; a stretch in which no episode ended repeats the one before."""
    ends = metrics.frames[0, -1] * (np.arange(bins) + 1) / bins
    rows = []
    for frames, returns, episodes in zip(metrics.frames, metrics.episode_return, metrics.episodes, strict=True):
        at, means = binned_mean(frames, returns, episodes, bins)
        rows.append(means[np.maximum(np.searchsorted(at, ends, side="right") - 1, 0)])
    return ends, np.array(rows)


def render(name, seeds, episodes, data, order):
    """The table of all rows that are in ``data``, and the picture."""
    actions = "sampled actions" if name.endswith(SAMPLED) else "the most probable action"
    rows: list[list[str]] = []
    for title, label in order:
        row = data.get(f"{label} {title}")
        if row is None:
            continue
        middle, (low, high), returns = row["interquartile_mean"], row["interval"], row["returns"]
        digits = 2 if abs(middle) < 10 else 1
        rows.append(
            [
                f"{label} on {title}",
                f"{row['frames'] if 'frames' in row else row['config']['total_frames']:,}",
                f"{middle:.{digits}f}",
                f"{low:.{digits}f} to {high:.{digits}f}",
                f"{min(returns):.{digits}f}",
                "" if row["staleness_mean"] is None else f"{row['staleness_mean']:.1f}",
            ]
        )
    table = (
        f"Return of the trained policy: interquartile mean over {seeds} seeds, each the mean of {episodes} whole "
        f"episodes with {actions}.\n\n"
        + markdown_table(["", "frames", "return", "95 % interval", "worst seed", "mean staleness"], rows)
    )
    circumstances = [data[f"{label} {title}"]["measured"] for title, label in order if f"{label} {title}" in data]
    found: dict[str, Any] = {"seeds": list(range(seeds)), "episodes": episodes, "results": data}
    if name.removesuffix(SAMPLED) == "learning_bsuite":
        found["picture"] = "bars"
    save(name, found, table, circumstances, draw)


def main(
    suite: Annotated[str, tyro.conf.Positional] = "defaults",
    seeds: int = 10,
    episodes: int = 128,
    only: str = "",
    sample: bool = False,
):
    """Train, evaluate and write results/learning.json, .md and .png, or learning_SUITE.json and so on.

    The files are written after every row. Rows that were measured before stay if they are of the same suite.

    Args:
        suite: a key of `benchmarks.suites.SUITES`.
        seeds: how many; the seeds are 0, 1, ...
        episodes: of each evaluation.
        only: measure only the rows whose name, "A3C on Catch-bsuite" say, contains this.
        sample: evaluate with sampled actions, and write learning_SUITE_sampled.json and so on.
    """
    name = ("learning" if suite == "defaults" else f"learning_{suite}") + (SAMPLED if sample else "")
    check_same(name, seeds, episodes)
    order = [(title, label) for title, configs in SUITES[suite].items() for label in configs]
    for title, label in order:
        if only not in f"{label} on {title}":
            continue
        config = SUITES[suite][title][label]
        began = time.perf_counter()
        metrics, returns = train_and_evaluate(config, seeds, episodes, deterministic=not sample)
        frames, curves = smooth(metrics)
        measured = {
            "config": to_json(config),
            "frames": flat(config)["total_frames"],
            "returns": returns.tolist(),
            "interquartile_mean": float(interquartile_mean(returns)),
            "interval": list(interval(returns)),
            "staleness_mean": staleness_of(metrics),
            "curve": {
                "frames": frames.tolist(),
                "middle": interquartile_mean(curves, axis=0).tolist(),
                "low": curves.min(0).tolist(),
                "high": curves.max(0).tolist(),
            },
            "measured": describe() | {"seconds_of_all_seeds_with_compilation": time.perf_counter() - began},
        }
        # Read only now: another process may have added rows.
        check_same(name, seeds, episodes)
        before = {key: row for key, row in record.rows_of(name).items() if "measured" in row}
        render(name, seeds, episodes, before | {f"{label} {title}": measured}, order)


def check_same(name, seeds, episodes):
    """Check that the rows measured before, which stay, are of as many seeds and episodes.

    Raises:
        SystemExit: if they are not, as a table has one number of each.
    """
    before = record.load(name)
    for what, value in (("seeds", list(range(seeds))), ("episodes", episodes)):
        if before.get("results") and before[what] != value:
            count = len(before[what]) if what == "seeds" else before[what]
            raise SystemExit(f"results/{name}.json has rows of {count} {what}: measure as many, or move it away first")


if __name__ == "__main__":
    tyro.cli(main)
