"""Experiment 13: what IMPALA's corrections are worth when the policy that acts is some updates old."""

import numpy as np

from benchmarks.claims.common import arms_table, difference, draw_arms, late_return, main, report, sweep
from benchmarks.figures import ALGORITHM_COLORS, OTHER_COLORS
from purejaxrl_a3c import impala, make_train
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.updates import Asynchrony

LAGS = (0, 1, 4, 16, 64)
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
ARMS = {"vtrace": "V-trace", "one_step": "one-step", "epsilon": "epsilon", "none": "no correction"}


def config(sizes, learning_rate, lag, off_policy="vtrace"):
    """One worker with 16 environments that acts with parameters ``lag`` updates old; gradients are at the newest."""
    return replace(
        impala.Config(),
        num_workers=1,
        envs_per_worker=16,
        rollout_length=5,
        total_frames=sizes.frames,
        learning_rate=learning_rate,
        hidden_sizes=(32,),
        off_policy=off_policy,
        asynchrony=Asynchrony(reads="lagged", lag=lag, max_lag=max(LAGS)),
    )


def measure(sizes):
    """Return against the lag of the policy under each correction, the learning rate swept for each lag and arm."""
    returns = []
    for arm in ARMS:

        def run(key, lag, learning_rate, arm=arm):
            return late_return(make_train(config(sizes, learning_rate, lag, arm))(key).metrics)

        returns.append(sweep(run, {"lag": LAGS, "learning_rate": RATES}, sizes.seeds))
    all_returns = np.stack(returns)  # [arms, lags, rates, seeds]
    table, swept = arms_table(list(ARMS.values()), all_returns, RATES, LAGS, "lag")
    gains = [difference(swept[0, i], swept[-1, i]) for i in range(len(LAGS))]
    # The claim is about large lags; at lag 0 the two are the same run.
    large = [gain for lag, gain in zip(LAGS, gains, strict=True) if lag >= 16]
    helps, harms = any(low > 0 for _, low, _ in large), any(high < 0 for _, _, high in large)
    verdict = "confirmed" if helps and not harms else "refuted" if harms and not helps else "not decided"
    changes = ", ".join(
        "at lag {} {:+.0f} ({:.0f} to {:.0f})".format(lag, *gain) for lag, gain in zip(LAGS, gains, strict=True)
    )
    report(
        13,
        "policy_lag",
        "V-trace learns from an old policy's trajectories where doing nothing fails.",
        verdict,
        f"V-trace less no correction, each at its best rate: {changes}.",
        table,
        draw,
        {"lags": LAGS, "rates": RATES, "arms": list(ARMS), "returns": all_returns},
        sizes,
    )


def draw(found):
    """Figure of the return against the lag of the policy under each correction."""
    labels = [ARMS[arm] for arm in found["arms"]]
    colors = (ALGORITHM_COLORS["IMPALA"], *OTHER_COLORS[1:3], OTHER_COLORS[0])
    return draw_arms(found, labels, colors, found["lags"], "lag of the policy that acts, updates")


if __name__ == "__main__":
    main(measure)
