"""Experiment 14: what PPO becomes when rollouts are stale, and what the corrections are worth.

Confirmed if at a lag of 64 updates PPO loses return against lag 0, each at its best rate, and decoupled PPO gains some
of it back; refuted if either interval lies on the other side of 0; otherwise not decided.
"""

from functools import partial
from typing import Any, get_args

import matplotlib
import numpy as np

from benchmarks.claims.common import (
    arms_table,
    at_best_rates,
    difference,
    interval,
    late_return,
    main,
    once,
    report,
    seeds_note,
    sweep,
)
from benchmarks.figures import caption, panels
from purejaxrl_a3c import make_train, ppo
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.objectives.stale import CorrectionName
from purejaxrl_a3c.updates import Asynchrony

LAGS = (0, 1, 4, 16, 64, 256)
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
CORRECTIONS = get_args(CorrectionName)
FRAMES = 300_000  # 2343 updates
DECIDES = 64


def config(correction, learning_rate, lag):
    """One worker with 8 environments that acts with parameters ``lag`` updates old; an update is 4 gradient steps."""
    base: Any = replace(
        ppo.Config(),
        num_envs=8,
        rollout_length=16,
        epochs=2,
        num_minibatches=2,
        total_frames=FRAMES,
        learning_rate=learning_rate,
        # A rate that falls would let a run recover at its end.
        anneal_learning_rate=False,
        hidden_sizes=(32,),
        asynchrony=Asynchrony(reads="lagged", lag=lag, max_lag=max(LAGS)),
    )
    return replace(base, loss_correction=correction)


def returns_of(correction, seeds):
    """Return late in training, ``[lags, rates, seeds]``, and the mean effective sample size, likewise."""

    def run(key, lag, learning_rate):
        metrics = make_train(config(correction, learning_rate, lag))(key).metrics
        return late_return(metrics), metrics.losses["effective_sample_size"].mean()

    return sweep(run, {"lag": LAGS, "learning_rate": RATES}, seeds)


def measure(sizes):
    """Return of PPO against the lag of its rollouts under each correction, the learning rate swept for each of them."""
    found = [
        once("stale_ppo", f"{correction}, {sizes.seeds}", partial(returns_of, correction, sizes.seeds))
        for correction in CORRECTIONS
    ]
    returns, sample_sizes = (np.stack(arrays) for arrays in zip(*found, strict=True))  # [corrections, lags, ...]
    table, swept = arms_table(CORRECTIONS, returns, RATES, LAGS, "lag")
    at, plain, cured = LAGS.index(DECIDES), *(CORRECTIONS.index(name) for name in ("none", "decoupled"))
    loss, gain = difference(swept[plain, 0], swept[plain, at]), difference(swept[cured, at], swept[plain, at])
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
            "effective_sample_size": sample_sizes,
        },
        sizes._replace(frames=FRAMES),
    )


def draw(found):
    """Figure of the return under each correction at each lag, by colour and as a number."""
    middle = interval(at_best_rates(np.array(found["returns"]))[0])[0]
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


if __name__ == "__main__":
    main(measure)
