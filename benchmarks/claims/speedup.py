"""Experiment 11: how much sooner several workers reach a score, on a virtual clock.

Confirmed if A3C with 16 workers reaches it more than 4 times as soon as one worker does (Mnih et al. 2016: 12.5 times),
in the geometric mean of three tasks, low end of the interval; refuted if the high end is below 4; otherwise not
decided.
The Q-learning methods of the same paper are measured beside A3C.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.claims.common import FULL, at_chosen_rates, difference, interval, main, once, report, seeds_note
from benchmarks.claims.tasks import SEARCH_SEEDS, SEEDS, over_tasks
from benchmarks.figures import caption, color_of, panels
from benchmarks.record import markdown_table
from purejaxrl_a3c import a2c, a3c, averaging, make_train, nstep_q
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.updates import Asynchrony, optimizers
from purejaxrl_a3c.updates.service import Service, service_times


class Task(NamedTuple):
    """An environment and when it counts as solved."""

    score: float  # a return, as a running mean
    methods: tuple[str, ...]
    longest: int  # episode, in steps
    frames: int = 60_000  # of each run, whatever its workers


Q_METHODS = ("n-step Q", "one-step Q", "one-step SARSA")
TASKS = {
    "CartPole-v1": Task(150, ("A3C", "A2C", "averaging", "A3C, lead <= 1", *Q_METHODS), 500),
    "Acrobot-v1": Task(-150, ("A3C", *Q_METHODS), 500, 200_000),
    "Catch-bsuite": Task(0.5, ("A3C", *Q_METHODS), 9),
}
WINDOW = 4000  # frames of the running mean, about
ROLLOUT, EVERY = 5, 8  # rounds from one averaging to the next
SERVICE = Service("gamma", 0.3)
WORKERS, MORE_WORKERS = (4, 16), (2, 4, 8, 16)  # beside one; more of them with --full
RATES = tuple(4e-4 * 1.6**i for i in range(12))
SHIFTED = {"averaging": 1.6**3} | dict.fromkeys(Q_METHODS, 1.6**-3)  # where their best rates lie
PUBLISHED = {  # Mnih et al. 2016, table 2
    "A3C": {1: 1, 2: 2.1, 4: 3.7, 8: 6.9, 16: 12.5},
    "n-step Q": {1: 1, 2: 2.7, 4: 5.9, 8: 10.7, 16: 17.2},
    "one-step Q": {1: 1, 2: 3.0, 4: 6.3, 8: 13.3, 16: 24.1},
    "one-step SARSA": {1: 1, 2: 2.8, 4: 5.9, 8: 13.1, 16: 22.1},
}
THRESHOLD = 4


def config(env_id, method, workers, learning_rate):
    """Workers with one environment each."""
    settings: dict[str, Any] = {"env_id": env_id, "total_frames": TASKS[env_id].frames, "rollout_length": ROLLOUT}
    # A time to a score should not depend on how long the run goes on.
    settings |= {"learning_rate": learning_rate, "hidden_sizes": (32,), "anneal_learning_rate": False}
    if method == "A2C":
        return replace(a2c.Config(), num_envs=workers, **settings)
    sizes = {"num_workers": workers, "envs_per_worker": 1}
    if method == "averaging":
        return replace(averaging.Config(), sync_every=EVERY, **sizes, **settings)
    asynchrony = Asynchrony("clock", SERVICE, max_lead=1 if "lead" in method else None)
    if method not in Q_METHODS:
        return replace(a3c.Config(), asynchrony=asynchrony, **sizes, **settings)
    base: Any = replace(nstep_q.Config(), optimizer=optimizers.Adam(), asynchrony=asynchrony, **sizes, **settings)
    return replace(
        base,
        n_step=ROLLOUT if method == "n-step Q" else 1,
        target="sarsa" if method == "one-step SARSA" else "q",
        # One worker is not to explore otherwise than many.
        epsilon_final=(0.05,),
        epsilon_frames=10_000,
        target_update_every=200,
        scale_rewards=env_id == "CartPole-v1",
    )


def waiting_times(key, workers, rounds, every):
    """When each round ends if all wait for the slowest after ``every`` rounds (A2C: each round): float32 [rounds]."""
    done = service_times(key, SERVICE, (-(-rounds // every), every, workers)).cumsum(1).max(2)
    waited = jnp.cumsum(done[:, -1])
    return (done + (waited - done[:, -1])[:, None]).reshape(-1)[:rounds]


def running_return(metrics, least):
    """Mean return of the episodes that ended lately: float32 [I].

    It is -inf before ``least`` frames, at least `WINDOW`, because the first episodes that end are short ones.
    """

    def add(sums, now):
        decay, returns, episodes = now
        total, count = sums[0] * decay + jnp.where(episodes > 0, returns * episodes, 0), sums[1] * decay + episodes
        return (total, count), total / jnp.maximum(count, 1e-9)

    decay = jnp.full(metrics.frames.shape, jnp.exp(-metrics.frames[0] / WINDOW))  # in one iteration
    means = jax.lax.scan(add, (0.0, 0.0), (decay, metrics.episode_return, metrics.episodes))[1]
    return jnp.where(metrics.frames >= max(WINDOW, least), means, -jnp.inf)


def log_time_to_score(env_id, method, workers):
    """At the best rate: log of the mean service times until the score and whether it was reached [seeds], and the rate.

    The rate is that with which it takes the least time on other seeds.
    """
    task = TASKS[env_id]

    def run(key, learning_rate):
        metrics = make_train(config(env_id, method, workers, learning_rate))(key).metrics
        time = metrics.losses["virtual_time"]
        if method in ("A2C", "averaging"):
            every = 1 if method == "A2C" else EVERY
            time = waiting_times(jax.random.fold_in(key, 1), workers, len(time), every)
        reached = running_return(metrics, workers * task.longest) >= task.score
        # However short the run itself was: failing must not look like a speed-up.
        least = jnp.where(reached.any(), time[reached.argmax()], task.frames / ROLLOUT)
        return -jnp.log(least), reached.any()

    rates = [rate * SHIFTED.get(method, 1) for rate in RATES]
    (quickness, reached), chosen, _ = at_chosen_rates(run, {}, rates, SEARCH_SEEDS, SEEDS)
    return -quickness, reached, chosen


def alone(method):
    """The method that is the same with one worker: nobody waits, and nothing is stale."""
    return method if method in Q_METHODS else "A2C"


def arms(env_id, many):
    """Methods and numbers of workers that are measured in an environment, one worker first."""
    methods = TASKS[env_id].methods
    ones = dict.fromkeys((alone(method), 1) for method in methods)
    return [*ones, *((m, w) for m in methods for w in many if "lead" not in m or w == many[-1])]


def table_of(env_id, measured):
    """A table of the times, and the speed-ups by method and workers."""
    task, rows, speedups = TASKS[env_id], [], {}
    for (method, workers), (log_times, reached, rate) in measured.items():
        speedups[method, workers] = np.exp(difference(measured[alone(method), 1][0], log_times))
        speedup = "1" if workers == 1 else "{:.1f} ({:.1f} - {:.1f})".format(*speedups[method, workers])
        cell = "{:.0f} ({:.0f} - {:.0f})".format(*np.exp(interval(log_times)))
        label = "A3C, A2C, averaging" if (method, workers) == ("A2C", 1) else method
        rows.append([label, workers, cell, speedup, f"{rate:.2g}", int(reached.sum())])
    table = (
        f"{env_id}: time until the running mean of the return is {task.score:g}, in mean service times of one rollout "
        f"of {ROLLOUT} frames (geometric interquartile mean over {SEEDS} seeds, 95 % interval), at the best of "
        f"{len(RATES)} rates on {SEARCH_SEEDS} other seeds. A run that does not get there in {task.frames} frames "
        "counts as what one worker takes for them.\n\n"
    ) + markdown_table(["method", "workers", "time", "speed-up", "rate", "seeds that got there"], rows)
    return table, speedups


def on_all(measured, method, workers):
    """Geometric mean over the tasks of a method's speed-up: ``(middle, low, high)``."""
    one, many = (
        np.stack([task[arm][0] for task in measured.values()]) for arm in ((alone(method), 1), (method, workers))
    )
    return tuple(np.exp(over_tasks((1, one), (-1, many))))


