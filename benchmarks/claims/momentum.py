"""Experiment 9: asynchrony acts as momentum (Mitliagkas et al. 2016, arXiv 1605.09774).

On a quadratic, mean paths are compared with theory. On three tasks together, each arm at its own best learning rate,
the claim is that explicit momentum of 0.9 is worth less to 16 workers than to one: confirmed if by more than 5 points
of 100, by an interval that excludes 5, and if the paths agree; refuted if it lies below 5, or if they do not; otherwise
not decided.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.claims.common import interval, late_return, main, report, seeds_note
from benchmarks.claims.tasks import (
    SEEDS,
    TASKS,
    data_of,
    decided,
    gain,
    measure_arm,
    over_tasks,
    scores,
    seeds_to_decide,
    shown,
    table_of,
)
from benchmarks.figures import caption, legend_above, panels, shades
from purejaxrl_a3c import a3c, make_train, updates
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.types import Objective
from purejaxrl_a3c.updates import Asynchrony, Service

WORKERS = (1, 4, 16)
MOMENTA = (-0.5, 0.0, 0.5, 0.9)
WORTH = 0.05
STEPS, RUNS, RATE = 60, 20_000, 0.3


def quadratic(key, workers):
    """The distance from the minimum of ``w^2 / 2`` after each push, ``[STEPS]``: SGD, exponential service times."""
    asynchrony = Asynchrony("clock", Service("exponential"))
    rule: Any = updates.asynchronous(optax.sgd(RATE), workers, asynchrony, max_pushes=1)
    objective = Objective(lambda w, batch: batch, lambda w, batch, *adapted: (0.5 * w**2, {}))

    def push(learner, key):
        learner, batch = rule.next_batch(key, learner, 1)
        learner, _ = rule.update(key, learner, objective, jnp.zeros(1), batch)
        return learner, learner.params

    key_init, key_run = jax.random.split(key)
    return jax.lax.scan(push, rule.init(key_init, jnp.float32(1)), jax.random.split(key_run, STEPS))[1]


def heavy_ball(workers):
    """What theory expects of the mean of `quadratic`: momentum ``1 - 1/N`` and rate ``RATE / N``."""
    w, velocity, path = 1.0, -RATE, []  # the first gradient is at the start, whoever pushes
    for _ in range(STEPS):
        w += velocity
        path.append(w)
        velocity = (1 - 1 / workers) * velocity - RATE / workers * w
    return np.array(path)


def late(task, key, momentum, learning_rate, workers):
    """Return late in training of one run of A3C."""
    config = replace(
        a3c.Config(),
        env_id=task.env_id,
        num_workers=workers,
        envs_per_worker=2,
        rollout_length=5,
        total_frames=task.frames,
        hidden_sizes=(32,),
        learning_rate=learning_rate,
        momentum=momentum,
    )
    return (late_return(make_train(config)(key).metrics),)


def measure(sizes):
    """Mean paths on a quadratic against theory; the best explicit momentum of A3C against the number of workers."""
    paths, worst = {}, {}
    keys = jax.random.split(jax.random.key(0), RUNS)
    for workers in WORKERS:
        found = np.asarray(jax.jit(jax.vmap(lambda key, n=workers: quadratic(key, n)))(keys), np.float64)
        expected = heavy_ball(workers)
        # In standard errors; with one worker there is no chance in it, only rounding.
        errors = found.std(0) / np.sqrt(RUNS) + 1e-6
        worst[workers] = float(np.max(np.abs(found.mean(0) - expected) / errors))
        paths[workers] = found.mean(0)

    arms = {
        f"{workers} workers": measure_arm(
            "momentum", f"{workers} workers", partial(late, workers=workers), {"momentum": MOMENTA}
        )
        for workers in WORKERS
    }
    # What the momentum of 0.9 is worth to each number of workers, and how much less to the most than to one.
    worth = [scores(arm.returns)[:, [MOMENTA.index(0.9), MOMENTA.index(0.0)]] for arm in arms.values()]
    gains = [gain(x[:, 0], x[:, 1]) for x in worth]
    falls = over_tasks((1, worth[0][:, 0]), (-1, worth[0][:, 1]), (-1, worth[-1][:, 0]), (1, worth[-1][:, 1]))
    exact = max(worst.values()) < 5
    verdict = decided(falls, WORTH) if exact else "refuted"
    sentence = (
        f"on a quadratic the mean path is heavy ball's with momentum 1 - 1/N, within {max(worst.values()):.1f} "
        f"standard errors; in training, momentum 0.9 instead of 0 changes the return of one worker by "
        f"{shown(gains[0])} and of {WORKERS[-1]} by {shown(gains[-1])} points of 100 (mean of {len(TASKS)} tasks), "
        f"which is {shown(falls, '')} less."
    )
    if verdict == "not decided":
        sentence += f" About {seeds_to_decide(falls, WORTH):.0f} seeds would decide."
    report(
        9,
        "momentum",
        "Asynchrony acts as momentum: the more workers, the less explicit momentum is wanted.",
        verdict,
        sentence,
        table_of(arms, MOMENTA, "momentum"),
        draw,
        data_of(arms, MOMENTA) | {"workers": WORKERS, "standard_errors": worst, "paths": paths},
        sizes._replace(seeds=SEEDS, frames=TASKS[0].frames),
    )


def draw(found):
    """Figure of the paths on the quadratic, and of A3C's return against explicit momentum, a panel a task."""
    figure, (left, *others) = panels(2, 2, height=3.8)
    colors = shades(len(found["workers"]))
    for color, workers in zip(colors, found["workers"], strict=True):
        left.plot(found["paths"][str(workers)], color=color, lw=4, alpha=0.5)
        left.plot(heavy_ball(workers), ":", color="k", lw=1.2)
    left.plot([], [], "k:", label="heavy ball, 1 - 1/workers")
    left.set(xlabel="push", ylabel="distance from the minimum", title=f"a quadratic, mean of {RUNS:,} runs")
    left.legend()
    returns = np.array(found["returns"])  # [workers, tasks, momenta, seeds]
    for j, (axis, task) in enumerate(zip(others, found["tasks"], strict=False)):
        for i, (color, workers) in enumerate(zip(colors, found["workers"], strict=True)):
            middle, low, high = interval(returns[i, j])
            at = np.array(found["ticks"]) + 0.02 * (i - 1)  # so that the bars do not hide each other
            label = f"{workers} worker{'s' * (workers > 1)}"
            axis.errorbar(at, middle, [middle - low, high - middle], fmt="o-", color=color, capsize=3, label=label)
        axis.set(
            xlabel="explicit momentum", ylabel="return late in training", title=f"A3C on {task}, at the best rates"
        )
    legend_above(figure, others[0], len(colors))
    caption(figure, "Tasks: " + seeds_note(found))
    return figure


if __name__ == "__main__":
    main(measure)
