"""A3C with an LSTM beside what its workers' weights alone cost to move.

Each of A3C's sixteen workers has weights of its own, and few environments to share them: a weight that was read is used
for four of them. ``python -m benchmarks.weights`` times an iteration and its parts beside the least that they must
read and write, at the speed at which this machine reads and writes as many bytes:

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


def moved(numbers, num_rows=2**10):
    """``(start, loop)`` of reading as many float32 numbers, and of changing each of them, in rows for all cores."""
    rows = jnp.zeros((num_rows, numbers // num_rows))

    def read(key, carry):
        array, least = carry
        # The bound changes with every turn, or the compiler may take the reading out of the loop.
        return array, least + jnp.maximum(array, least[0]).sum(axis=1)

    return {
        "read": (lambda key: (rows, jnp.ones(num_rows)), parts.looped(read)),
        "update": (lambda key: rows, parts.looped(lambda key, x: 0.5 * x + 1.0)),
    }


def measure(repetitions, seconds, cells):
    """Seconds of everything, once for each repetition, and the sizes."""
    configs = actor_critics("", ENVS, env_id="CartPole-v1", num_cells=cells, **LSTM).configs
    start, pieces = parts.parts(replace(configs["A2C"], num_envs=ENVS // WORKERS))
    weights, recurrent = sizes(configs["A2C"])
    loops = {name: parts.algorithm_loop(config) for name, config in configs.items()}
    loops |= {name: of_each_worker(start, pieces[name]) for name in ("act", "learn")}
    loops["push"] = parts.push_loop(configs["A3C"])
    loops |= {f"{name} all": loop for name, loop in moved(WORKERS * weights).items()}
    loops |= {f"{name} one": loop for name, loop in moved(weights).items()}
    timed = in_turns(loops, repetitions, seconds)
    return {
        "weights": weights,
        "recurrent": recurrent,
        "steps": configs["A3C"].rollouts.rollout_length,
        "seconds": {name: one.seconds for name, one in timed.items()},
    }


def bounds(found):
    """Seconds ``[repetitions]`` that each part must take by the bytes that it must move."""
    seconds = {name: np.array(one) for name, one in found["seconds"].items()}
    read, steps, share = seconds["read all"], found["steps"], found["recurrent"] / found["weights"]
    write = np.maximum(seconds["update all"] - read, 0)
    least = {
        "act": steps * read,
        "learn": 2 * (1 - share + steps * share) * read + write,
        # The average and the shared weights are two arrays of the size of one worker's weights.
        "push": read + write + 2 * WORKERS * seconds["update one"],
    }
    return least | {"A3C": sum(least.values())}


def table(found):
    """Markdown of what was measured."""
    least, rows = bounds(found), []
    seconds = {name: np.array(one) for name, one in found["seconds"].items()}
    for name in ("A3C", "act", "learn", "push"):
        cells = (1e3 * seconds[name], 1e3 * least[name], seconds[name] / least[name])
        rows.append([name, *(spread(cell, 2) for cell in cells)])
    rows.append(["A2C", spread(1e3 * seconds["A2C"], 2), "", ""])
    megabytes = 4e-6 * WORKERS * found["weights"]
    speed = spread(megabytes / 1e3 / seconds["read all"], 1)
    return (
        f"An iteration of A3C and of A2C, {found['steps']} steps in {ENVS} environments of CartPole, with an LSTM of "
        f"{found['cells']} cells. {WORKERS} workers have {megabytes:.0f} MB of weights, which are read at {speed} "
        "GB/s. *Bound*: what a part takes that only reads and writes what it must.\n\n"
        + markdown_table(["", "ms", "bound, ms", "/ bound"], rows)
    )


def main(repetitions: int = 7, seconds: float = 1.0, cells: int = 256):
    """Measure, and write results/weights.json and .md.

    Args:
        repetitions: of each measurement.
        seconds: of each.
        cells: of the LSTM.
    """
    found = measure(repetitions, seconds, cells) | {"cells": cells}
    save("weights", found, table(found))


if __name__ == "__main__":
    tyro.cli(main)
