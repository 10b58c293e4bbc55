"""A3C with an LSTM beside the least that its workers' weights cost.

Each of A3C's sixteen workers has weights of its own, and few environments to share them: a weight that was read is used
for four of them. ``python -m benchmarks.weights`` times an iteration and its parts beside what they must read and
write, at the speed at which this machine changes as many bytes, or compute, at that of a large product:

- *act* reads all weights at every step;
- *learn* reads the recurrent ones at every step, forwards and backwards, the others once for all steps, and writes the
  gradient;
- *push* reads the gradients and writes the weights that the workers take with them; the shared weights and the average
  that the optimizer keeps of them, which stay in a core's cache, are read and written at every push.
"""

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks import parts
from benchmarks.record import markdown_table, save, spread
from benchmarks.speed import LSTM, WORKERS, actor_critics
from benchmarks.timing import in_turns
from purejaxrl_a3c import envs, networks
from purejaxrl_a3c.config import replace

ENVS = 64
ROWS, SIDE = 2**10, 1024


def sizes(config):
    """``(all, recurrent)``: float32 numbers in one worker's weights, and in those that see the last output."""
    network = networks.make(config.network, envs.make(config.env, config.objective.gamma))
    params = jax.eval_shape(network.init, jax.random.key(0))
    cells = config.network.body.num_cells
    return sum(x.size for x in jax.tree.leaves(params)), 4 * cells * cells


def of_each_worker(start, part):
    """``(start, loop)`` of a `parts.Part` in which every worker has its own weights and environments."""

    def step(key, carry):
        return jax.vmap(part.run)(jax.random.split(key, WORKERS), carry)

    return lambda key: jax.vmap(start)(jax.random.split(key, WORKERS)), parts.looped(step)


def changed(numbers):
    """``(start, loop)`` of reading and writing as many float32 numbers, in rows for all cores."""
    return lambda key: jnp.zeros((ROWS, numbers // ROWS)), parts.looped(lambda key, x: 0.5 * x + 1.0)


def multiplied():
    """``(start, loop)`` of a product of two matrices of `SIDE` rows and columns."""
    return lambda key: jnp.eye(SIDE), parts.looped(lambda key, x: x @ x)


def measure(repetitions, seconds, cells):
    """Seconds of everything, once for each repetition, and the sizes."""
    configs = actor_critics("", ENVS, env_id="CartPole-v1", num_cells=cells, **LSTM).configs
    start, pieces = parts.parts(replace(configs["A2C"], num_envs=ENVS // WORKERS))
    weights, recurrent = sizes(configs["A2C"])
    loops = {name: parts.algorithm_loop(config) for name, config in configs.items()}
    loops |= {name: of_each_worker(start, pieces[name]) for name in ("act", "learn")}
    loops["push"] = parts.push_loop(configs["A3C"])
    loops |= {"change all": changed(WORKERS * weights), "change one": changed(weights), "multiply": multiplied()}
    timed = in_turns(loops, repetitions, seconds)
    return {
        "cells": cells,
        "weights": weights,
        "recurrent": recurrent,
        "steps": configs["A3C"].rollouts.rollout_length,
        "seconds": {name: one.seconds for name, one in timed.items()},
    }


def bounds(found):
    """Seconds ``[repetitions]`` that each part must take, by its bytes or by its operations, whichever is more."""
    seconds = {name: np.array(one) for name, one in found["seconds"].items()}
    steps, share = found["steps"], found["recurrent"] / found["weights"]
    once = seconds["change all"] / 2  # to read or to write all weights
    product = 2 * ENVS * steps * found["weights"] * seconds["multiply"] / (2 * SIDE**3)  # all weights with all rows
    least = {
        "act": np.maximum(steps * once, product),
        "learn": np.maximum((2 * (1 - share + steps * share) + 1) * once, 3 * product),
        # The average and the shared weights are two arrays of the size of one worker's weights.
        "push": 2 * once + 2 * WORKERS * seconds["change one"],
    }
    return {"A3C": sum(least.values())} | least


def table(found):
    """Markdown of what was measured."""
    seconds = {name: np.array(one) for name, one in found["seconds"].items()}
    rows = []
    for name, least in bounds(found).items():
        cells = (1e3 * seconds[name], 1e3 * least, seconds[name] / least)
        rows.append([name, *(spread(cell, 1) for cell in cells)])
    rows.append(["A2C", spread(1e3 * seconds["A2C"], 1), "", ""])
    megabytes = 4e-6 * WORKERS * found["weights"]
    moved = spread(2e-3 * megabytes / seconds["change all"], 0)
    computed = spread(2e-9 * SIDE**3 / seconds["multiply"], 0)
    return (
        f"An iteration of A3C and of A2C, {found['steps']} steps in {ENVS} environments of CartPole, with an LSTM of "
        f"{found['cells']} cells. {WORKERS} workers have {megabytes:.0f} MB of weights. *Bound*: what a part takes "
        f"that moves only what it must, at {moved} GB/s, or computes its products, at {computed} GFLOP/s.\n\n"
        + markdown_table(["", "ms", "bound, ms", "/ bound"], rows)
    )


def main(repetitions: int = 7, seconds: float = 1.0, cells: int = 256):
    """Measure, and write results/weights.json and .md.

    Args:
        repetitions: of each measurement.
        seconds: of each.
        cells: of the LSTM.
    """
    found = measure(repetitions, seconds, cells)
    save("weights", found, table(found))


if __name__ == "__main__":
    tyro.cli(main)
