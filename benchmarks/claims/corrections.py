"""Experiment 4: what corrections of stale gradients are worth, at each delay.

On three tasks together, every arm at its own best learning rate. Confirmed if at the longest delay a correction wins
back more than half of what the delay costs, by an interval that excludes half; refuted if none can; otherwise not
decided. Division of the step by its staleness is, where every gradient is equally late, a lower rate, which the arm
without correction may choose as well; so it is measured at the rate that is best without delay, where it saves the
search.
"""

from functools import partial
from typing import Any

from benchmarks.claims import policy_lag, staleness
from benchmarks.claims.common import late_return, main, report
from benchmarks.claims.tasks import (
    SEEDS,
    TASKS,
    data_of,
    draw_tasks,
    gain,
    measure_arm,
    measure_at,
    over_tasks,
    scores,
    seeds_to_decide,
    shown,
    table_of,
)
from benchmarks.figures import ALGORITHM_COLORS, OTHER_COLORS
from purejaxrl_a3c import make_train
from purejaxrl_a3c.config import replace

DELAYS = (0, 3, 15, 63)
NOTHING = "nothing"
ARMS = {
    NOTHING: "none",
    "delay compensation": "delay",
    "adaptive delay compensation": "adaptive_delay",
    "V-trace at the newest parameters": "vtrace",
}
AT_ITS_RATE = {
    "nothing, at the rate without delay": "none",
    "step / delay, at the rate without delay": "staleness",
}
STRENGTHS = {"adaptive_delay": 2.0}  # lambda_0 in Zheng et al. 2017; 0.04 for the constant one
HALF = 0.5


def late(task, key, lag, learning_rate, correction):
    """Return late in training of one run."""
    if correction == "vtrace":  # not a correction of gradients: IMPALA, whose trajectories are as late
        config: Any = policy_lag.config(task, learning_rate, lag)
    else:
        config = staleness.config(task, learning_rate, lag, env_id=task.env_id, correction=correction)
        config = replace(config, correction_strength=STRENGTHS.get(correction, 0.04))
    return (late_return(make_train(config)(key).metrics),)


def measure(sizes):
    """Return against the delay under each correction, the learning rate swept for each delay and correction."""
    arms = {
        label: measure_arm("corrections", label, partial(late, correction=name), {"lag": DELAYS})
        for label, name in ARMS.items()
    }
    arms |= {
        label: measure_at(
            "corrections", label, partial(late, correction=name), {"lag": DELAYS}, arms[NOTHING].chosen[:, 0]
        )
        for label, name in AT_ITS_RATE.items()
    }
    score = {label: scores(arm.returns) for label, arm in arms.items()}
    none, unsearched = (score[label] for label in (NOTHING, next(iter(AT_ITS_RATE))))
    cost = gain(none[:, 0], none[:, -1])
    gains = {label: gain(score[label][:, -1], none[:, -1]) for label in ARMS if label != NOTHING}
    # Above half of the cost: correction - none >= (none without delay - none) / 2.
    beyond_half = {
        label: over_tasks((1, score[label][:, -1]), (-HALF, none[:, -1]), (-HALF, none[:, 0])) for label in gains
    }
    wins = [label for label, (_, low, _) in beyond_half.items() if low > 0]
    fails = all(high < 0 for _, _, high in beyond_half.values())
    verdict = "confirmed" if wins else "refuted" if fails else "not decided"
    divided = gain(score[list(AT_ITS_RATE)[1]][:, -1], unsearched[:, -1])
    sentence = (
        f"a delay of {DELAYS[-1]} costs {shown(cost, '')} points of 100 (mean of {len(TASKS)} tasks, each at its best "
        f"rate), of which are won back: {', '.join(f'{label} {shown(found)}' for label, found in gains.items())}. At "
        f"the rate that is best without delay, dividing the step by the delay wins {shown(divided)}."
    )
    if verdict == "not decided":
        sentence += f" About {max(seeds_to_decide(found, 0) for found in beyond_half.values()):.0f} seeds would decide."
    report(
        4,
        "corrections",
        "Correcting stale gradients recovers what a long delay costs.",
        verdict,
        sentence,
        table_of(arms, DELAYS, "delay"),
        draw,
        data_of(arms, DELAYS),
        sizes._replace(seeds=SEEDS, frames=TASKS[0].frames),
    )


def draw(found):
    """Figure of the return against the delay under each correction."""
    colors = (OTHER_COLORS[0], *OTHER_COLORS[1:3], ALGORITHM_COLORS["IMPALA"], OTHER_COLORS[3], "C1")
    return draw_tasks(found, colors, "delay, updates")


if __name__ == "__main__":
    main(measure)
