"""Experiment 8: what the entropy bonus does to the return, and to the policy's entropy.

On three tasks together. Confirmed if a coefficient of 0.01 is worth more than 5 points of 100 against none, each at its
own best learning rate, by an interval that excludes 5; refuted if it lies below 5; otherwise not decided. If policies
collapse, they do so at high rates first, so both are measured at four times the best rate without a bonus too.
"""

import jax.numpy as jnp
import numpy as np

from benchmarks.claims.common import interval, late_return, main, report, seeds_note
from benchmarks.claims.tasks import (
    SEEDS,
    TASKS,
    data_of,
    decided,
    gain,
    measure_arm,
    measure_at,
    scores,
    seeds_to_decide,
    shown,
    table_of,
)
from benchmarks.figures import caption, legend_above, panels, shades
from benchmarks.record import markdown_table
from purejaxrl_a3c import a2c, make_train
from purejaxrl_a3c.config import replace

COEFFICIENTS = (0.0, 1e-3, 1e-2, 1e-1)
USUAL = COEFFICIENTS.index(1e-2)
BEST, HIGH = "at its best rate", "at four times the best rate without"
FACTOR = 4
WORTH = 0.05


def late(task, key, entropy_coefficient, learning_rate):
    """Return and entropy late in training of one run."""
    config = replace(
        a2c.Config(),
        env_id=task.env_id,
        num_envs=16,
        rollout_length=5,
        total_frames=task.frames,
        hidden_sizes=(32,),
        entropy_coefficient=entropy_coefficient,
        learning_rate=learning_rate,
    )
    metrics = make_train(config)(key).metrics
    last = metrics.frames > 0.8 * metrics.frames[-1]
    return late_return(metrics), jnp.where(last, metrics.losses["entropy"], 0).sum() / last.sum()


def measure(sizes):
    """Return and entropy late in training against the entropy coefficient, the learning rate swept for each."""
    grid = {"entropy_coefficient": COEFFICIENTS}
    best = measure_arm("entropy", BEST, late, grid)
    high = measure_at("entropy", HIGH, late, grid, FACTOR * best.chosen[:, 0])
    arms = {BEST: best, HIGH: high}
    gains = {label: gain(*(scores(arm.returns)[:, i] for i in (USUAL, 0))) for label, arm in arms.items()}
    rows = [
        [task.env_id, label, *("{:.2f} ({:.2f} - {:.2f})".format(*cell) for cell in zip(*interval(found), strict=True))]
        for label, arm in arms.items()
        for task, found in zip(TASKS, arm.others[0], strict=True)
    ]
    table = table_of(arms, COEFFICIENTS, "coefficient") + "\nThe policy's entropy late in training.\n\n"
    table += markdown_table(["task", "", *(f"coefficient {x:g}" for x in COEFFICIENTS)], rows)
    verdict = decided(gains[BEST], WORTH)
    sentence = (
        f"a coefficient of 0.01 instead of 0 changes the return late in training by {shown(gains[BEST])} points of 100 "
        f"(mean of {len(TASKS)} tasks), each at its best rate; at {FACTOR} times the rate that is best without, by "
        f"{shown(gains[HIGH])}."
    )
    if verdict == "not decided":
        sentence += f" About {seeds_to_decide(gains[BEST], WORTH):.0f} seeds would decide."
    report(
        8,
        "entropy",
        "The entropy bonus prevents premature convergence.",
        verdict,
        sentence,
        table,
        draw,
        data_of(arms, COEFFICIENTS) | {"entropies": np.stack([arm.others[0] for arm in arms.values()])},
        sizes._replace(seeds=SEEDS, frames=TASKS[0].frames),
    )


def draw(found):
    """Figure of the return and of the policy's entropy against the entropy coefficient, in each task."""
    ticks = found["ticks"]
    at = range(len(ticks))
    figure, axes = panels(2, height=4.4)
    bounds = np.array(found["bounds"])
    for j, (color, task) in enumerate(zip(shades(len(found["tasks"])), found["tasks"], strict=True)):
        for line, label, returns, entropies in zip(
            ("-", ":"), found["arms"], np.array(found["returns"]), np.array(found["entropies"]), strict=True
        ):
            low, high = bounds[j]
            for axis, values in zip(axes, ((returns[j] - low) / (high - low), entropies[j]), strict=True):
                middle, bottom, top = interval(values)
                axis.plot(at, middle, f"o{line}", color=color, label=f"{task}, {label}")
                axis.fill_between(at, bottom, top, color=color, alpha=0.15, lw=0)
    axes[0].set(title="return late in training", ylabel="0: lowest, 1: highest possible", ylim=(-0.03, 1.06))
    axes[1].set(title="entropy of the policy late in training", ylabel="nats", ylim=(-0.03, None))
    for axis in axes:
        axis.set(xticks=at, xticklabels=[f"{x:g}" for x in ticks], xlabel="entropy coefficient")
    legend_above(figure, axes[0], 2)
    caption(figure, "A2C. " + seeds_note(found, "bands"))
    return figure


if __name__ == "__main__":
    main(measure)
