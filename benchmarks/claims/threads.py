"""Experiment 10: A3C with real threads and real processes against the simulated schedule.

The threads are those of this script. Each pulls the shared parameters, acts for one rollout, takes the gradient at what
it pulled and pushes it through the shared RMSProp (Mnih et al. 2016). Only the push holds a lock, so that every push
can count how many others came since its pull. The compiled parts run outside of Python's lock, as far as there are
cores. The processes are those of `host.train_async` in Gymnasium's CartPole.

Three clocks of `updates.clock` are compared with them. On the first every worker has a core of its own, and service
times are gamma; on the second they are those that were measured in the first half of the pushes, drawn independently;
on the third they are gamma, and the workers share as many cores as the machine has. The coefficient of variation, and
the time slice of the third, are those with the least Kolmogorov-Smirnov distance between the histograms of staleness in
the first half of the pushes of each run. The distance is then measured on the second half. Pushes that were made before
every worker had pushed a few times do not count.

Confirmed if for threads and for processes, at every number of workers, the mean is N - 1 within 2 % and the distance of
the third clock is at most 0.1; refuted if a mean is not, or if the interval of a distance lies above 0.1. The bounds
are those under which the first clock was refuted, in earlier runs; the third was written after a look at those.
"""

import functools
import os
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.ticker import MaxNLocator

from benchmarks.claims.common import interval, main, report, sweep
from benchmarks.figures import ALGORITHM_COLORS, caption, panels
from benchmarks.record import markdown_table
from purejaxrl_a3c import a3c, envs, host, networks, objectives
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.loops import rollout
from purejaxrl_a3c.updates import optimizers
from purejaxrl_a3c.updates.clock import simulate
from purejaxrl_a3c.updates.service import Service

COUNTS = (2, 4, 8, 16)
KINDS = ("threads", "processes")
PUSHES = 6000  # of a run
CVS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.4, 2.0)
SLICES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # mean service times
CORES = len(os.sched_getaffinity(0))
QUANTILES = 200  # of the measured times
LONGEST = 200  # histograms end here
CONFIG = replace(a3c.Config(), envs_per_worker=4, total_frames=1_000_000_000)
OUTSIDE = replace(a3c.Config(), env_id="gym/CartPole-v1", envs_per_worker=4, rollout_length=5)


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


class Race(NamedTuple):
    """What was measured in one run."""

    staleness: np.ndarray  # int [pushes]
    times: np.ndarray  # [pushes], from a worker's pull to its push, seconds
    seconds: float  # of all


