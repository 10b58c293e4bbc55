"""Experiment 3: what a return becomes when every gradient is exactly tau updates late.

On three tasks, with rates a factor 1.6 apart. Returns at a rate are of other seeds than those on which the rate was
chosen. Confirmed if on every task the longest delay costs return at the rate that is best without delay, and the power
of delay + 1 with which the best rate changes is negative, by intervals that exclude 0; refuted if on every task either
is of the other sign; otherwise not decided.
"""

from functools import partial
from typing import Any

import numpy as np

from benchmarks.claims.common import (
    best_rate,
    cross_fitted,
    difference,
    fine_best_rates,
    interval,
    late_return,
    main,
    once,
    report,
    seeds_note,
    slope_interval,
    sweep,
)
from benchmarks.claims.tasks import RATES, SEEDS, TASKS
from benchmarks.figures import caption, legend_above, panels, shades
from benchmarks.record import markdown_table
from purejaxrl_a3c import a3c, make_train
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.updates import Asynchrony

DELAYS = (0, 3, 15, 63)


def config(sizes, learning_rate, lag=0.0, **changes):
    """One worker with 16 environments, whose gradients are all ``lag`` updates old."""
    base: Any = replace(
        a3c.Config(),
        num_workers=1,
        envs_per_worker=16,
        rollout_length=5,
        total_frames=sizes.frames,
        learning_rate=learning_rate,
        hidden_sizes=(32,),
        asynchrony=Asynchrony(reads="lagged", lag=lag, max_lag=63),
    )
    return replace(base, **changes)


def returns_on(task):
    """Return late in training ``[delays, rates, seeds]``."""

    def run(key, lag, learning_rate):
        return late_return(make_train(config(task, learning_rate, lag, env_id=task.env_id))(key).metrics)

    return (sweep(run, {"lag": DELAYS, "learning_rate": RATES}, SEEDS),)


def measure(sizes):
    """Return against the delay tau of every gradient, the learning rate swept for each tau."""
    returns = np.stack([once("staleness", task.env_id, partial(returns_on, task))[0] for task in TASKS])
    rows, costs, powers = [], [], []
    for task, some in zip(TASKS, returns, strict=True):
        own, fixed = cross_fitted(some), some[:, best_rate(some)[0]]
        best = fine_best_rates(some, RATES)
        for i, delay in enumerate(DELAYS):
            cells = ["{:.4g} ({:.4g} - {:.4g})".format(*interval(x[i])) for x in (fixed, own)]
            rows.append([task.env_id, delay, *cells, f"{best[i]:.1e}"])
        costs.append(difference(fixed[0], fixed[-1]))
        powers.append(slope_interval(some, RATES, np.array(DELAYS) + 1))
    table = "Return late in training (interquartile mean, 95 % interval).\n\n" + markdown_table(
        ["task", "delay", "at the rate that is best without delay", "at its own best rate", "which is"], rows
    )
    worse = [cost[1] > 0 and power[2] < 0 for cost, power in zip(costs, powers, strict=True)]
    better = [cost[2] < 0 or power[1] > 0 for cost, power in zip(costs, powers, strict=True)]
    on_each = "; ".join(
        "{} {:.3g} ({:.3g} to {:.3g}), and the best rate changes like (delay + 1)^{:.2f} ({:.2f} to {:.2f})".format(
            task.env_id, *cost, *power
        )
        for task, cost, power in zip(TASKS, costs, powers, strict=True)
    )
    report(
        3,
        "staleness",
        "The later gradients are, the worse it gets, unless the learning rate is lowered with the delay.",
        "confirmed" if all(worse) else "refuted" if all(better) else "not decided",
        f"at the rate that is best without delay, a delay of {DELAYS[-1]} costs a return of: {on_each}.",
        table,
        draw,
        {
            "tasks": [task.env_id for task in TASKS],
            "bounds": [(task.low, task.high) for task in TASKS],
            "delays": DELAYS,
            "rates": RATES,
            "returns": returns,
        },
        sizes._replace(seeds=SEEDS, frames=TASKS[0].frames),
    )


def draw(found):
    """Figure of the return against the rate at each delay, a panel a task."""
    delays, rates, returns = found["delays"], found["rates"], np.array(found["returns"])
    figure, axes = panels(len(found["tasks"]), height=4)
    for axis, task, bounds, some in zip(axes, found["tasks"], found["bounds"], returns, strict=True):
        for color, delay, values in zip(shades(len(delays)), delays, some, strict=True):
            middle, low, high = interval(values)
            axis.plot(rates, middle, "o-", ms=3, color=color, label=f"delay {delay}")
            axis.fill_between(rates, low, high, color=color, alpha=0.15, lw=0)
        room = 0.03 * (bounds[1] - bounds[0])
        axis.set(xscale="log", xlabel="learning rate", title=f"A3C on {task}")
        axis.set_ylim(bounds[0] - room, bounds[1] + room)
    axes[0].set_ylabel("return late in training")
    legend_above(figure, axes[0], len(delays))
    caption(figure, seeds_note(found, "bands"))
    return figure


if __name__ == "__main__":
    main(measure)