def measure(sizes):
    """Speed-up over one worker of each method, the learning rate swept for each of them and number of workers."""
    # Every number of workers is a program of its own, and compiling is half of what a few seeds cost.
    many = MORE_WORKERS if sizes == FULL else WORKERS
    measured = {
        env_id: {
            (m, w): once("speedup", f"{env_id}, {m}, {w}", partial(log_time_to_score, env_id, m, w))
            for m, w in arms(env_id, many)
        }
        for env_id in TASKS
    }
    tables, speedups = zip(*(table_of(env_id, arms_of) for env_id, arms_of in measured.items()), strict=True)
    everywhere = [m for m in TASKS[next(iter(TASKS))].methods if all(m in task.methods for task in TASKS.values())]
    pooled = {method: on_all(measured, method, many[-1]) for method in everywhere}
    rows = [[method, "{:.1f} ({:.1f} - {:.1f})".format(*found)] for method, found in pooled.items()]
    table = f"Speed-up of {many[-1]} workers over one, geometric mean over {', '.join(TASKS)}.\n\n"
    table += markdown_table(["method", "speed-up"], rows) + "\n" + "\n".join(tables)

    def cell(method, found):
        return "{} {:.1f} ({:.1f} to {:.1f})".format(method, *found)

    gain, low, high = pooled["A3C"]
    # Their speed-up would be that of failing.
    failing = [m for m in pooled if any(task[alone(m), 1][1].mean() < 0.5 for task in measured.values())]
    on_each = [cell(env_id, found["A3C", many[-1]]) for env_id, found in zip(TASKS, speedups, strict=True)]
    report(
        11,
        "speedup",
        "More workers reach a score sooner: 16 workers 12.5 times (A3C, Mnih et al. 2016).",
        "confirmed" if low > THRESHOLD else "refuted" if high < THRESHOLD else "not decided",
        f"{many[-1]} A3C workers reach a score {gain:.1f} times ({low:.1f} to {high:.1f}) as soon as one worker, in "
        f"the geometric mean over {len(TASKS)} task{'s' * (len(TASKS) > 1)} ({', '.join(on_each)})"
        + "".join("; " + cell(method, found) for method, found in pooled.items() if method not in ("A3C", *failing))
        + (f". With one worker, fewer than half of the seeds get there: {', '.join(failing)}." if failing else "."),
        table,
        draw,
        {
            "scores": {env_id: task.score for env_id, task in TASKS.items()},
            "measured": {
                env_id: {f"{m}, {w}": {"log_times": x[0], "reached": x[1], "rate": x[2]} for (m, w), x in found.items()}
                for env_id, found in measured.items()
            },
        },
        sizes._replace(seeds=SEEDS, frames=max(task.frames for task in TASKS.values())),
    )


