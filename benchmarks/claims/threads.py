"""Experiment 10: A3C on real threads against the simulated schedule.

Threads act and differentiate as in Mnih et al. 2016: each pulls the shared parameters, acts for one rollout, takes the
gradient at what it pulled and pushes it through the shared RMSProp. Only the push holds a lock, so that every push can
count how many others came since its pull. The compiled parts run outside of Python's lock, as far as there are cores.

The simulation is `updates.clock` with gamma service times; their coefficient of variation is fitted to the first half
of the pushes of every run, as the one with the least Kolmogorov-Smirnov distance between the histograms of staleness,
and that distance is then measured on the second half. Pushes that were made before every thread had pushed a few times
do not count: threads start one after the other.

Confirmed if at every number of threads the mean is N - 1 within 2 % and the distance is at most 0.1; refuted if a mean
is not, or if the interval of a distance lies above 0.1. The bounds were set after a first look at one run.
"""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.ticker import MaxNLocator

from benchmarks.claims.common import interval, main, report, sweep
from benchmarks.figures import ALGORITHM_COLORS, caption, panels
from benchmarks.record import markdown_table
from purejaxrl_a3c import a3c, envs, networks, objectives
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.loops import rollout
from purejaxrl_a3c.updates import optimizers
from purejaxrl_a3c.updates.clock import Service, simulate

THREADS = (2, 4, 8, 16)
PUSHES = 6000  # of a run
CVS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.4, 2.0)
LONGEST = 200  # histograms end here
CONFIG = replace(a3c.Config(), envs_per_worker=4, total_frames=1_000_000_000)


def compiled():
    """``(start, work, push)``: what a thread starts with, its rollout and gradient, and an update."""
    gamma, sizes = CONFIG.objective.gamma, CONFIG.rollouts
    env = envs.make(CONFIG.env, gamma)
    network = networks.make(CONFIG.network, env)
    objective = objectives.policy_gradient(network, CONFIG.objective, objectives.extrinsic(network, gamma))
    optimizer = optimizers.make(CONFIG.optimizer, num_updates=sizes.total_frames)
    index = jnp.arange(sizes.envs_per_worker * sizes.rollout_length).reshape(sizes.envs_per_worker, -1)

    def start(key):
        params = network.init(key)
        keys = jax.random.split(key, sizes.envs_per_worker)
        return params, optimizer.init(params), jax.vmap(lambda key: rollout.start(env, network, key))(keys)

    def work(params, actor_state, key):
        noise, keys = rollout.draw(network, key, index)

        def act(actor_state, noise, keys):
            return rollout.unroll(env, network, params, actor_state, noise, keys)

        actor_state, trajectories = jax.vmap(act)(actor_state, noise, keys)
        batch = objective.prepare(params, trajectories)
        return jax.grad(lambda params: objective.loss(params, batch)[0])(params), actor_state

    def push(params, opt_state, gradient):
        step, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, step), opt_state

    return jax.jit(start), jax.jit(work), jax.jit(push)


