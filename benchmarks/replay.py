"""Our replay buffer beside flashbax's, which is the usual one, at the same work.

``python -m benchmarks.replay`` times iterations of *add* (a step of 8 environments), *sample* (64 transitions) and, if
items are drawn by priority, *reprioritise*. Both buffers keep the same rows: observation, successor, action, reward and
two flags. The last columns tell whether XLA updates a buffer in place: bytes that the program needs beside its result
(in sizes of the buffer). They are 1 for the buffer itself; a copy in every iteration makes them 2 or more.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.record import markdown_table, save
from purejaxrl_a3c import replay
from purejaxrl_a3c.run import memory

ENVS, BATCH = 8, 64
OBSERVATIONS = {"CartPole": (4,), "MinAtar": (10, 10, 4)}
ROWS = (10_000, 100_000, 1_000_000)
SEEDS = (1, 8)
KINDS = ("uniform", "prioritised")


class Work(NamedTuple):
    """What one line of the table is about."""

    kind: str  # of KINDS
    observation: str  # of OBSERVATIONS
    rows: int  # transitions that the buffer holds
    seeds: int  # buffers at once


def rows_at(key: Any, shape: tuple[int, ...]) -> replay.Rows:
    """One step of all environments, leaves ``[1, ENVS, ...]``; random, so that nothing is known when compiling."""
    obs = jax.random.uniform(key, (1, ENVS, *shape))
    reward = obs.reshape(1, ENVS, -1)[..., 0]
    flag = reward < 0.1
    return replay.Rows(obs, jnp.int32(reward > 0.5), reward, flag, ~flag, obs + 1)


def ours(work: Work, shape: tuple[int, ...]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """``(init, step)`` of our ring: ``step(state, key)`` returns the state, and a number that depends on all."""
    example = jax.eval_shape(lambda key: jax.tree.map(lambda x: x[0, 0], rows_at(key, shape)), jax.random.key(0))
    exponent = 0.6 if work.kind == "prioritised" else None
    buffer = replay.make(example, replay.Size(work.rows // ENVS, ENVS), priority_exponent=exponent)

    def step(ring: replay.Ring, key: Any) -> tuple[replay.Ring, jax.Array]:
        key_rows, key_bits = jax.random.split(key)
        ring = buffer.add(ring, rows_at(key_rows, shape))
        drawn = buffer.sample(ring, jax.random.bits(key_bits, (2, BATCH)), jnp.float32(0.4))
        batch = replay.transitions(buffer.view(ring, drawn.places), 1, 0.99)
        error = jnp.abs(batch.reward - batch.next_obs.reshape(BATCH, -1).mean(1) + batch.obs.reshape(BATCH, -1).mean(1))
        return buffer.reprioritise(ring, drawn.places, error), (error * drawn.weight).sum()

    return buffer.init, step


def flashbax(work: Work, shape: tuple[int, ...]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """As `ours`, of flashbax's item buffer, which keeps whatever it is given."""
    import flashbax as fbx

    shared: dict[str, Any] = {"max_length": work.rows, "min_length": BATCH, "sample_batch_size": BATCH}
    is_prioritised = work.kind == "prioritised"
    if is_prioritised:
        buffer = fbx.make_prioritised_item_buffer(add_batches=True, priority_exponent=0.6, **shared)
    else:
        buffer = fbx.make_item_buffer(add_batches=True, **shared)

    def items(key: Any) -> dict[str, jax.Array]:
        rows = rows_at(key, shape)._asdict()
        return {name: x[0] for name, x in rows.items() if name not in ("first", "carry")}

    def init() -> Any:
        return buffer.init(jax.tree.map(lambda x: x[0], items(jax.random.key(0))))

    def step(state: Any, key: Any) -> tuple[Any, jax.Array]:
        key_rows, key_sample = jax.random.split(key)
        state = buffer.add(state, items(key_rows))
        sample = buffer.sample(state, key_sample)
        batch = sample.experience
        means = batch["final_obs"].reshape(BATCH, -1).mean(1), batch["obs"].reshape(BATCH, -1).mean(1)
        error = jnp.abs(batch["reward"] - means[0] + means[1])
        if not is_prioritised:
            return state, error.sum()
        weight = (work.rows * sample.probabilities) ** -0.4
        return buffer.set_priorities(state, sample.indices, error + 1e-6), (error * weight / weight.max()).sum()

    return init, step


