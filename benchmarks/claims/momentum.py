"""Experiment 9: asynchrony acts as momentum (Mitliagkas et al. 2016, arXiv 1605.09774)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.claims.common import at_best_rates, interval, late_return, main, report, seeds_note, sweep
from benchmarks.figures import caption, panels, shades
from benchmarks.record import markdown_table
from purejaxrl_a3c import a3c, make_train, updates
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.types import Objective
from purejaxrl_a3c.updates import Asynchrony, Service

WORKERS = (1, 4, 16)
MOMENTA = (-0.5, 0.0, 0.5, 0.9)
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
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

    returns = []
    for workers in WORKERS:

        def run(key, momentum, learning_rate, workers=workers):
            config = replace(
                a3c.Config(),
                num_workers=workers,
                envs_per_worker=2,
                rollout_length=5,
                total_frames=sizes.frames,
                hidden_sizes=(32,),
                learning_rate=learning_rate,
                momentum=momentum,
            )
            return late_return(make_train(config)(key).metrics)

        returns.append(sweep(run, {"momentum": MOMENTA, "learning_rate": RATES}, sizes.seeds))
    all_returns = np.stack(returns)  # [workers, momenta, rates, seeds]
    swept, best = at_best_rates(all_returns)
    rows = []
    for workers, values, chosen in zip(WORKERS, swept, np.array(RATES)[best], strict=True):
        cells = zip(*interval(values), chosen, strict=True)
        rows.append([workers, *("{:.0f} ({:.0f} - {:.0f}) at {:g}".format(*cell) for cell in cells)])
    table = (
        "A3C's return late in training (interquartile mean, 95 % interval) at the best learning rate, which is named."
        "\n\n" + markdown_table(["workers", *(f"momentum {momentum:g}" for momentum in MOMENTA)], rows)
    )
    lost = [interval(values[-1] - values[1]) for values in swept]  # seeds are shared
    exact = max(worst.values()) < 5
    falls = lost[0][1] > lost[-1][2]
    sentence = (
        f"on a quadratic the mean path is heavy ball's with momentum 1 - 1/N, within {max(worst.values()):.1f} "
        f"standard errors; in CartPole momentum {MOMENTA[-1]:g} instead of 0 changes the return of one worker by "
        "{:.0f} ({:.0f} to {:.0f}) and of {} by {:.0f} ({:.0f} to {:.0f}).".format(*lost[0], WORKERS[-1], *lost[-1])
    )
    verdict = "confirmed" if exact and falls else "refuted" if not exact else "not decided"
    report(
        9,
        "momentum",
        "Asynchrony acts as momentum: the more workers, the less explicit momentum is wanted.",
        verdict,
        sentence,
        table,
        draw,
        {
            "workers": WORKERS,
            "momenta": MOMENTA,
            "rates": RATES,
            "returns": all_returns,
            "standard_errors": worst,
            "paths": paths,
        },
        sizes,
    )


def draw(found):
    """Figure of the paths on the quadratic, and of A3C's return against explicit momentum."""
    swept, _ = at_best_rates(np.array(found["returns"]))
    figure, (left, right) = panels(2, height=4.4)
    colors = shades(len(found["workers"]))
    for color, workers in zip(colors, found["workers"], strict=True):
        left.plot(
            found["paths"][str(workers)], color=color, lw=4, alpha=0.5, label=f"{workers} worker{'s' * (workers > 1)}"
        )
        left.plot(heavy_ball(workers), ":", color="k", lw=1.2)
    left.plot([], [], "k:", label="heavy ball, 1 - 1/workers")
    left.set(xlabel="push", ylabel="distance from the minimum", title=f"a quadratic, mean of {RUNS:,} runs")
    left.legend()
    for i, (color, values) in enumerate(zip(colors, swept, strict=True)):
        middle, low, high = interval(values)
        at = np.array(found["momenta"]) + 0.02 * (i - 1)  # so that the bars do not hide each other
        bars = [middle - low, high - middle]
        right.errorbar(at, middle, bars, fmt="o-", color=color, capsize=3)
    right.set(xlabel="explicit momentum", ylabel="return late in training", ylim=(0, None))
    right.set_title("A3C on CartPole-v1, at the best rates")
    caption(figure, "Right: " + seeds_note(found))
    return figure


if __name__ == "__main__":
    main(measure)