def race(programs, threads, seed, pushes=PUSHES):
    """Real threads, nothing simulated."""
    start, work, push = programs
    params, opt_state, _ = start(jax.random.key(seed))
    shared = {"params": params, "opt_state": opt_state, "version": 0}
    began: list[float] = []  # noted before any thread may go on, so no task begins before it
    lock, ready = threading.Lock(), threading.Barrier(threads, action=lambda: began.append(time.perf_counter()))
    staleness: list[int] = []
    times: list[float] = []

    def worker(number):
        key = jax.random.fold_in(jax.random.key(seed), number)
        *_, actor_state = start(key)
        keys = list(jax.random.split(key, 2 * pushes // threads))  # drawn before: the race is to be about the work
        params, pulled = shared["params"], 0
        ready.wait()
        start_time = time.perf_counter()
        for i in range(pushes):
            gradient, actor_state = jax.block_until_ready(work(params, actor_state, keys[i % len(keys)]))
            with lock:
                if len(staleness) == pushes:
                    return
                staleness.append(shared["version"] - pulled)
                shared["params"], shared["opt_state"] = push(shared["params"], shared["opt_state"], gradient)
                shared["version"] += 1
                params, pulled = shared["params"], shared["version"]
                times.append(time.perf_counter() - start_time)
                start_time += times[-1]

    workers = [threading.Thread(target=worker, args=(number,)) for number in range(threads)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    return Race(np.array(staleness), np.array(times), time.perf_counter() - began[0])


def race_of_processes(workers, seed):
    """Real processes, each with environments of Gymnasium."""
    frames = PUSHES * OUTSIDE.rollouts.envs_per_worker * OUTSIDE.rollouts.rollout_length
    config = replace(OUTSIDE, num_workers=workers, total_frames=frames)
    pushes = host.train_async(config, jax.random.key(seed)).pushes
    return Race(pushes.staleness, pushes.pushed - pushes.pulled, float(pushes.pushed.max()))


def histogram(staleness):
    """Distribution function of a staleness, ``[LONGEST]``."""
    return np.cumsum(np.bincount(np.minimum(staleness, LONGEST - 1), minlength=LONGEST)) / len(staleness)


def simulated(key, service, workers):
    """Distribution function of the staleness on a clock, ``[LONGEST]``."""
    count = 4 * PUSHES // workers
    batches, staleness = simulate(key, service, workers, count)
    counted = batches.pushed & (jnp.arange(count) > count // 10)[:, None]
    bins = jnp.where(counted, jnp.minimum(staleness, LONGEST - 1), LONGEST)
    counts = jnp.zeros(LONGEST).at[bins].add(1, mode="drop")
    return jnp.cumsum(counts) / counts.sum()


class Clocks(NamedTuple):
    """The staleness on three clocks, as distribution functions."""

    own: np.ndarray  # [CVS, LONGEST]
    measured: Callable[..., Any]  # (times [QUANTILES]) -> [LONGEST]
    shared: np.ndarray  # [CVS * SLICES, LONGEST]


def clocks(workers):
    """The `Clocks` of so many workers."""

    def own(key, cv):
        return simulated(key, Service("gamma", cv), workers)

    def shared(key, cv, time_slice):
        return simulated(key, Service("gamma", cv, num_cores=CORES, time_slice=time_slice), workers)

    @jax.jit
    def measured(times):
        return simulated(jax.random.key(0), Service("measured", measured_times=tuple(times)), workers)

    both = sweep(shared, {"cv": CVS, "time_slice": SLICES}, 1)[:, :, 0]
    return Clocks(sweep(own, {"cv": CVS}, 1)[:, 0], measured, both.reshape(-1, LONGEST))


def compare(run, clocks):
    """How far each clock is from the second half of a run, and which of each fits its first half."""
    first, second = map(histogram, np.array_split(run.staleness, 2))

    def fit(candidates):
        best = np.abs(candidates - first).max(1).argmin()
        return int(best), float(np.abs(candidates[best] - second).max())

    times = np.quantile(run.times[: len(run.times) // 2], (np.arange(QUANTILES) + 0.5) / QUANTILES)
    own, shared = fit(clocks.own), fit(clocks.shared)
    measured = float(np.abs(np.asarray(clocks.measured(times)) - second).max())
    cv, time_slice = divmod(shared[0], len(SLICES))
    return {
        "mean": run.staleness.mean(),
        "variance": run.staleness.var(),
        "halves": float(np.abs(first - second).max()),
        "own": own[1],
        "measured": measured,
        "shared": shared[1],
        "own_cv": CVS[own[0]],
        "shared_cv": CVS[cv],
        "time_slice": SLICES[time_slice],
    }


def measure(sizes):
    """Histograms of staleness of real workers, and of the clocks that fit them best."""
    programs = compiled()
    for threads in COUNTS:
        race(programs, threads, seed=1000, pushes=20 * threads)  # compiles, and starts the pool of threads
    run: dict[str, Callable[..., Race]] = {"threads": functools.partial(race, programs), "processes": race_of_processes}
    data: dict[str, Any] = {}
    for workers in COUNTS:
        on_clocks = clocks(workers)
        for kind in KINDS:
            runs = [run[kind](workers, seed) for seed in range(sizes.seeds)]
            steady = [Race(one.staleness[10 * workers :], one.times[10 * workers :], one.seconds) for one in runs]
            found = [compare(one, on_clocks) for one in steady]
            columns = {name: [float(one[name]) for one in found] for name in found[0]}
            typical = {name: float(np.quantile(columns[name], 0.5, method="nearest")) for name in columns}
            at_shared = CVS.index(typical["shared_cv"]) * len(SLICES) + SLICES.index(typical["time_slice"])
            data[f"{workers} {kind}"] = columns | {
                "share": np.diff(histogram(np.concatenate([one.staleness for one in steady])), prepend=0),
                "own_clock": np.diff(on_clocks.own[CVS.index(typical["own_cv"])], prepend=0),
                "shared_clock": np.diff(on_clocks.shared[at_shared], prepend=0),
                "typical": typical,
                "pushes_per_second": [len(one.staleness) / one.seconds for one in runs],
            }
    data = {f"{workers} {kind}": data[f"{workers} {kind}"] for kind in KINDS for workers in COUNTS}
    _report(sizes, data)


def _report(sizes, data):
    cells = (("mean", 2), ("variance", 1), ("halves", 3), ("own", 3), ("measured", 3), ("shared", 3))
    rows = [
        [
            name,
            *[
                "{1:.{0}f} ({2:.{0}f} - {3:.{0}f})".format(digits, *interval(np.array(row[key])))
                for key, digits in cells
            ],
            f"{row['typical']['shared_cv']:g}",
            f"{row['typical']['time_slice']:g}",
            "{:,.0f} ({:,.0f} - {:,.0f})".format(*interval(np.array(row["pushes_per_second"]))),
        ]
        for name, row in data.items()
    ]
    distances = {name: interval(np.array(row["shared"])) for name, row in data.items()}
    own = {name: interval(np.array(row["own"])) for name, row in data.items()}
    conserved = max(
        abs(interval(np.array(row["mean"]))[0] / (int(name.split()[0]) - 1) - 1) for name, row in data.items()
    )
    worst, worst_own = (max(found, key=lambda name: found[name][0]) for found in (distances, own))
    fits, fails = distances[worst][0] <= 0.1, any(low > 0.1 for _, low, _ in distances.values())
    table = (
        f"Staleness of {PUSHES:,} pushes of A3C with {CONFIG.rollouts.envs_per_worker} environments a worker on "
        f"{CORES} cores, and the Kolmogorov-Smirnov distance of three clocks: every worker has a core, with gamma "
        "service times or with those that were measured; the workers share the cores, with the CV "
        "(coefficient of variation) and the time slice (in mean service times; medians) that fit best (interval over "
        f"{sizes.seeds} runs). Halves: the distance of a run's first half from its second; no clock can be expected to "
        "be nearer than that.\n\n"
    )
    headings = [
        "workers",
        "mean",
        "variance",
        "halves",
        "own cores",
        "measured times",
        "shared cores",
        "CV",
        "time slice",
        "pushes / s",
    ]
    report(
        10,
        "threads",
        "Threads and processes race like workers on a clock that share its cores.",
        "refuted" if conserved > 0.02 or fails else "confirmed" if fits else "not decided",
        f"the mean staleness of N workers is N - 1 within {100 * conserved:.1f} %; the distance between their "
        f"staleness and the clock's is at most {{:.3f}} ({{:.3f}} to {{:.3f}}), with {worst}; on a clock with a core "
        f"for every worker it is up to {{:.3f}} ({{:.3f}} to {{:.3f}}), with {worst_own}.".format(
            *distances[worst], *own[worst_own]
        ),
        table + markdown_table(headings, rows),
        draw,
        {"counts": COUNTS, "kinds": KINDS, "cores": CORES, "seeds": list(range(sizes.seeds)), "runs": data},
    )


def draw(found):
    """Figure of the histograms of staleness, of real workers and of the clocks that fit them."""
    figure, axes = panels(len(found["counts"]), len(found["kinds"]), height=2.9)
    names = [f"{workers} {kind}" for kind in found["kinds"] for workers in found["counts"]]
    for axis, name in zip(axes, names, strict=True):
        run, workers = found["runs"][name], int(name.split()[0])
        at = np.arange(min(LONGEST, 4 * workers))
        axis.bar(at, np.array(run["share"])[at], width=1, color=ALGORITHM_COLORS["A3C"], alpha=0.4, label="real")
        axis.plot(at, np.array(run["own_clock"])[at], color="0.5", lw=1.5, ls="--", label="clock, own cores")
        axis.plot(at, np.array(run["shared_clock"])[at], ".-", color="k", lw=1, label="clock, shared cores")
        axis.set(title=name, xlabel="staleness, updates")
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    for axis in axes[:: len(found["counts"])]:
        axis.set_ylabel("share of pushes")
    axes[-1].legend()
    caption(figure, f"All pushes of {len(found['seeds'])} runs; the clocks' settings are the medians of those fitted.")
    return figure


if __name__ == "__main__":
    main(measure)
