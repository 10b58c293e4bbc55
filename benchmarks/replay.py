"""Our replay buffer against flashbax's, by speed and by copies in the compiled program.

``python -m benchmarks.replay`` times what every update needs: a step of 8 environments is added, 64 transitions are
drawn and read, and get new priorities. flashbax (0.1.3, `pip install flashbax`) keeps the same arrays in its item
buffers. A buffer that both do not hold is skipped, see ``--most-bytes``.

The state is donated, as in a chunk of a run. A buffer that XLA does not update in place appears in the temporary bytes
of the program. For whole iterations of DQN and R2D2 a second table shows the same bytes.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.record import markdown_table, save, spread
from purejaxrl_a3c import dqn, r2d2, replace, replay

ENVS, BATCH, GAMMA = 8, 64, 0.99
OBSERVATIONS = {
    "CartPole": jax.ShapeDtypeStruct((4,), jnp.float32),
    "MinAtar": jax.ShapeDtypeStruct((10, 10, 4), jnp.bool_),
}
STORED = replay.Rows._fields[:6]  # what transitions need
ITERATIONS: dict[str, Any] = {
    "DQN": dqn.Config(),
    "DQN, prioritized": replace(dqn.Config(), prioritized=True),
    "R2D2": r2d2.Config(),
}


class Library(NamedTuple):
    """A full replay buffer and its use."""

    full: Callable[[], Any]
    """() -> the state of a full buffer."""
    turn: Callable[[jax.Array, Any, replay.Rows], tuple[Any, jax.Array]]
    """(key, state, rows [1, B]) -> (state, a number that depends on all that was read)."""
    shared: tuple[str, ...]
    """Fields of the state without an axis of seeds, because no seed changes them otherwise than another."""


def row_of(observation):
    """Shapes and dtypes of one step of one environment."""
    flag, number = jax.ShapeDtypeStruct((), jnp.bool_), jax.ShapeDtypeStruct((), jnp.float32)
    action = jax.ShapeDtypeStruct((), jnp.int32)
    return replay.Rows(observation, action, number, flag, flag, observation)


def errors_of(obs, action, reward, discount, next_obs):
    """Numbers [M] >= 0 that depend on everything that was read."""
    means = [x.reshape(BATCH, -1).mean(1, dtype=jnp.float32) for x in (obs, action, reward, discount, next_obs)]
    return jnp.abs(sum(means))


def ours(row, rows, prioritized):
    """Our buffer of ``rows`` transitions."""
    size = replay.Size(rows // ENVS, ENVS)
    buffer = replay.make(row, size, priority_exponent=0.6 if prioritized else None)

    def full():
        item, env = jnp.meshgrid(jnp.arange(size.rows), jnp.arange(ENVS), indexing="ij")
        ring = buffer.init()._replace(written=jnp.int32(size.rows))
        places = replay.priorities.Places(item.ravel().astype(jnp.int32), env.ravel().astype(jnp.int32))
        return buffer.reprioritise(ring, places, jnp.ones(size.rows * ENVS))

    def turn(key, ring, new):
        ring = buffer.add(ring, new)
        drawn = buffer.sample(ring, jax.random.bits(key, (2, BATCH)), jnp.float32(0.4))
        errors = errors_of(*replay.transitions(buffer.view(ring, drawn.places), 1, GAMMA))
        return buffer.reprioritise(ring, drawn.places, errors), (drawn.weight * errors).sum()

    return Library(full, turn, ("written",))


def flashbax(row, rows, prioritized):
    """The buffer of flashbax for ``rows`` transitions."""
    import flashbax  # here, because only this measurement needs it

    sizes: dict[str, Any] = {"max_length": rows, "min_length": BATCH, "sample_batch_size": BATCH}
    sizes |= {"add_sequences": True, "add_batches": True}
    if prioritized:
        platform = jax.devices()[0].platform
        buffer = flashbax.make_prioritised_item_buffer(**sizes, priority_exponent=0.6, device=platform)
    else:
        buffer = flashbax.make_item_buffer(**sizes)

    def full():
        zeros = {name: jnp.zeros(getattr(row, name).shape, getattr(row, name).dtype) for name in STORED}
        state = buffer.init(zeros).replace(is_full=jnp.bool_(True))
        if not prioritized:
            return state
        state = state.replace(running_index=jnp.full_like(state.running_index, rows))
        return buffer.set_priorities(state, jnp.arange(rows), jnp.ones(rows))

    def turn(key, state, new):
        steps = {name: jnp.swapaxes(getattr(new, name), 0, 1) for name in STORED}
        state = buffer.add(state, steps)
        drawn = buffer.sample(state, key)
        found = replay.Rows(**drawn.experience)
        discount = jnp.where(found.terminated, 0.0, GAMMA)
        errors = errors_of(found.obs, found.action, found.reward, discount, found.final_obs)
        if not prioritized:
            return state, errors.sum()
        # Its sums drift, because changes are added to them, and then it sometimes draws an item of probability 0.
        weight = (rows * jnp.maximum(drawn.probabilities, jnp.finfo(jnp.float32).tiny)) ** -0.4
        state = buffer.set_priorities(state, drawn.indices, errors + 1e-6)
        return state, (weight / weight.max() * errors).sum()

    return Library(full, turn, ("current_index", "is_full", "running_index"))


LIBRARIES = {"ours": ours, "flashbax": flashbax}


class Program(NamedTuple):
    """A compiled loop over turns."""

    run: Any
    full: Any
    buffer_bytes: int
    temporary_bytes: int


def compile_turns(library, row, seeds):
    """The `Program` of many turns of ``seeds`` buffers at once, without memory for any of them yet."""
    new = jax.tree.map(lambda x: jnp.ones((1, ENVS, *x.shape), x.dtype), row)

    def turns(key, state, n):
        def body(i, loop):
            state, total = loop
            state, number = library.turn(jax.random.fold_in(key, i), state, new)
            return state, total + number

        return jax.lax.fori_loop(0, n, body, (state, jnp.float32(0)))

    paths, structure = jax.tree_util.tree_flatten_with_path(jax.eval_shape(library.full))
    axes = tuple(None if path[0].name in library.shared else 0 for path, _ in paths)

    def many(keys, leaves, n):
        def one(key, *leaves):
            state, total = turns(key, jax.tree.unflatten(structure, leaves), n)
            return tuple(jax.tree.leaves(state)), total

        return jax.vmap(one, in_axes=(0, *axes), out_axes=(axes, 0))(keys, *leaves)

    def full():
        leaves = jax.tree.leaves(library.full())
        return tuple(
            x if axis is None else jnp.broadcast_to(x, (seeds, *x.shape)) for x, axis in zip(leaves, axes, strict=True)
        )

    keys, types = jax.random.split(jax.random.key(0), seeds), jax.eval_shape(full)
    compiled = jax.jit(many, donate_argnums=1).lower(keys, types, jnp.int32(1)).compile()
    size = sum(x.size * x.dtype.itemsize for x in types)
    sizes: Any = compiled.memory_analysis()
    return Program(partial(compiled, keys), jax.jit(full), size, sizes.temp_size_in_bytes)


def time_turns(program, repetitions, seconds):
    """Microseconds of a turn, once for each repetition."""
    state, n, elapsed = program.full(), 1, 0.0

    def run(state):
        began = time.perf_counter()
        state, total = jax.block_until_ready(program.run(state, jnp.int32(n)))
        assert np.isfinite(total).all()
        return state, time.perf_counter() - began

    state, _ = run(state)  # the first call is slower than the next
    while elapsed < 0.2 * seconds:
        n *= 2
        state, elapsed = run(state)
    n = max(1, round(n * seconds / elapsed))
    took = []
    for _ in range(repetitions):
        state, elapsed = run(state)
        took.append(1e6 * elapsed / n)
    return took


def measure(name, rows, prioritized, seeds, sizes):
    """Both libraries at one size: a dict by library, empty where the buffer is too large."""
    repetitions, seconds, most_bytes = sizes
    found: dict[str, Any] = {}
    for library, make in LIBRARIES.items():
        row = row_of(OBSERVATIONS[name])
        program = compile_turns(make(row, rows, prioritized), row, seeds)
        found[library] = {"buffer_bytes": program.buffer_bytes, "temporary_bytes": program.temporary_bytes}
        # Filling a buffer for several seeds needs one more.
        if program.buffer_bytes * (1 + 1 / seeds) + program.temporary_bytes <= most_bytes:
            found[library]["microseconds"] = time_turns(program, repetitions, seconds)
    return found


def iteration_bytes(config, seeds):
    """Bytes of the replay buffers and temporary bytes of one training iteration, whose state is donated."""
    algorithm = config.build()
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    leaves, structure = jax.tree.flatten(state)
    shared = {".iteration", ".replay.written"}
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    axes = tuple(None if path in shared else 0 for path in paths)

    def step(key, *leaves):
        state, metrics = algorithm.step(key, jax.tree.unflatten(structure, leaves))
        return tuple(jax.tree.leaves(state)), metrics.losses

    many = jax.jit(jax.vmap(step, in_axes=(0, *axes), out_axes=(axes, 0)), donate_argnums=range(1, 1 + len(axes)))
    types = [
        x if axis is None else jax.ShapeDtypeStruct((seeds, *x.shape), x.dtype)
        for x, axis in zip(leaves, axes, strict=True)
    ]
    sizes: Any = many.lower(jax.random.split(jax.random.key(0), seeds), *types).compile().memory_analysis()
    buffer = sum(x.size * x.dtype.itemsize for path, x in zip(paths, types, strict=True) if path.startswith(".replay"))
    return {"buffer_bytes": buffer, "temporary_bytes": sizes.temp_size_in_bytes}


def cells_of(found):
    """What the table says of one size."""
    for library in LIBRARIES:
        one = found[library]
        yield spread(one["microseconds"], 1) if "microseconds" in one else "skipped"
        yield f"{one['buffer_bytes'] / 1e6:,.1f}"
        yield f"{one['temporary_bytes'] / 1e6:,.2f}"


def main(
    rows: tuple[int, ...] = (10_000, 100_000, 1_000_000),
    seeds: tuple[int, ...] = (1, 8),
    observations: tuple[str, ...] = ("CartPole", "MinAtar"),
    repetitions: int = 7,
    seconds: float = 0.5,
    most_bytes: float = 8e9,
):
    """Measure and write results/replay.json and .md.

    Args:
        rows: transitions that a buffer holds.
        seeds: buffers that are used at once, by `jax.vmap`.
        observations: names of sizes of observations.
        repetitions: measurements of each program.
        seconds: that one measurement takes.
        most_bytes: larger buffers are skipped.
    """
    results, lines = {}, []
    for name in observations:
        for count in rows:
            for many in seeds:
                for kind in ("uniform", "prioritized"):
                    found = measure(name, count, kind == "prioritized", many, (repetitions, seconds, most_bytes))
                    results[f"{name} {count} x{many} {kind}"] = found
                    lines.append([name, f"{count:,}", many, kind, *cells_of(found)])
                    print(lines[-1], flush=True)
    iterations = {}
    for name, config in ITERATIONS.items():
        for many in seeds:
            sized = replace(config, replay_size=max(*rows, 10_000))
            iterations[f"{name} x{many}"] = iteration_bytes(sized, many)
    table = (
        f"Microseconds to add a step of {ENVS} environments, and to draw, read and reprioritise {BATCH} transitions "
        "(median, and range); megabytes of the buffer and of temporary arrays of the compiled program. All numbers are "
        f"for all seeds together. Skipped: more than {most_bytes / 1e9:g} GB.\n\n"
        + markdown_table(
            ["observations", "transitions", "seeds", "draws"]
            + [f"{library}: {what}" for library in LIBRARIES for what in ("us", "MB", "temporary MB")],
            lines,
        )
        + f"\nOne training iteration with a replay buffer of {max(*rows, 10_000):,} frames, whose state is donated:\n\n"
        + markdown_table(
            ["algorithm, seeds", "replay MB", "temporary MB"],
            [
                [name, *(f"{one[what] / 1e6:,.2f}" for what in ("buffer_bytes", "temporary_bytes"))]
                for name, one in iterations.items()
            ],
        )
    )
    settings = {"repetitions": repetitions, "seconds": seconds, "most_bytes": most_bytes}
    save("replay", settings | {"results": results, "iterations": iterations}, table)


if __name__ == "__main__":
    tyro.cli(main)
