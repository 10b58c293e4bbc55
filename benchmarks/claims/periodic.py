"""Experiment 20: whether periodic asynchrony equals synchronous training (arXiv 2511.18871).

Eight workers act with the same parameters. In synchronous training the learner waits for all of them and makes eight
gradient steps, each on an eighth of the steps. In periodic asynchrony it makes a gradient step on each rollout as soon
as that is there, and the workers pull when all eight are learned from. Confirmed if the returns differ by less than a
tenth, by an interval of the difference, and the time of an iteration is shorter; refuted if they differ by more;
otherwise not decided.
"""

from functools import partial

import numpy as np

from benchmarks.claims.bounded import FRAMES, FREE, RATES, SEARCH_SEEDS, SEEDS, config
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
from purejaxrl_a3c.updates import Queue

WORKERS = 8
LEARNER_TIMES = (0.5, 1.0, 2.0)  # for the rollouts of all workers
ARMS = {
    "synchronous": (WORKERS, Queue(batch_rollouts=WORKERS, admission_bound=0)),
    "periodic": (1, Queue(batch_rollouts=1, publish_every=WORKERS, admission_bound=0)),
    "without a bound": (1, Queue(batch_rollouts=1)),
}


def arm(name, learner_time):
    """Return late in training of each seed, the time of an iteration of eight rollouts, and the rate."""
    minibatches, queue = ARMS[name]

    def run(key, learning_rate):
        settings = replace(queue, learner_time=learner_time * queue.batch_rollouts / WORKERS)
        base = config(settings, "none", learning_rate, FRAMES)
        metrics = make_train(replace(base, epochs=1, num_minibatches=minibatches))(key).metrics
        return late_return(metrics), metrics.losses["virtual_time"][-1] / metrics.frames.size

    found, chosen, _ = at_chosen_rates(run, {}, RATES, SEARCH_SEEDS, SEEDS)
    return *found, chosen


def measure(sizes):
    """Return and time of an iteration of synchronous training, of periodic asynchrony, and without any bound."""
    found = {
        (name, time): once("periodic", f"{name}, {time}", partial(arm, name, time))
        for name in ARMS
        for time in LEARNER_TIMES
    }
    rows = []
    for name in ARMS:
        cells = []
        for time in LEARNER_TIMES:
            returns, took, rate = found[name, time]
            cells += ["{:.0f} ({:.0f} - {:.0f}) at {:g}".format(*interval(returns), float(rate)), f"{took[0]:.2f}"]
        rows.append([name, *cells])
    header = [text for time in LEARNER_TIMES for text in (f"learner {time:g}: return", "time")]
    table = (
        "Return late in training (interquartile mean, 95 % interval) at the learning rate that is best on other seeds, "
        "and the time of an iteration in mean service times, for each time that the learner takes for eight rollouts."
        "\n\n" + markdown_table(["training", *header], rows)
    )
    middle = LEARNER_TIMES[len(LEARNER_TIMES) // 2]
    one, other = found["synchronous", middle], found["periodic", middle]
    gap, limit = difference(other[0], one[0]), FREE * interval(one[0])[0]
    equal, differs = -limit < gap[1] and gap[2] < limit, gap[2] < -limit or gap[1] > limit
    faster = [found["synchronous", time][1][0] / found["periodic", time][1][0] for time in LEARNER_TIMES]
    report(
        20,
        "periodic",
        "Periodic asynchrony equals synchronous training, and is faster.",
        "confirmed" if equal and min(faster) > 1 else "refuted" if differs else "not decided",
        "on CartPole-v1 its return is {:.0f} ({:.0f} to {:.0f}) above that of synchronous PPO".format(*gap)
        + f", and its iterations are {', '.join(f'{x:.2f}' for x in faster)} times as fast where the learner takes "
        f"{', '.join(f'{x:g}' for x in LEARNER_TIMES)} mean service times.",
        table,
        draw,
        {
            "arms": list(ARMS),
            "learner_times": LEARNER_TIMES,
            "returns": [[found[name, time][0] for time in LEARNER_TIMES] for name in ARMS],
            "times": [[found[name, time][1][0] for time in LEARNER_TIMES] for name in ARMS],
        },
        sizes._replace(seeds=SEEDS, frames=FRAMES),
    )


def draw(found):
    """Figure of the return, and of the time of an iteration, against the learner's time."""
    figure, (left, right) = panels(2, height=3.8)
    at = np.arange(len(found["learner_times"]))
    for i, (name, returns, times) in enumerate(
        zip(found["arms"], np.array(found["returns"]), found["times"], strict=True)
    ):
        middle, low, high = interval(returns)
        left.errorbar(at + 0.05 * (i - 1), middle, [middle - low, high - middle], fmt="o-", capsize=3, label=name)
        right.plot(at, times, "o-", label=name)
    for axis in (left, right):
        axis.set(xticks=at, xticklabels=[f"{x:g}" for x in found["learner_times"]], ylim=(0, None))
        axis.set(xlabel="the learner's time for eight rollouts")
    left.set(ylabel="return late in training")
    right.set(ylabel="time of an iteration")
    left.legend()
    caption(figure, seeds_note(found))
    return figure


if __name__ == "__main__":
    main(measure)
