"""Experiment 16: whether PPO's best learning rate falls like 1 / staleness.

Rates are a factor 1.6 apart, and the best one is not bound to them, see `common.fine_best_rates`. Its logarithm is
fitted by a line in that of lag + 1, over lags from 4 on at which at least half of lag 0's return is reached: where
nothing is learned there is no best rate. Confirmed if the slope's interval, seeds resampled, contains
-1 and excludes -0.5; refuted if it excludes -1; otherwise, or if a best rate lies at the end of the grid, not decided.
"""

from functools import partial

import numpy as np

from benchmarks.claims.common import (
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
from benchmarks.claims.stale_ppo import config
from benchmarks.figures import caption, panels, shades
from benchmarks.record import markdown_table
from purejaxrl_a3c import make_train

LAGS = (0, 4, 16, 64, 256)
RATES = tuple(4e-4 * 1.6**i for i in range(16))
FRAMES, SEEDS = 100_000, 30
FITTED_FROM = 4


def returns_at(lag):
    """Return late in training ``[rates, seeds]``."""

    def run(key, learning_rate):
        return late_return(make_train(config("none", learning_rate, float(lag), FRAMES))(key).metrics)

    return (sweep(run, {"learning_rate": RATES}, SEEDS),)


def measure(sizes):
    """The best learning rate of PPO against the age of its rollouts."""
    found = np.stack([once("best_rate", f"lag {lag}", partial(returns_at, lag))[0] for lag in LAGS])
    rng = np.random.default_rng(0)
    draws = rng.integers(found.shape[-1], size=(1000, found.shape[-1]))
    best = fine_best_rates(found, RATES)
    bounds = np.percentile([fine_best_rates(found[..., draw], RATES) for draw in draws], [2.5, 97.5], axis=0)
    middle = interval(found)[0]
    fitted = (np.array(LAGS) >= FITTED_FROM) & (middle.max(1) >= 0.5 * middle[0].max())
    fit, low, high = slope_interval(found[fitted], RATES, np.array(LAGS)[fitted] + 1)
    rows = [
        [f"{lag}", f"{best[i]:.1e} ({bounds[0, i]:.1e} - {bounds[1, i]:.1e})", f"{middle[i].max():.0f}"]
        for i, lag in enumerate(LAGS)
    ]
    table = "The best learning rate (95 % interval), and the best return of the grid.\n\n"
    table += markdown_table(["lag", "best rate", "return"], rows)
    # Where the largest rate is as good as any, the best one may lie beyond the grid.
    inside = (middle[fitted][:, [0, -1]].max(1) < 0.9 * middle[fitted].max(1)).all()
    confirmed = inside and low <= -1 <= high and high < -0.5
    report(
        16,
        "best_rate",
        "The best learning rate falls like 1 / staleness.",
        "confirmed" if confirmed else "refuted" if inside and not low <= -1 <= high else "not decided",
        f"from a lag of {FITTED_FROM} to {max(np.array(LAGS)[fitted])} updates PPO's best rate on CartPole-v1 "
        f"changes with the power {fit:.2f} ({low:.2f} to {high:.2f}) of lag + 1, where -1 is claimed.",
        table,
        draw,
        {"lags": LAGS, "rates": RATES, "returns": found, "best": best, "low": bounds[0], "high": bounds[1]},
        sizes._replace(seeds=SEEDS, frames=FRAMES),
    )


def draw(found):
    """Figure of the return against the rate at each lag, and of the best rate against the lag."""
    figure, (left, right) = panels(2, height=4)
    lags, rates = found["lags"], found["rates"]
    for color, lag, values in zip(shades(len(lags)), lags, np.array(found["returns"]), strict=True):
        middle, low, high = interval(values)
        left.plot(rates, middle, "o-", color=color, label=f"lag {lag}")
        left.fill_between(rates, low, high, color=color, alpha=0.15, lw=0)
    left.set(xscale="log", xlabel="learning rate", ylabel="return late in training", ylim=(0, None))
    left.legend(fontsize=8)
    best, low, high = (np.array(found[name]) for name in ("best", "low", "high"))
    at = np.array(lags) + 1
    right.errorbar(at, best, [best - low, high - best], fmt="ko-", capsize=3)
    right.plot(at, best[1] * at[1] / at, "--", color="0.5", label="1 / (lag + 1)")
    right.set(xscale="log", yscale="log", xlabel="lag + 1, updates", ylabel="best learning rate")
    right.legend()
    caption(figure, seeds_note(found, "bands and bars"))
    return figure


if __name__ == "__main__":
    main(measure)
