"""Experiment 19: whether a bound of admission of up to 4 versions is free.

PPO through a queue: 8 workers, lognormal times of rollouts, batches of 4. Confirmed if with a bound of 4 the return
after the same frames is not more than a tenth below that with a bound of 0, by an interval of the difference, and
frames come faster; refuted if it is more than a tenth below; otherwise not decided.
"""

from functools import partial

import numpy as np

from benchmarks.claims import stale_ppo
from benchmarks.claims.common import (
    at_chosen_rates,
    difference,
    interval,
    late_return,
    main,
    once,
    report,
    seeds_note,
)
from benchmarks.figures import caption, panels
from benchmarks.record import markdown_table
from purejaxrl_a3c import make_train
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.updates import Asynchrony, Queue, Service

BOUNDS = (0, 1, 2, 4, 8, None)
CORRECTIONS = ("none", "decoupled")
RATES = (1e-3, 3e-3, 1e-2)
FRAMES, SEARCH_SEEDS, SEEDS = 150_000, 3, 30
FREE = 0.1


def config(queue, correction, learning_rate, frames):
    """Rollouts of 4 environments and 16 steps; a batch of the queue is 256 frames, an update 4 gradient steps."""
    return replace(
        stale_ppo.config(correction, learning_rate, 0.0, frames),
        num_envs=32,
        num_workers=8,
        asynchrony=Asynchrony("queue", Service("lognormal", 1.0), queue=queue),
    )


def train(queue, correction, key, learning_rate):
    """Return late in training, frames in a mean service time of all workers, mean staleness, busy workers, learner."""
    metrics = make_train(config(queue, correction, learning_rate, FRAMES))(key).metrics
    losses = metrics.losses
    speed = metrics.frames[-1] / losses["virtual_time"][-1] / (32 * 16)
    busy = losses["busy_workers"][-1], losses["busy_learner"][-1]
    return late_return(metrics), speed, losses["staleness_mean"].mean(), *busy


def arm(bound, correction):
    """What `train` returns for each seed."""
    queue = Queue(batch_rollouts=4, queue_capacity=64, learner_time=0.5, admission_bound=bound)

    def run(key, learning_rate):
        return train(queue, correction, key, learning_rate)

    found, chosen, _ = at_chosen_rates(run, {}, RATES, SEARCH_SEEDS, SEEDS)
    return *found, chosen


def measure(sizes):
    """Return and speed of PPO through a queue against the bound of admission."""
    found = {
        (correction, bound): once("bounded", f"{correction}, {bound}", partial(arm, bound, correction))
        for correction in CORRECTIONS
        for bound in BOUNDS
    }
    rows = []
    for (correction, bound), (returns, speed, staleness, workers, learner, rate) in found.items():
        rows.append(
            [
                correction,
                "none" if bound is None else f"{bound}",
                "{:.0f} ({:.0f} - {:.0f}) at {:g}".format(*interval(returns), float(rate)),
                f"{speed[0]:.2f}",
                f"{staleness[0]:.2f}",
                f"{workers[0]:.2f}",
                f"{learner[0]:.2f}",
            ]
        )
    header = [
        "correction",
        "bound",
        "return (95 % interval)",
        "speed",
        "mean staleness",
        "busy workers",
        "busy learner",
    ]
    table = (
        "Return late in training at the learning rate that is best on other seeds. The speed is 1 if all workers act "
        "all the time; staleness is in versions; workers and learner are busy for that share of the time.\n\n"
        + markdown_table(header, rows)
    )
    zero, four = (found["none", bound] for bound in (0, 4))
    gap = difference(four[0], zero[0])
    limit = -FREE * interval(zero[0])[0]
    report(
        19,
        "bounded",
        "A staleness bound of up to 4 versions is free.",
        "confirmed" if gap[1] > limit and four[1][0] > zero[1][0] else "refuted" if gap[2] < limit else "not decided",
        "on CartPole-v1 PPO's return with a bound of 4 is {:.0f} ({:.0f} to {:.0f}) above that with a bound of 0 after "
        "the same frames, which come {:.2f} times as fast.".format(*gap, four[1][0] / zero[1][0]),
        table,
        draw,
        {
            "bounds": [x for x in BOUNDS if x is not None],
            "corrections": CORRECTIONS,
            "returns": [[found[c, x][0] for x in BOUNDS] for c in CORRECTIONS],
            "speed": [found["none", x][1][0] for x in BOUNDS],
            "staleness": [found["none", x][2][0] for x in BOUNDS],
        },
        sizes._replace(seeds=SEEDS, frames=FRAMES),
    )


def draw(found):
    """Figure of the return, and of the speed, against the bound."""
    figure, (left, right) = panels(2, height=3.8)
    at = np.arange(len(found["bounds"]) + 1)
    for name, returns in zip(found["corrections"], np.array(found["returns"]), strict=True):
        middle, low, high = interval(returns)
        left.errorbar(at, middle, [middle - low, high - middle], fmt="o-", capsize=3, label=f"correction: {name}")
    right.plot(at, found["speed"], "ko-")
    for axis in (left, right):
        axis.set(xticks=at, xticklabels=[*found["bounds"], "none"], xlabel="admission bound, versions", ylim=(0, None))
    left.set(ylabel="return late in training")
    right.set(ylabel="speed", title="1: all workers act all the time")
    left.legend()
    caption(figure, seeds_note(found))
    return figure


if __name__ == "__main__":
    main(measure)
