"""Experiment 4: what corrections of stale gradients are worth, at each delay."""

from typing import Any

import numpy as np

from benchmarks.claims import policy_lag, staleness
from benchmarks.claims.common import arms_table, difference, draw_arms, late_return, main, report, sweep
from benchmarks.figures import ALGORITHM_COLORS, OTHER_COLORS
from purejaxrl_a3c import make_train
from purejaxrl_a3c.config import replace

DELAYS = (0, 3, 15, 63)
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
ARMS = {
    "none": "nothing",
    "staleness": "step / delay",
    "delay": "delay compensation",
    "adaptive_delay": "adaptive delay compensation",
    "vtrace": "V-trace at the newest parameters",
}
STRENGTHS = {"adaptive_delay": 2.0}  # lambda_0 in Zheng et al. 2017; 0.04 for the constant one


def measure(sizes):
    """Return against the delay under each correction, the learning rate swept for each delay and correction."""
    returns = []
    for correction in ARMS:

        def run(key, lag, learning_rate, correction=correction):
            if correction == "vtrace":  # not a correction of gradients: IMPALA, whose trajectories are as late
                config: Any = policy_lag.config(sizes, learning_rate, lag)
            else:
                config = staleness.config(sizes, learning_rate, lag, correction=correction)
                config = replace(config, correction_strength=STRENGTHS.get(correction, 0.04))
            return late_return(make_train(config)(key).metrics)

        returns.append(sweep(run, {"lag": DELAYS, "learning_rate": RATES}, sizes.seeds))
    all_returns = np.stack(returns)  # [arms, delays, rates, seeds]
    table, swept = arms_table(list(ARMS.values()), all_returns, RATES, DELAYS, "delay")
    gains = {
        label: [difference(values[i], swept[0, i]) for i in range(len(DELAYS))]
        for label, values in zip(list(ARMS.values())[1:], swept[1:], strict=True)
    }
    late = {label: gain[-1] for label, gain in gains.items()}
    helps = [label for label, (_, low, _) in late.items() if low > 0]
    harms = [label for label, (_, _, high) in late.items() if high < 0]
    verdict = "confirmed" if helps else "refuted" if len(harms) == len(late) else "not decided"
    changes = ", ".join("{} {:+.0f} ({:.0f} to {:.0f})".format(label, *gain) for label, gain in late.items())
    small = ", ".join("{} {:+.0f} ({:.0f} to {:.0f})".format(label, *gain[1]) for label, gain in gains.items())
    report(
        4,
        "corrections",
        "Correcting stale gradients recovers what a long delay costs.",
        verdict,
        f"against doing nothing, each at its best rate, at delay {DELAYS[-1]}: {changes}; "
        f"at delay {DELAYS[1]}: {small}.",
        table,
        draw,
        {"delays": DELAYS, "rates": RATES, "arms": list(ARMS), "returns": all_returns},
        sizes,
    )


def draw(found):
    """Figure of the return against the delay under each correction."""
    labels = [ARMS[arm] for arm in found["arms"]]
    colors = (*OTHER_COLORS, ALGORITHM_COLORS["IMPALA"])
    return draw_arms(found, labels, colors, found["delays"], "delay of every gradient, updates")


if __name__ == "__main__":
    main(measure)
