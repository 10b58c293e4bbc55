"""Experiment 12: who waits for the slowest worker, and for how long. The clock alone, without any learning.

Confirmed if three things hold: on exponential times A2C's rounds of 16 workers take 1 + 1/2 + ... + 1/16, the mean of
the slowest of 16, within 1 %; without a straggler A3C's take 1 at every number of workers, within 1 %; and A2C's take
longer than A3C's, with an interval that excludes 0. Refuted if A2C's do not take longer.
"""

from functools import partial

import jax.numpy as jnp
import numpy as np

from benchmarks.claims.common import difference, interval, main, report, seeds_note, sweep
from benchmarks.figures import caption, panels, shades
from benchmarks.record import markdown_table
from purejaxrl_a3c.updates.clock import lockstep_times, simulate
from purejaxrl_a3c.updates.service import Service

WORKERS = (1, 2, 4, 8, 16, 32, 64)
LAWS = ("exponential", "gamma, CV 0.6", "gamma, CV 0.3", "gamma, CV 0.1", "constant")
CVS = (1.0, 0.6, 0.3, 0.1)  # a gamma law of CV 1 is the exponential one
SLOW = (1.0, 4.0)  # what the first worker's times are multiplied by
LEADS = (0, 1, 2, 4, 8, np.inf)  # the last one: A3C, where nobody waits
SHOWN = 16  # workers in the right panel and in the verdict


def harmonic(workers):
    """The mean of the slowest of so many exponential times of mean 1."""
    return sum(1 / np.arange(1, workers + 1))


