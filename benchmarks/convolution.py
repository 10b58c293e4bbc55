"""Ways to compute convolutions and their gradients, timed against each other in one run.

``python -m benchmarks.convolution`` times one forward and backward pass of a torso and a step along the gradient, in a
loop of two such steps, as a run is a loop: for 16 workers with weights of their own, and for one worker with as much
data (A2C):

- *flax*: flax's ``Conv``, with the gradients that JAX derives; mapped over weights it is a grouped convolution;
- *one by one*: ``lax.map`` of it over the workers;
- *ours*: `purejaxrl_a3c.networks.torsos.Convolution`, whose gradients are those of `backend.convolution`;
- *patches*: the same with ``as_product``, a product over patches.

The column *flax, no loop* is one pass of the first outside of any loop.
"""

import functools
import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.record import markdown_table, save, spread
from purejaxrl_a3c.networks.torsos import Convolution

TORSOS = {
    # rows in all, observation, (features, window, stride) of the convolutions, width of the layer that follows
    "minatar": (1024, (10, 10, 4), ((16, 3, 1),), 128),
    "nature": (64, (84, 84, 4), ((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512),
}


class Torso(nn.Module):
    """Convolutions and one fully connected layer."""

    layers: tuple[tuple[int, int, int], ...]
    width: int
    convolution: Any  # (features, size, stride) -> a module

    @nn.compact
    def __call__(self, x):
        """Features for ``x [rows, height, width, channels]``."""
        for layer in self.layers:
            x = nn.relu(self.convolution(*layer)(x))
        return nn.relu(nn.Dense(self.width)(x.reshape(len(x), -1)))


def _flax(features, size, stride):
    return nn.Conv(features, (size, size), (stride, stride), padding="VALID")


CONVOLUTIONS: dict[str, Any] = {
    "flax": _flax,
    "ours": Convolution,
    "patches": functools.partial(Convolution, as_product=True),
}
STEPS = 2  # of the loop


def passes(torso, workers):
    """``(module, steps, function)`` by name: so many steps of every worker along its gradient."""

    def step(module, params, x):
        grads = jax.grad(lambda params: jnp.square(module.apply(params, x)).mean())(params)
        return jax.tree.map(lambda p, g: p - 1e-3 * g, params, grads)

    def loop(mapped, params, x):
        return jax.lax.fori_loop(0, STEPS, lambda _, params: mapped(params, x), params)

    def one_by_one(one, params, x):
        return jax.lax.map(lambda row: one(*row), (params, x))

    ways: dict[str, Any] = {}
    for name, convolution in CONVOLUTIONS.items():
        module = Torso(torso[0], torso[1], convolution)
        one = functools.partial(step, module)
        ways[name] = module, STEPS, functools.partial(loop, jax.vmap(one))
        if name == "flax":
            ways["flax, no loop"] = module, 1, jax.vmap(one)
            if workers > 1:
                ways["one by one"] = module, STEPS, functools.partial(loop, functools.partial(one_by_one, one))
    return ways


def measure(name, workers, repetitions):
    """Milliseconds of a step ``[repetitions]``, by way."""
    rows, observation, *torso = TORSOS[name]
    x = jax.random.uniform(jax.random.key(0), (workers, rows // workers, *observation))
    compiled = {}
    for way, (module, steps, function) in passes(torso, workers).items():
        one = module.init(jax.random.key(1), x[0])
        params = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (workers, *leaf.shape)), one)
        compiled[way] = steps, functools.partial(jax.jit(function), params, x)
        jax.block_until_ready(compiled[way][1]())
    milliseconds: dict[str, list[float]] = {way: [] for way in compiled}
    for _ in range(repetitions):
        for way, (steps, run) in compiled.items():
            began = time.perf_counter()
            jax.block_until_ready(run())
            milliseconds[way].append(1e3 * (time.perf_counter() - began) / steps)
    return {way: np.array(took) for way, took in milliseconds.items()}


WAYS = ("flax, no loop", "flax", "one by one", "ours", "patches")


def main(repetitions: int = 7):
    """Measure and write results/convolution.json and .md."""
    rows, data = [], {}
    for name, (count, observation, *_) in TORSOS.items():
        for workers in (16, 1):
            took = measure(name, workers, repetitions)
            data[f"{name} {workers}"] = {way: x.tolist() for way, x in took.items()}
            cells = [spread(took[way], 1) if way in took else "-" for way in WAYS]
            rows.append([f"{name}, {count} x {'x'.join(map(str, observation))}", workers, *cells])
    table = (
        "Milliseconds of one forward and backward pass (median, and range), in a loop but for the first column: "
        "workers with convolutions of their own, and one worker.\n\n"
        + markdown_table(["torso, rows in all", "workers", *WAYS], rows)
    )
    save("convolution", {"repetitions": repetitions, "milliseconds": data}, table)


if __name__ == "__main__":
    tyro.cli(main)