def draw(found):
    """Figure of the speed-ups against the number of workers, a panel for each environment."""
    figure, axes = panels(len(found["measured"]), height=5)
    shown: dict[str, Any] = {}
    ticks = list(PUBLISHED["A3C"])
    for axis, (env_id, measured) in zip(axes, found["measured"].items(), strict=True):
        shown["as many times as workers"] = axis.plot(ticks, ticks, "-", color="0.7")[0]
        curves: dict[str, Any] = {}
        for name, arm in measured.items():
            method, workers = name.rsplit(", ", 1)
            one = measured[f"{alone(method)}, 1"]
            if workers != "1" and np.mean(one["reached"]) >= 0.5:
                curves.setdefault(method, {1: (1.0, 1.0, 1.0)})
                curves[method][int(workers)] = tuple(
                    np.exp(difference(*(np.array(x["log_times"]) for x in (one, arm))))
                )
        for i, (method, points) in enumerate(curves.items()):
            middle, low, high = np.array([points[workers] for workers in sorted(points)]).T
            at = np.array(sorted(points)) * 1.04 ** (i - len(curves) / 2)  # so that the bars do not hide each other
            line, color = ("o:" if "lead" in method else "o-"), color_of(method)
            shown[method] = axis.errorbar(at, middle, (middle - low, high - middle), fmt=line, capsize=3, color=color)
            if method in PUBLISHED:
                published = list(PUBLISHED[method].values())[1:]
                axis.plot(ticks[1:], published, "*", ms=8, color=color, mec="k", mew=0.5)
        axis.set(xscale="log", yscale="log", xlabel="workers", title=f"{env_id}: return {found['scores'][env_id]:g}")
        axis.set(xticks=ticks, xticklabels=ticks, yticks=ticks, yticklabels=ticks)
        axis.minorticks_off()
    axes[0].set_ylabel("time of one worker / time of so many")
    figure.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=2 + min(len(axes), 2))
    caption(figure, f"{seeds_note(found)} Stars: on Atari, Mnih et al. 2016.")
    return figure


if __name__ == "__main__":
    main(measure)