def lockstep_round(key, service, workers):
    """Mean service times that a round of A2C takes: float32 []."""
    rounds = min(2000, 32_000 // workers)  # the slowest of many varies less
    return lockstep_times(key, service, workers, rounds)[-1] / rounds


def asynchronous_round(key, service, workers, max_lead):
    """Mean service times that ``workers`` pushes take, once the simulation has run in: float32 []."""
    count = 400 + 8000 // workers  # a batch has the more pushes the more workers there are
    batches, _ = simulate(key, service, workers, count, max_lead=max_lead)
    ends = jnp.where(batches.pushed, batches.time, 0).max(1)
    return workers * (ends[-1] - ends[count // 4]) / batches.pushed[count // 4 + 1 :].sum()


def times(round_time, workers, seeds, **more):
    """``round_time`` under every law: float [laws, SLOW, sizes of ``more``, seeds]."""

    def run(key, slow, cv=0.0, law="gamma", **point):
        return round_time(key, Service(law, cv, slowness=(slow, *[1.0] * (workers - 1))), workers, **point)

    gamma = sweep(run, {"cv": CVS, "slow": SLOW} | more, seeds)
    constant = sweep(partial(run, law="constant"), {"slow": SLOW} | more, seeds)
    return np.concatenate([gamma, constant[None]])


def measure(sizes):
    """Time per round of A2C and A3C against the number of workers, and what a bound on staleness does to it."""
    a2c = np.stack([times(lockstep_round, w, sizes.seeds) for w in WORKERS])  # [workers, laws, slow, seeds]
    by_lead = {
        w: times(asynchronous_round, w, sizes.seeds, max_lead=LEADS if w == SHOWN else LEADS[-1:]) for w in WORKERS
    }
    a3c = np.stack([by_lead[w][:, :, -1] for w in WORKERS])
    bounded = np.moveaxis(by_lead[SHOWN], 2, 0)  # [leads, laws, slow, seeds]; the last lead is A3C
    at = WORKERS.index(SHOWN)

    ends = np.concatenate([a2c[at][None], bounded])
    rows = []
    for j, law in enumerate(LAWS):
        for slow, who in enumerate(("alike", "one 4x slower")):
            some = ends[:, j, slow]
            rows.append([law, who, *("{:.2f} ({:.2f} - {:.2f})".format(*interval(x)) for x in some)])
    table = f"Time of {SHOWN} rollouts by {SHOWN} workers, in mean service times (interval over seeds).\n\n"
    table += markdown_table(["law", "workers", "A2C", *(f"lead <= {x}" for x in LEADS[:-1]), "A3C"], rows)

    slowest = harmonic(SHOWN)
    wait, low, high = interval(a2c[at, 0, 0])
    gap, gap_low, gap_high = difference(a2c[at, 0, 0], a3c[at, 0, 0])
    nobody_waits = interval(a3c[:, :, 0])[0]
    agrees = abs(wait / slowest - 1) < 0.01 and np.abs(nobody_waits - 1).max() < 0.01
    straggler = [interval(x[:, 2, 1])[0] for x in (a2c[at][None], bounded[-2:-1], a3c[at][None])]
    report(
        12,
        "stragglers",
        "A2C waits for the slowest worker, A3C does not.",
        "confirmed" if agrees and gap_low > 0 else "refuted" if gap_high <= 0 else "not decided",
        f"on exponential times, {SHOWN} workers' rounds take A2C {wait:.3f} ({low:.3f} to {high:.3f}; the slowest of "
        f"{SHOWN}: {slowest:.3f}), {gap:.2f} ({gap_low:.2f} to {gap_high:.2f}) more than A3C; at CV 0.3 A2C's take "
        f"{interval(a2c[at, 2, 0])[0]:.2f}, at constant times {interval(a2c[at, -1, 0])[0]:.2f}. A3C's take "
        f"{nobody_waits.min():.3f} to {nobody_waits.max():.3f} whatever W and law. With one worker 4 times slower, at "
        f"CV 0.3: A2C {straggler[0][0]:.2f}, a lead of {LEADS[-2]} at most {straggler[1][0]:.2f}, "
        f"A3C {straggler[2][0]:.2f}: a bound passes the straggler's slowness on to all.",
        table,
        draw,
        {
            "workers": WORKERS,
            "laws": LAWS,
            "slow": SLOW,
            "leads": LEADS[:-1],
            "seeds": list(range(sizes.seeds)),
            "a2c": a2c,
            "a3c": a3c,
            "bounded": bounded,
        },
    )


def draw(found):
    """Figure of the time of a round against the number of workers, and against the bound on staleness."""
    workers, laws = found["workers"], found["laws"]
    colors, lines = shades(len(laws)), {"a2c": "-", "a3c": "--"}
    figure, axes = panels(2, 2, height=3.7)
    for axis, slow, title in zip(axes, (0, 1), ("all workers alike", "one worker 4 times slower"), strict=False):
        for j, color in enumerate(colors):
            for name, line in lines.items():
                middle, low, high = interval(np.array(found[name])[:, j, slow])
                axis.plot(workers, middle, line, marker="o" if line == "-" else None, color=color)
                axis.fill_between(workers, low, high, color=color, alpha=0.2, lw=0)
        axis.set(xscale="log", xticks=workers, xticklabels=workers, title=title, ylim=(0, None), xlabel="workers W")
        axis.minorticks_off()
        axis.set_ylabel("time of W rollouts,\nmean service times")
    axes[0].plot(workers, [harmonic(n) for n in workers], "kx", zorder=3)
    a2c = np.array(found["a2c"])[workers.index(SHOWN)]
    ends = np.concatenate([a2c[None], np.array(found["bounded"])])
    for j, color in enumerate(colors):
        for slow, line in ((0, "-"), (1, ":")):
            axes[2].plot(interval(ends[:, j, slow])[0], line, marker="o", color=color)
    axes[2].set(xticks=range(len(ends)), xticklabels=["A2C", *found["leads"], "A3C"], ylim=(0, None))
    axes[2].set(xlabel="rollouts that a worker may be ahead", title=f"bounded staleness, {SHOWN} workers")
    axes[2].set_ylabel(f"time of {SHOWN} rollouts,\nmean service times")
    for color, law in zip(colors, laws, strict=True):
        axes[3].plot([], [], "o", color=color, label=law)
    for style, label in (
        ("kx", "1 + 1/2 + ... + 1/W"),
        ("k-", "top row, A2C: all wait for the slowest"),
        ("k--", "top row, A3C: nobody waits"),
        ("ko-", "bottom row: all workers alike"),
        ("ko:", "bottom row: one worker 4 times slower"),
    ):
        axes[3].plot([], [], style, label=label)
    axes[3].axis("off")
    axes[3].legend(loc="center left", title="service times of a rollout")
    caption(figure, seeds_note(found, "bands, narrower than the lines in most places"))
    return figure


if __name__ == "__main__":
    main(measure)
