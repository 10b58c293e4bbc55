"""Experiment 8: what the entropy bonus does to the return, and to the policy's entropy.

Confirmed if on every task a coefficient of 0.01 beats none, each at its own best learning rate, with an interval that
excludes 0; refuted if on no task it can be worth 5 % of the returns that the task allows; otherwise not decided.
"""

import jax.numpy as jnp
import numpy as np

from benchmarks.claims.common import at_best_rates, difference, interval, late_return, main, report, seeds_note, sweep
from benchmarks.figures import OTHER_COLORS, caption, panels
from benchmarks.record import markdown_table
from purejaxrl_a3c import a2c, make_train
from purejaxrl_a3c.config import replace

TASKS = {"CartPole-v1": (0, 500, 2), "Catch-bsuite": (-1, 1, 3)}
"""Lowest and highest return, and number of actions."""
COEFFICIENTS = (0.0, 1e-3, 1e-2, 1e-1)
RATES = (3e-3, 1e-2, 3e-2)
WORTH = 0.05


def measure(sizes):
    """Return and entropy late in training against the entropy coefficient, the learning rate swept for each."""
    sizes = sizes._replace(frames=sizes.frames // len(TASKS))  # as much for all tasks as elsewhere for one
    base = replace(a2c.Config(), num_envs=16, rollout_length=5, total_frames=sizes.frames, hidden_sizes=(32,))

    def measured(task):
        def run(key, **point):
            metrics = make_train(replace(base, env_id=task, **point))(key).metrics
            late = metrics.frames > 0.8 * metrics.frames[-1]
            return late_return(metrics), jnp.where(late, metrics.losses["entropy"], 0).sum() / late.sum()

        return sweep(run, {"entropy_coefficient": COEFFICIENTS, "learning_rate": RATES}, sizes.seeds)

    rows, gains, at_highest, data = [], {}, {}, {}
    for task in TASKS:
        returns, entropies = measured(task)  # [coefficients, rates, seeds]
        own, best = at_best_rates(returns)
        entropy = np.take_along_axis(entropies, best[:, None, None], 1)[:, 0]
        for i, coefficient in enumerate(COEFFICIENTS):
            cells = ["{:.3g} ({:.3g} - {:.3g})".format(*interval(x)) for x in (own[i], returns[i, -1], entropy[i])]
            rows.append([task, f"{coefficient:g}", f"{RATES[best[i]]:g}", *cells])
        usual = COEFFICIENTS.index(1e-2)
        gains[task] = difference(own[usual], own[0])
        at_highest[task] = difference(returns[usual, -1], returns[0, -1])
        data[task] = {"returns": returns, "entropies": entropies, "gain": gains[task], "at_highest": at_highest[task]}

    table = "Late in training (interquartile mean over seeds, 95 % interval).\n\n" + markdown_table(
        ["task", "coefficient", "best rate", "return at it", f"return at {RATES[-1]:g}", "entropy at the best rate"],
        rows,
    )
    wins = [low > 0 for _, low, _ in gains.values()]
    worthless = [high < WORTH * (TASKS[task][1] - TASKS[task][0]) for task, (_, _, high) in gains.items()]

    def listed(differences):
        return "; ".join("{:.3g} ({:.3g} to {:.3g}) on ".format(*gain) + task for task, gain in differences.items())

    report(
        8,
        "entropy",
        "The entropy bonus prevents premature convergence.",
        "confirmed" if all(wins) else "refuted" if all(worthless) else "not decided",
        "a coefficient of 0.01 instead of 0, each at its best rate, changes the return late in training by "
        f"{listed(gains)}. At the highest rate, {RATES[-1]:g}, it does by {listed(at_highest)}.",
        table,
        draw,
        {"tasks": list(TASKS), "coefficients": COEFFICIENTS, "rates": RATES, **data},
        sizes,
    )


def draw(found):
    """Figure of the return and of the policy's entropy against the entropy coefficient, in each task."""
    at = range(len(found["coefficients"]))
    figure, axes = panels(2, height=4.4)
    left, right = axes
    for color, task in zip(OTHER_COLORS, found["tasks"], strict=False):
        worst, most, actions = TASKS[task]
        returns, entropies = (np.array(found[task][name]) for name in ("returns", "entropies"))
        own, best = at_best_rates(returns)
        entropy = np.take_along_axis(entropies, best[:, None, None], 1)[:, 0]
        for axis, values in ((left, (own - worst) / (most - worst)), (right, entropy / np.log(actions))):
            middle, low, high = interval(values)
            axis.plot(at, middle, "o-", color=color, label=task)
            axis.fill_between(at, low, high, color=color, alpha=0.2, lw=0)
        # If policies collapse, they do so at the highest rate first.
        left.plot(at, interval((returns[:, -1] - worst) / (most - worst))[0], ":", color=color)
    left.plot([], [], "-", color="0.4", label="at the best learning rate")
    left.plot([], [], ":", color="0.4", label=f"at the highest rate, {found['rates'][-1]:g}")
    left.set(title="return late in training", ylabel="0: lowest, 1: highest possible")
    right.set(title="entropy of the policy late in training", ylabel="1: of a uniform policy")
    for axis in axes:
        axis.set(xticks=at, xticklabels=[f"{x:g}" for x in found["coefficients"]], ylim=(-0.03, 1.06))
        axis.set(xlabel="entropy coefficient")
    left.legend(loc="lower left")
    caption(figure, "A2C. " + seeds_note(found, "bands"))
    return figure


if __name__ == "__main__":
    main(measure)