class Timed:
    """A compiled loop of ``(init, step)``, for as many seeds as the work has."""

    def __init__(self, work: Work, functions: tuple[Callable[..., Any], Callable[..., Any]], seconds: float) -> None:
        """Compile, and find out how many iterations take about ``seconds``."""
        init, step = functions

        def run(key: Any, n: jax.Array) -> jax.Array:
            def body(i: jax.Array, loop: Any) -> Any:
                state, total = loop
                state, found = step(state, jax.random.fold_in(key, i))
                return state, total + found

            return jax.lax.fori_loop(0, n, body, (init(), jnp.float32(0)))[1]

        mapped = jax.vmap(run, (0, None)) if work.seeds > 1 else run
        keys = jax.random.split(jax.random.key(0), work.seeds) if work.seeds > 1 else jax.random.key(0)
        self._keys, self._run = keys, jax.jit(mapped).lower(keys, jnp.int32(1)).compile()
        sizes: Any = self._run.memory_analysis()
        self.copies = sizes.temp_size_in_bytes / (work.seeds * memory.size_of(jax.eval_shape(init)))
        self.n, self.microseconds = 64, list[float]()
        self._time(1)
        while self._time(self.n) - self._time(1) < 0.2 * seconds and self.n < 2**22:
            self.n *= 2

    def _time(self, n: int) -> float:
        began = time.perf_counter()
        jax.block_until_ready(self._run(self._keys, jnp.int32(n)))
        return time.perf_counter() - began

    def measure(self) -> None:
        """Add a measurement. The time of making the buffer is subtracted."""
        self.microseconds.append(1e6 * (self._time(5 * self.n) - self._time(self.n)) / (4 * self.n))


def main(repetitions: int = 5, seconds: float = 0.3, limit_gb: float = 4.0) -> None:
    """Measure and write results/replay.json and results/replay.md.

    Args:
        repetitions: measurements of each buffer, in turns.
        seconds: that each takes, about.
        limit_gb: what is larger, all seeds together, is left out.
    """
    rows, data = [], {}
    for kind in KINDS:
        for observation, shape in OBSERVATIONS.items():
            for size in ROWS:
                for seeds in SEEDS:
                    work = Work(kind, observation, size, seeds)
                    total = seeds * memory.size_of(jax.eval_shape(ours(work, shape)[0])) / 1e9
                    if total > limit_gb:
                        continue
                    found = compare(work, shape, repetitions, seconds)
                    data[" ".join(map(str, work))] = found
                    rows.append(cells(work, total, found))
    table = (
        "Microseconds of an iteration (median, and range): add a step of 8 environments, sample 64 transitions and, if "
        "prioritised, set 64 priorities. Flashbax / ours is the median of the ratios within one turn. Temporaries are "
        f"in sizes of the buffer. Buffers above {limit_gb:g} GB are left out.\n\n"
        + markdown_table(
            [
                "draws, observations, rows, seeds",
                "GB",
                "ours",
                "flashbax",
                "flashbax / ours",
                "temporaries of ours",
                "of flashbax",
            ],
            rows,
        )
    )
    save("replay", {"repetitions": repetitions, "results": data}, table)


def compare(work: Work, shape: tuple[int, ...], repetitions: int, seconds: float) -> dict[str, Any]:
    """Microseconds ``[repetitions]`` and temporaries of both."""
    timed = {"ours": Timed(work, ours(work, shape), seconds), "flashbax": Timed(work, flashbax(work, shape), seconds)}
    for _ in range(repetitions):
        for one in timed.values():
            one.measure()
    return {
        name: {"microseconds": one.microseconds, "temporaries": round(one.copies, 3)} for name, one in timed.items()
    }


def cells(work: Work, gigabytes: float, found: dict[str, Any]) -> list[str]:
    """A row of the table."""
    took = {name: np.array(one["microseconds"]) for name, one in found.items()}
    texts = [f"{np.median(x):.0f} ({x.min():.0f} to {x.max():.0f})" for x in took.values()]
    ratio = np.median(took["flashbax"] / took["ours"])
    name = f"{work.kind}, {work.observation}, {work.rows:,}, {work.seeds}"
    return [name, f"{gigabytes:.3f}", *texts, f"{ratio:.2f}", *(f"{one['temporaries']:.2f}" for one in found.values())]


if __name__ == "__main__":
    tyro.cli(main)