def race(programs, threads, seed, pushes=PUSHES):
    """Staleness of every push, int ``[pushes]``, and seconds: real threads, nothing simulated."""
    start, work, push = programs
    params, opt_state, _ = start(jax.random.key(seed))
    shared = {"params": params, "opt_state": opt_state, "version": 0}
    lock, ready = threading.Lock(), threading.Barrier(threads + 1)
    staleness: list[int] = []

    def worker(number):
        key = jax.random.fold_in(jax.random.key(seed), number)
        *_, actor_state = start(key)
        keys = list(jax.random.split(key, 2 * pushes // threads))  # drawn before: the race is to be about the work
        params, pulled = shared["params"], 0
        ready.wait()
        for i in range(pushes):
            gradient, actor_state = jax.block_until_ready(work(params, actor_state, keys[i % len(keys)]))
            with lock:
                if len(staleness) == pushes:
                    return
                staleness.append(shared["version"] - pulled)
                shared["params"], shared["opt_state"] = push(shared["params"], shared["opt_state"], gradient)
                shared["version"] += 1
                params, pulled = shared["params"], shared["version"]

    workers = [threading.Thread(target=worker, args=(number,)) for number in range(threads)]
    for one in workers:
        one.start()
    ready.wait()
    began = time.perf_counter()
    for one in workers:
        one.join()
    return np.array(staleness), time.perf_counter() - began


def histogram(staleness):
    """Distribution function of a staleness, ``[LONGEST]``."""
    return np.cumsum(np.bincount(np.minimum(staleness, LONGEST - 1), minlength=LONGEST)) / len(staleness)


def simulated(threads):
    """Distribution functions on the clock, ``[CVS, LONGEST]``."""

    def run(key, cv):
        count = 4 * PUSHES // threads
        batches, staleness = simulate(key, Service("gamma", cv), threads, count)
        counted = batches.pushed & (jnp.arange(count) > count // 10)[:, None]
        bins = jnp.where(counted, jnp.minimum(staleness, LONGEST - 1), LONGEST)
        counts = jnp.zeros(LONGEST).at[bins].add(1, mode="drop")
        return jnp.cumsum(counts) / counts.sum()

    return sweep(run, {"cv": CVS}, 1)[:, 0]


def measure(sizes):
    """Histograms of staleness of real threads, and of the clock that fits them best."""
    programs = compiled()
    rows, data = [], {}
    distances: dict[int, tuple[float, float, float]] = {}
    for threads in THREADS:
        race(programs, threads, seed=1000, pushes=20 * threads)  # compiles, and starts the pool of threads
        runs = [race(programs, threads, seed) for seed in range(sizes.seeds)]
        steady = [staleness[10 * threads :] for staleness, _ in runs]
        clock = simulated(threads)
        fitted, distance = [], []
        for staleness in steady:
            first, second = np.array_split(staleness, 2)
            best = np.abs(clock - histogram(first)).max(1).argmin()
            fitted.append(CVS[best])
            distance.append(np.abs(clock[best] - histogram(second)).max())
        means, variances = [x.mean() for x in steady], [x.var() for x in steady]
        frames = CONFIG.rollouts.envs_per_worker * CONFIG.rollouts.rollout_length
        rates = [len(staleness) * frames / seconds for staleness, seconds in runs]
        cells = zip((means, variances, fitted, distance), (2, 1, 2, 3), strict=True)
        texts = ["{1:.{0}f} ({2:.{0}f} - {3:.{0}f})".format(digits, *interval(np.array(x))) for x, digits in cells]
        rows.append([threads, *texts, "{:,.0f} ({:,.0f} - {:,.0f})".format(*interval(np.array(rates)))])
        distances[threads] = interval(np.array(distance))
        typical = CVS.index(sorted(fitted)[len(fitted) // 2])
        share = np.diff(histogram(np.concatenate(steady)), prepend=0)
        kept = {"means": means, "variances": variances, "fitted": fitted, "distances": distance, "rates": rates}
        data[str(threads)] = kept | {"share": share, "clock": np.diff(clock[typical], prepend=0), "cv": CVS[typical]}

    conserved = max(abs(interval(np.array(data[str(n)]["means"]))[0] / (n - 1) - 1) for n in THREADS)
    worst = max(THREADS, key=lambda n: distances[n][0])
    fits, fails = distances[worst][0] <= 0.1, any(low > 0.1 for _, low, _ in distances.values())
    table = (
        f"Staleness of {PUSHES:,} pushes of A3C with {CONFIG.rollouts.envs_per_worker} environments a thread; the "
        "gamma clock's coefficient of variation that fits the first half of a run, and its Kolmogorov-Smirnov distance "
        f"from the second (interval over {sizes.seeds} runs).\n\n"
    )
    table += markdown_table(["threads", "mean", "variance", "CV", "distance", "frames / s"], rows)
    report(
        10,
        "threads",
        "Threads race like workers on a clock with gamma service times.",
        "refuted" if conserved > 0.02 or fails else "confirmed" if fits else "not decided",
        f"the mean staleness of N threads is N - 1 within {100 * conserved:.1f} %; the distance between their "
        f"staleness and the fitted clock's is at most {{:.3f}} ({{:.3f}} to {{:.3f}}), with {worst} threads.".format(
            *distances[worst]
        ),
        table,
        draw,
        {"threads": THREADS, "cvs": CVS, "seeds": list(range(sizes.seeds)), "runs": data},
    )


def draw(found):
    """Figure of the histograms of staleness, of real threads and of the clock that fits them."""
    figure, axes = panels(2, 2, height=3)
    for axis, threads in zip(axes, found["threads"], strict=False):
        run = found["runs"][str(threads)]
        at = np.arange(min(LONGEST, 4 * threads))
        axis.bar(at, np.array(run["share"])[at], width=1, color=ALGORITHM_COLORS["A3C"], alpha=0.4, label="threads")
        axis.plot(at, np.array(run["clock"])[at], ".-", color="k", lw=1, label=f"clock, CV {run['cv']:g}")
        axis.axvline(threads - 1, color="0.4", lw=1, ls=":", label="threads - 1")
        axis.set(title=f"{threads} threads", xlabel="staleness, updates", ylabel="share of pushes")
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axis.legend()
    caption(figure, f"All pushes of {len(found['seeds'])} runs; the clock's CV is the median of those fitted.")
    return figure


if __name__ == "__main__":
    main(measure)
