"""How fast the cores are that remember, beside the LSTM, timed against each other in one run.

``python -m benchmarks.cores`` times, for 64 environments and 128 steps:

- *learn*: the gradient of one unroll of all steps, with respect to the parameters and to the features;
- *act*: all steps one after another, without a gradient.

Torso and heads are not timed; they are the same for all cores.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.parts import looped
from benchmarks.record import markdown_table, save, spread
from benchmarks.timing import in_turns
from purejaxrl_a3c import networks, replace
from purejaxrl_a3c.networks.cores import Core
from purejaxrl_a3c.networks.make import CORES

NAMES = ("lstm", "gru", "min_gru", "lru", "transformer")
ENVS, STEPS = 64, 128
BODY = replace(networks.BodyConfig(), num_cells=64)
RESETS = 0.01
"""Probability of a step to begin an episode."""


def loops_of(core: Core) -> dict[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    """Learning and acting as ``(start, loop)`` for `in_turns`."""

    def start(key: Any) -> Any:
        """Parameters, the memory of all environments, what they see, and a sum of outputs."""
        key_params, key_features, key_first = jax.random.split(key, 3)
        features = jax.random.normal(key_features, (ENVS, STEPS, BODY.num_cells))
        first = jax.random.bernoulli(key_first, RESETS, (ENVS, STEPS))
        memory = jax.tree.map(lambda x: jnp.broadcast_to(x, (ENVS, *x.shape)), core.carry())
        return core.init(key_params, features[0, 0]), memory, features, first, jnp.float32(0)

    def learn(key: Any, state: Any) -> Any:
        params, memory, features, first, total = state

        def loss(params: Any, features: jax.Array) -> jax.Array:
            return jnp.square(core.unroll(params, memory, features, first)[1]).mean()

        gradients = jax.grad(loss, (0, 1))(params, features)
        # Both must change, or the compiler may take the pass out of the loop.
        params, features = jax.tree.map(lambda x, g: x - 1e-6 * g, (params, features), gradients)
        return params, memory, features, first, total

    def act(key: Any, state: Any) -> Any:
        params, memory, features, first, total = state

        def step(carry: Any, row: Any) -> tuple[Any, None]:
            memory, output = jax.vmap(functools.partial(core.step, params))(carry[0], *row)
            return (memory, carry[1] + output.sum()), None

        rows = jnp.swapaxes(features, 0, 1), jnp.swapaxes(first, 0, 1)
        (memory, total), _ = jax.lax.scan(step, (memory, total), rows)
        return params, memory, features, first, total

    return {"learn": (start, looped(learn)), "act": (start, looped(act))}


def main(repetitions: int = 7, seconds: float = 0.5) -> None:
    """Measure and write results/cores.json and results/cores.md.

    Args:
        repetitions: measurements, in turns.
        seconds: that each takes, about.
    """
    cores = {name: CORES[name](BODY) for name in NAMES}
    loops = {(name, part): loop for name, core in cores.items() for part, loop in loops_of(core).items()}
    timed = in_turns(loops, repetitions, seconds)
    rows: list[Any] = []
    data: dict[str, Any] = {}
    for name, core in cores.items():
        row: list[Any] = [name]
        data[name] = {"parameters": _size(jax.eval_shape(core.init, jax.random.key(0), jnp.zeros(BODY.num_cells)))}
        data[name]["memory"] = _size(core.carry())
        for part in ("learn", "act"):
            took, lstm = (1e3 * np.array(timed[which, part].seconds) for which in (name, NAMES[0]))
            data[name][part] = {"milliseconds": took.tolist(), "compile_seconds": timed[name, part].compile_seconds}
            row += [spread(took, 1), spread(took / lstm, 2)]
        rows.append([*row, data[name]["parameters"], data[name]["memory"]])
    header = ["core", "learn, ms", "/ LSTM", "act, ms", "/ LSTM", "parameters", "numbers remembered"]
    table = (
        f"Milliseconds for {ENVS} environments and {STEPS} steps, of cores with {BODY.num_cells} cells or as wide. The "
        f"transformer remembers {BODY.transformer.memory_window} steps. Medians and ranges; a ratio is within one "
        "turn.\n\n" + markdown_table(header, rows)
    )
    sizes = {"envs": ENVS, "steps": STEPS, "num_cells": BODY.num_cells, "memory_window": BODY.transformer.memory_window}
    save("cores", sizes | {"repetitions": repetitions, "cores": data}, table)


def _size(tree: Any) -> int:
    return sum(x.size for x in jax.tree.leaves(tree))


if __name__ == "__main__":
    tyro.cli(main)
