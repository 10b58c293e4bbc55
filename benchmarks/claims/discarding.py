"""Experiment 18: whether discarding what is too old starves long rollouts. The queue alone, without any learning.

Sixteen workers, a learner that is quick enough, batches of 4 rollouts. Confirmed if with a bound of 1 version the
rollouts that are learned from are shorter than all rollouts, under every law of times that is not constant, and if
without a bound they are not; refuted if the interval with the bound does not lie below 1.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.claims.common import interval, main, report
from benchmarks.figures import caption, panels, shades
from benchmarks.record import markdown_table
from purejaxrl_a3c.updates import Queue, Service, queue

BOUNDS = (0, 1, 2, 4, 8, None)
LAWS = {
    "gamma, CV 0.3": Service("gamma", 0.3),
    "exponential": Service("exponential"),
    "lognormal, CV 1": Service("lognormal", 1.0),
    "lognormal, CV 2": Service("lognormal", 2.0),
}
WORKERS, BATCH, LEARNER_TIME = 16, 4, 0.2
EVENTS, SEEDS = 20_000, 10
DECIDES = 1


def learned_times(service, discard, admit, seed):
    """Mean time that rollouts took that are learned from; the share of rollouts that is discarded; mean staleness."""
    settings = Queue(
        batch_rollouts=BATCH,
        queue_capacity=4 * BATCH,
        learner_time=LEARNER_TIME,
        discard_bound=discard,
        admission_bound=admit,
    )
    state, found = queue.simulate(settings, service, WORKERS, EVENTS, seed)
    later = found.takes & (jnp.arange(EVENTS) > EVENTS // 5)
    count = later.sum() * BATCH
    time = jnp.where(later[:, None], found.taken_time, 0).sum() / count
    age = jnp.where(later[:, None], found.version[:, None] - found.taken_versions[..., 0], 0).sum() / count
    finished = state.version * BATCH + state.discarded
    return time, state.discarded / finished, age


def measure(sizes):
    """The mean time of the rollouts that are learned from, against the bound on their age."""
    seeds = jnp.arange(SEEDS)
    found = {
        (kind, law): np.stack(
            [np.stack(jax.jit(jax.vmap(partial(learned_times, service, *bounds(kind, x))))(seeds)) for x in BOUNDS]
        )
        for kind in ("discard", "admit")
        for law, service in LAWS.items()
    }  # [bounds, 3, seeds]
    rows = []
    for (kind, law), values in found.items():
        cells = ["{:.2f} ({:.2f} - {:.2f})".format(*interval(x[0])) for x in values]
        rows.append([law, "discarding" if kind == "discard" else "admission", *cells])
    table = (
        "Mean time that the rollouts took which are learned from; all rollouts take 1 (95 % interval over seeds).\n\n"
    )
    names = [f"bound {x}" if x is not None else "no bound" for x in BOUNDS]
    table += markdown_table(["law", "kept young by", *names], rows)
    at = BOUNDS.index(DECIDES)
    random = {law: found["discard", law] for law in LAWS}
    biased = [interval(x[at, 0])[2] < 1 for x in random.values()]
    fair = [interval(x[-1, 0])[1] <= 1.02 and interval(x[-1, 0])[2] >= 0.98 for x in random.values()]
    some = random["exponential"]
    report(
        18,
        "discarding",
        "Discarding rollouts that are too old starves long episodes.",
        "confirmed" if all(biased) and all(fair) else "refuted" if not any(biased) else "not decided",
        "of rollouts of exponential times, those that are learned from take {:.2f} ({:.2f} to {:.2f}) of the mean of "
        "all with a bound of {} version, and {:.2f} ({:.2f} to {:.2f}) without; {:.0%} are discarded. A bound of "
        "admission has no such bias: {:.2f} ({:.2f} to {:.2f}).".format(
            *interval(some[at, 0]),
            DECIDES,
            *interval(some[-1, 0]),
            interval(some[at, 1])[0],
            *interval(found["admit", "exponential"][at, 0]),
        ),
        table,
        draw,
        {
            "bounds": [x for x in BOUNDS if x is not None],
            "laws": list(LAWS),
            "seeds": list(range(SEEDS)),
            "discard": [found["discard", law] for law in LAWS],
            "admit": [found["admit", law] for law in LAWS],
        },
    )


def bounds(kind, bound):
    """The bounds of discarding and of admission, of which only one is set."""
    return (bound, None) if kind == "discard" else (None, bound)


def draw(found):
    """Figure of the mean time of the rollouts that are learned from, and of the share that is discarded."""
    figure, (left, right) = panels(2, height=3.8)
    at = np.arange(len(found["bounds"]) + 1)
    for i, (color, law) in enumerate(zip(shades(len(found["laws"])), found["laws"], strict=True)):
        for kind, line in (("discard", "o-"), ("admit", "s--")):
            values = np.array(found[kind])[i]  # [bounds, 3, seeds]
            middle, low, high = interval(values[:, 0])
            left.plot(at, middle, line, color=color, label=law if kind == "discard" else None)
            left.fill_between(at, low, high, color=color, alpha=0.2, lw=0)
            if kind == "discard":
                right.plot(at, interval(values[:, 1])[0], line, color=color)
    left.plot([], [], "ks--", label="admission bound instead")
    for axis in (left, right):
        axis.set(xticks=at, xticklabels=[*found["bounds"], "none"], xlabel="largest age that is allowed, versions")
    left.set(ylabel="mean time of what is learned from", title="all rollouts take 1 in the mean")
    right.set(ylabel="share", title="rollouts that are discarded", ylim=(0, None))
    left.legend(fontsize=8)
    caption(figure, f"Mean over {len(found['seeds'])} seeds; bands: bootstrap 95 % interval.")
    return figure


if __name__ == "__main__":
    main(measure)
