"""Experiment 13: what IMPALA's corrections are worth when the policy that acts is some updates old.

On three tasks together, every arm at its own best learning rate. Confirmed if at the largest lag V-trace is more than 5
points of 100 above doing nothing, by an interval that excludes 5; refuted if it lies below 5; otherwise not decided.
"""

from functools import partial

from benchmarks.claims.common import late_return, main, report
from benchmarks.claims.tasks import (
    SEEDS,
    TASKS,
    data_of,
    decided,
    draw_tasks,
    gain,
    measure_arm,
    scores,
    seeds_to_decide,
    shown,
    table_of,
)
from benchmarks.figures import ALGORITHM_COLORS, OTHER_COLORS
from purejaxrl_a3c import impala, make_train
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.updates import Asynchrony

LAGS = (0, 4, 16, 64)
ARMS = {"V-trace": "vtrace", "one-step": "one_step", "epsilon": "epsilon", "no correction": "none"}
WORTH = 0.05


def config(task, learning_rate, lag, off_policy="vtrace"):
    """One worker with 16 environments that acts with parameters ``lag`` updates old; gradients are at the newest."""
    return replace(
        impala.Config(),
        env_id=task.env_id,
        num_workers=1,
        envs_per_worker=16,
        rollout_length=5,
        total_frames=task.frames,
        learning_rate=learning_rate,
        hidden_sizes=(32,),
        off_policy=off_policy,
        asynchrony=Asynchrony(reads="lagged", lag=lag, max_lag=max(LAGS)),
    )


def late(task, key, lag, learning_rate, off_policy):
    """Return late in training of one run."""
    return (late_return(make_train(config(task, learning_rate, lag, off_policy))(key).metrics),)


def measure(sizes):
    """Return against the lag of the policy under each correction, the learning rate swept for each lag and arm."""
    arms = {
        label: measure_arm("policy_lag", label, partial(late, off_policy=name), {"lag": LAGS})
        for label, name in ARMS.items()
    }
    plain, corrected = (scores(arms[label].returns) for label in ("no correction", "V-trace"))
    gains = [gain(corrected[:, i], plain[:, i]) for i in range(len(LAGS))]
    verdict = decided(gains[-1], WORTH)
    changes = ", ".join(f"at lag {lag} {shown(found)}" for lag, found in zip(LAGS, gains, strict=True))
    sentence = (
        f"V-trace less no correction, in points of 100, mean of {len(TASKS)} tasks, each at its best rate: {changes}."
    )
    if verdict == "not decided":
        sentence += f" About {seeds_to_decide(gains[-1], WORTH):.0f} seeds would decide."
    report(
        13,
        "policy_lag",
        "V-trace learns from an old policy's trajectories where doing nothing fails.",
        verdict,
        sentence,
        table_of(arms, LAGS, "lag"),
        draw,
        data_of(arms, LAGS),
        sizes._replace(seeds=SEEDS, frames=TASKS[0].frames),
    )


def draw(found):
    """Figure of the return against the lag of the policy under each correction."""
    colors = (ALGORITHM_COLORS["IMPALA"], *OTHER_COLORS[1:3], OTHER_COLORS[0])
    return draw_tasks(found, colors, "lag, updates")


if __name__ == "__main__":
    main(measure)
