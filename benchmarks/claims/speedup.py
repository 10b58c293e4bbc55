"""Experiment 11: how much sooner several workers reach a score, on a virtual clock.

Confirmed if A3C with 16 workers reaches it more than 4 times as soon as one worker does (Mnih et al. 2016: 12.5 times),
low end of the interval; refuted if the high end is below 4; otherwise not decided.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.claims.common import FULL, best_rate, difference, interval, main, report, seeds_note, sweep
from benchmarks.figures import caption, color_of, panels
from benchmarks.record import markdown_table
from purejaxrl_a3c import a2c, a3c, averaging, make_train
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.updates import Asynchrony
from purejaxrl_a3c.updates.clock import Service, service_times

FRAMES = 60_000  # of each run, whatever its workers
SCORE, WINDOW = 150, 4000  # return on CartPole-v1, as a running mean over about so many frames
ROLLOUT, EVERY = 5, 8  # rounds from one averaging to the next
SERVICE = Service("gamma", 0.3)
WORKERS, MORE_WORKERS = (4, 16), (2, 4, 8, 16)  # beside one; more of them with --full
METHODS = ("A3C", "A2C", "averaging", "A3C, lead <= 1")
RATES = {"averaging": (1e-2, 3e-2, 1e-1)}  # the others:
USUAL_RATES = (3e-3, 1e-2, 3e-2)
PUBLISHED = {1: 1, 2: 2.1, 4: 3.7, 8: 6.9, 16: 12.5}  # A3C, Mnih et al. 2016, table 2
THRESHOLD = 4


def config(method, workers, learning_rate):
    """Workers with one environment each."""
    settings = {"rollout_length": ROLLOUT, "learning_rate": learning_rate, "hidden_sizes": (32,)}
    settings["anneal_learning_rate"] = False  # a time to a score should not depend on how long the run goes on
    if method == "A2C":
        return replace(a2c.Config(), num_envs=workers, total_frames=FRAMES, **settings)
    if method == "averaging":
        sizes = {"num_workers": workers, "envs_per_worker": 1, "total_frames": FRAMES}
        return replace(averaging.Config(), sync_every=EVERY, **sizes, **settings)
    asynchrony = Asynchrony("clock", SERVICE, max_lead=None if method == "A3C" else 1)
    return replace(
        a3c.Config(), num_workers=workers, envs_per_worker=1, total_frames=FRAMES, asynchrony=asynchrony, **settings
    )


def waiting_times(key, workers, rounds, every):
    """When each round ends if all wait for the slowest after ``every`` rounds (A2C: each round): float32 [rounds]."""
    done = service_times(key, SERVICE, (-(-rounds // every), every, workers)).cumsum(1).max(2)
    waited = jnp.cumsum(done[:, -1])
    return (done + (waited - done[:, -1])[:, None]).reshape(-1)[:rounds]


def running_return(metrics):
    """Mean return of the episodes that ended lately: float32 [I]; 0 before the first one."""

    def add(sums, now):
        decay, returns, episodes = now
        total, count = sums[0] * decay + jnp.where(episodes > 0, returns * episodes, 0), sums[1] * decay + episodes
        return (total, count), total / jnp.maximum(count, 1e-9)

    decay = jnp.full(metrics.frames.shape, jnp.exp(-metrics.frames[0] / WINDOW))  # in one iteration
    return jax.lax.scan(add, (0.0, 0.0), (decay, metrics.episode_return, metrics.episodes))[1]


def time_to_score(method, workers, seeds):
    """Mean service times until the score, and whether it was reached: arrays [rates, seeds]."""

    def run(key, learning_rate):
        metrics = make_train(config(method, workers, learning_rate))(key).metrics
        time = metrics.losses["virtual_time"]
        if method in ("A2C", "averaging"):
            every = 1 if method == "A2C" else EVERY
            time = waiting_times(jax.random.fold_in(key, 1), workers, len(time), every)
        reached = running_return(metrics) >= SCORE
        # However short the run itself was: failing must not look like a speed-up.
        return jnp.where(reached.any(), time[reached.argmax()], FRAMES / ROLLOUT), reached.any()

    return sweep(run, {"learning_rate": RATES.get(method, USUAL_RATES)}, seeds)


def at_best_rate(times, reached):
    """Logarithms of the times ``[seeds]`` at the best rate, how many seeds got there, and which rate that is."""
    best = best_rate(-np.log(times))
    return np.log(times[best]), reached[best].sum(), best


def measure(sizes):
    """Speed-up over one worker of four methods, the learning rate swept for each of them and number of workers."""
    # Every number of workers is a program of its own, and compiling is half of what a few seeds cost.
    many = MORE_WORKERS if sizes == FULL else WORKERS
    one = time_to_score("A2C", 1, sizes.seeds)  # with one worker all methods are the same: nobody waits
    arms = [(method, w) for method in METHODS for w in many if "lead" not in method or w == many[-1]]
    measured = {(method, w): time_to_score(method, w, sizes.seeds) for method, w in arms}

    log_one, reached_one, best = at_best_rate(*one)
    cell = "{:.0f} ({:.0f} - {:.0f})".format
    rows = [["one worker", 1, cell(*np.exp(interval(log_one))), 1, f"{USUAL_RATES[best]:g}", reached_one]]
    speedups = {}
    for (method, w), arm in measured.items():
        log_times, reached, best = at_best_rate(*arm)
        speedups[method, w] = np.exp(difference(log_one, log_times))
        rate = RATES.get(method, USUAL_RATES)[best]
        speedup = "{:.1f} ({:.1f} - {:.1f})".format(*speedups[method, w])
        rows.append([method, w, cell(*np.exp(interval(log_times))), speedup, f"{rate:g}", reached])
    table = (
        f"CartPole-v1: time until the running mean of the return is {SCORE}, in mean service times of one rollout of "
        f"{ROLLOUT} frames (geometric interquartile mean over {sizes.seeds} seeds, 95 % interval), at the best of "
        f"three rates. A run that does not get there in {FRAMES} frames counts as what one worker takes for them.\n\n"
    ) + markdown_table(["method", "workers", "time", "speed-up", "rate", "seeds that got there"], rows)

    gain, low, high = speedups["A3C", many[-1]]
    report(
        11,
        "speedup",
        "More workers reach a score sooner: 16 workers 12.5 times (A3C, Mnih et al. 2016).",
        "confirmed" if low > THRESHOLD else "refuted" if high < THRESHOLD else "not decided",
        f"{many[-1]} A3C workers reach a return of {SCORE} on CartPole-v1 {gain:.1f} times ({low:.1f} to {high:.1f}) "
        "as soon as one worker; "
        + ", ".join("{} {:.1f} ({:.1f} to {:.1f})".format(m, *speedups[m, many[-1]]) for m in METHODS[1:])
        + ".",
        table,
        draw,
        {
            "score": SCORE,
            "published": PUBLISHED,
            "one": {"times": one[0], "reached": one[1]},
            "measured": {f"{m}, {w}": {"times": x[0], "reached": x[1]} for (m, w), x in measured.items()},
        },
        sizes._replace(frames=FRAMES),
    )


def draw(found):
    """Figure of the speed-ups against the number of workers."""

    def log_times(arm):
        return at_best_rate(np.array(arm["times"]), np.array(arm["reached"]))[0]

    curves = {method: {1: (1.0, 1.0, 1.0)} for method in METHODS}
    for name, arm in found["measured"].items():
        method, workers = name.rsplit(", ", 1)
        curves[method][int(workers)] = tuple(np.exp(difference(log_times(found["one"]), log_times(arm))))
    published = {int(workers): speedup for workers, speedup in found["published"].items()}
    figure, (axis,) = panels(height=5)
    axis.plot(list(published), list(published), "-", color="0.7", label="as many times as workers")
    axis.plot(list(published), list(published.values()), "k*", ms=10, label="A3C on Atari, Mnih et al. 2016")
    for i, (method, points) in enumerate(curves.items()):
        middle, low, high = np.array([points[workers] for workers in sorted(points)]).T
        at = np.array(sorted(points)) * 1.03 ** (i - 1.5)  # so that the bars do not hide each other
        line, color = ("o:" if "lead" in method else "o-"), color_of(method)
        axis.errorbar(at, middle, (middle - low, high - middle), fmt=line, capsize=3, color=color, label=method)
    axis.set(xscale="log", yscale="log", xlabel="workers", ylabel="time of one worker / time of so many")
    axis.set(xticks=list(published), xticklabels=list(published), yticks=list(published), yticklabels=list(published))
    axis.minorticks_off()
    axis.set_title(f"how much sooner CartPole-v1's return is {found['score']}")
    axis.legend(loc="upper left")
    caption(figure, seeds_note(found))
    return figure


if __name__ == "__main__":
    main(measure)
