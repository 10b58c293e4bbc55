"""Experiment 15: which correction is best at each lag, from the runs of experiment 14.

The claim is that one correction is best at every lag. Confirmed if the one with the highest mean rank is nowhere worse
than another, by an interval of their difference that excludes 0; refuted if at some lag it is.
"""

import numpy as np
import scipy.stats

from benchmarks import record
from benchmarks.claims.common import difference, interval, main, report, seeds_note
from benchmarks.figures import caption, panels, shades
from benchmarks.record import markdown_table


def stale_runs():
    """What experiment 14 has measured."""
    found = record.load("claims/stale_ppo")
    if not found:
        raise SystemExit("This looks at the runs of experiment 14: first python -m benchmarks.claims.stale_ppo")
    return found


def measure(sizes):
    """Compare every correction with the best one of its lag."""
    found = stale_runs()
    names, lags, returns = found["corrections"], found["lags"], np.array(found["returns"])
    middle = interval(returns)[0]  # [corrections, lags]
    ranks = scipy.stats.rankdata(-middle, axis=0).mean(1)
    overall = int(ranks.argmin())
    rows, worse = [], []
    for j, lag in enumerate(lags):
        best = int(middle[:, j].argmax())
        gaps = [difference(returns[best, j], returns[i, j]) for i in range(len(names))]
        equal = [names[i] for i in range(len(names)) if i != best and gaps[i][1] <= 0]
        if overall != best and gaps[overall][1] > 0:
            worse.append(lag)
        rows.append([f"{lag}", f"{names[best]} {middle[best, j]:.0f}", ", ".join(equal) or "none"])
    table = "The best correction at each lag, and those that are not worse by more than the seeds' chance.\n\n"
    table += markdown_table(["lag", "best", "as good"], rows)
    table += "\n" + markdown_table(
        ["correction", "mean rank over the lags"], [[names[i], f"{ranks[i]:.1f}"] for i in ranks.argsort()]
    )
    where = f"but at lag {', '.join(map(str, worse))} another one is better" if worse else "and is nowhere worse"
    report(
        15,
        "best_correction",
        "One correction is best at every staleness.",
        "refuted" if worse else "confirmed",
        f"of {len(names)} corrections {names[overall]} has the best mean rank, {ranks[overall]:.1f}, {where}.",
        table,
        draw,
        {key: found[key] for key in ("corrections", "lags", "returns")} | {"ranks": ranks},
        sizes._replace(seeds=returns.shape[-1], frames=found["frames"]),
    )


def draw(found):
    """Figure of the return against the lag, a curve a correction."""
    names, lags = found["corrections"], found["lags"]
    figure, (axis,) = panels(height=4.6)
    at = np.arange(len(lags))
    for color, name, values in zip(shades(len(names)), names, np.array(found["returns"]), strict=True):
        middle, low, high = interval(values)
        axis.plot(at, middle, "o-", color=color, label=name)
        axis.fill_between(at, low, high, color=color, alpha=0.1, lw=0)
    axis.set(xticks=at, xticklabels=lags, xlabel="age of a rollout, updates", ylim=(0, None))
    axis.set(ylabel="return late in training", title="CartPole-v1, each at its best learning rate")
    axis.legend(fontsize=8, ncols=2)
    caption(figure, seeds_note(found, "bands"))
    return figure


if __name__ == "__main__":
    main(measure)
