"""Experiment 14: what PPO becomes when rollouts are stale, and what the corrections are worth.

Confirmed if at a lag of 64 updates PPO loses return against lag 0, each at its best rate, and decoupled PPO gains some
of it back; refuted if either interval lies on the other side of 0; otherwise not decided. Rates are chosen on other
seeds than are reported. Experiments 15 and 17 look at the same runs.
"""

from functools import partial
from typing import Any, get_args

import matplotlib
import numpy as np
import tyro

from benchmarks import record
from benchmarks.claims.common import (
    DEFAULT,
    at_chosen_rates,
    difference,
    interval,
    late_return,
    once,
    report,
    seeds_note,
)
from benchmarks.figures import caption, panels
from benchmarks.record import markdown_table
from purejaxrl_a3c import make_train, ppo
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.objectives.stale import CorrectionName
from purejaxrl_a3c.updates import Asynchrony

LAGS = (0, 1, 4, 16, 64, 256)
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
CORRECTIONS = get_args(CorrectionName)
FRAMES = 150_000  # 1171 updates
SEARCH_SEEDS, SEEDS = 10, 30
DECIDES = 64


def config(correction, learning_rate, lag, frames):
    """One worker with 8 environments that acts with parameters ``lag`` updates old; an update is 4 gradient steps."""
    base: Any = replace(
        ppo.Config(),
        num_envs=8,
        rollout_length=16,
        epochs=2,
        num_minibatches=2,
        total_frames=frames,
        learning_rate=learning_rate,
        # A rate that falls would let a run recover at its end.
        anneal_learning_rate=False,
        hidden_sizes=(32,),
        asynchrony=Asynchrony(reads="lagged", lag=lag, max_lag=max(LAGS)),
    )
    return replace(base, loss_correction=correction)


def returns_of(correction):
    """At each lag the return late in training and the mean effective sample size in each fifth of the run.

    Returns:
        ``[lags, seeds]``, ``[lags, seeds, 5]``, the learning rates that were chosen ``[lags]``, and the returns of the
        search ``[lags, rates, seeds]``.
    """

    def run(key, lag, learning_rate):
        metrics = make_train(config(correction, learning_rate, lag, FRAMES))(key).metrics
        sizes = metrics.losses["effective_sample_size"]
        fifths = sizes[: sizes.size // 5 * 5].reshape(5, -1).mean(1)
        return late_return(metrics), fifths

    (returns, sizes), chosen, searched = at_chosen_rates(run, {"lag": LAGS}, RATES, SEARCH_SEEDS, SEEDS)
    return returns, sizes, chosen, searched


def runs_before(correction):
    """What `returns_of` has found, from the committed result, and the commit of that."""
    found = record.load("claims/stale_ppo")
    at = found["corrections"].index(correction)
    names = ("returns", "effective_sample_size", "chosen", "searched")
    commits = found.get("commits", [found["commit"]] * len(found["corrections"]))
    return tuple(np.array(found[name][at]) for name in names), commits[at]


def measure(sizes, only: tuple[str, ...] = CORRECTIONS):
    """Return of PPO against the lag of its rollouts under each correction, the learning rate swept for each of them.

    Args:
        sizes: are those of this file, whatever is said.
        only: the corrections to measure; the others' rows stay as they are in the committed result.
    """
    found, commits = [], []
    for name in CORRECTIONS:
        if name in only:
            arrays, commit = once("stale_ppo", name, partial(returns_of, name)), record.describe()["commit"]
        else:
            arrays, commit = runs_before(name)
        found.append(arrays)
        commits.append(commit)
    returns, sample_sizes, chosen, searched = (np.stack(arrays) for arrays in zip(*found, strict=True))
    rows = []
    for name, values, rates in zip(CORRECTIONS, returns, chosen, strict=True):
        cells = zip(*interval(values), rates, strict=True)
        rows.append([name, *("{:.0f} ({:.0f} - {:.0f}) at {:g}".format(*cell) for cell in cells)])
    table = (
        "Return late in training (interquartile mean, 95 % interval) at the learning rate that is named, the best one "
        "on other seeds; a lag counts updates.\n\n" + markdown_table(["correction", *(f"lag {x}" for x in LAGS)], rows)
    )
    if len(set(commits)) > 1:
        earlier = ", ".join(f"{name} {commit}" for name, commit in zip(CORRECTIONS, commits, strict=True))
        table += f"\nCommits at which the rows were measured: {earlier}.\n"
    at, plain, cured = LAGS.index(DECIDES), *(CORRECTIONS.index(name) for name in ("none", "decoupled"))
    loss = difference(returns[plain, 0], returns[plain, at])
    gain = difference(returns[cured, at], returns[plain, at])
    confirmed, refuted = loss[1] > 0 and gain[1] > 0, loss[2] < 0 or gain[2] < 0
    report(
        14,
        "stale_ppo",
        "Stale rollouts cost PPO its return, and a clip around the policy that the learner had recovers it.",
        "confirmed" if confirmed else "refuted" if refuted else "not decided",
        "each at its best rate, a lag of {} costs PPO {:.0f} ({:.0f} to {:.0f}) of return on CartPole-v1, and "
        "decoupled PPO is {:.0f} ({:.0f} to {:.0f}) above it there.".format(DECIDES, *loss, *gain),
        table,
        draw,
        {
            "lags": LAGS,
            "rates": RATES,
            "corrections": CORRECTIONS,
            "returns": returns,
            "chosen": chosen,
            "searched": searched,
            "commits": commits,
            "effective_sample_size": sample_sizes,
        },
        sizes._replace(seeds=SEEDS, frames=FRAMES),
    )


def draw(found):
    """Figure of the return under each correction at each lag, by colour and as a number."""
    middle = interval(np.array(found["returns"]))[0]
    figure, (axis,) = panels(height=5)
    axis.grid(False)
    axis.imshow(middle, aspect="auto", cmap="viridis", vmin=0, vmax=500)
    for (row, column), value in np.ndenumerate(middle):
        axis.text(column, row, f"{value:.0f}", ha="center", va="center", color="k" if value > 300 else "w")
    axis.set(xticks=range(len(found["lags"])), xticklabels=found["lags"], xlabel="age of a rollout, updates")
    axis.set(yticks=range(len(found["corrections"])), yticklabels=found["corrections"])
    axis.set_title("PPO's return late in training on CartPole-v1, each at its best learning rate")
    bar = figure.colorbar(matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, 500), "viridis"), ax=axis)
    bar.outline.set_visible(False)
    caption(figure, seeds_note(found).split(";")[0] + ".")
    return figure


def main(only: tuple[str, ...] = CORRECTIONS):
    """Measure experiment 14.

    Args:
        only: the corrections to measure again.
    """
    measure(DEFAULT, only)


if __name__ == "__main__":
    tyro.cli(main)
