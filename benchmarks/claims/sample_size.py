"""Experiment 17: whether a fall of the effective sample size foretells failure, from the runs of experiment 14.

A run fails if its return late in training is below half of the median at lag 0. Does the effective sample size in the
second fifth of the run tell which of the runs with rollouts that are one update old or more will fail? Measured by the
area under the ROC curve: the probability that a run that fails had a lower one than a run that does not. Confirmed if
its interval over seeds lies above 0.75; refuted if it lies below; otherwise not decided.
"""

import numpy as np
import scipy.stats

from benchmarks.claims.best_correction import stale_runs
from benchmarks.claims.common import main, report
from benchmarks.figures import caption, panels
from benchmarks.record import markdown_table

ENOUGH = 0.75
FIFTH = 1  # the second one


def area(sizes, fails):
    """The area under the ROC curve of runs ``sizes`` of which some ``fail``: both flat."""
    failed, others = sizes[fails], sizes[~fails]
    if not failed.size or not others.size:
        return np.nan
    return 1 - scipy.stats.mannwhitneyu(failed, others).statistic / (failed.size * others.size)


def with_interval(sizes, fails):
    """``(middle, low, high)`` of `area`, whole seeds resampled: both ``[arms, seeds]``."""
    rng = np.random.default_rng(0)
    draws = rng.integers(sizes.shape[-1], size=(1000, sizes.shape[-1]))
    areas = [area(sizes[:, draw].ravel(), fails[:, draw].ravel()) for draw in draws]
    return area(sizes.ravel(), fails.ravel()), *np.nanpercentile(areas, [2.5, 97.5])


def measure(sizes):
    """How well the effective sample size early in a run tells whether it will fail."""
    found = stale_runs()
    returns = np.array(found["returns"])  # [corrections, lags, seeds]
    shares = np.array(found["effective_sample_size"])[..., FIFTH]
    fails = returns < 0.5 * np.median(returns[:, 0])
    stale = slice(1, None)
    whole = with_interval(*(x[:, stale].reshape(-1, x.shape[-1]) for x in (shares, fails)))
    rows = [["all", f"{fails[:, stale].mean():.2f}", "{:.2f} ({:.2f} - {:.2f})".format(*whole)]]
    for j, lag in enumerate(found["lags"]):
        if fails[:, j].any() and not fails[:, j].all():
            cell = "{:.2f} ({:.2f} - {:.2f})".format(*with_interval(shares[:, j], fails[:, j]))
        else:
            cell = "all fail" if fails[:, j].all() else "none fails"
        rows.append([f"{lag}", f"{fails[:, j].mean():.2f}", cell])
    table = "Area under the ROC curve; 0.5 is chance.\n\n"
    table += markdown_table(["lag", "share that fails", "area (95 % interval)"], rows)
    verdict = "confirmed" if whole[1] > ENOUGH else "refuted" if whole[2] < ENOUGH else "not decided"
    report(
        17,
        "sample_size",
        "A fall of the effective sample size foretells failure.",
        verdict,
        "the effective sample size in the second fifth of a run ranks a run that fails below one that does not with a "
        "probability of {:.2f} ({:.2f} to {:.2f}), over all corrections and lags above 0.".format(*whole),
        table,
        draw,
        {"lags": found["lags"], "returns": returns, "effective_sample_size": shares},
        sizes._replace(seeds=returns.shape[-1], frames=found["frames"]),
    )


def draw(found):
    """Figure of the return of every run against its effective sample size early on."""
    figure, (axis,) = panels(height=4.2)
    returns, shares = np.array(found["returns"]), np.array(found["effective_sample_size"])
    for j, lag in enumerate(found["lags"]):
        axis.plot(shares[:, j].ravel(), returns[:, j].ravel(), ".", ms=4, alpha=0.5, label=f"lag {lag}")
    axis.set(xlabel="effective sample size in the second fifth of the run, share", ylabel="return late in training")
    axis.legend(fontsize=8)
    caption(figure, f"One point a run: {returns.shape[0]} corrections, {returns.shape[2]} seeds each.")
    return figure


if __name__ == "__main__":
    main(measure)
