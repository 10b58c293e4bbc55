"""Three ways to give every A3C worker a convolution of its own, timed against each other in one run.

``python -m benchmarks.convolution`` times one forward and backward pass of a torso for 16 workers with weights of their
own, and for one worker with as much data (A2C):

- *grouped*: ``vmap`` of flax's ``Conv`` over the weights, which XLA makes a grouped convolution;
- *one by one*: ``lax.map`` of it over the workers;
- *patches*: ``vmap`` of `purejaxrl_a3c.networks.torsos.Convolution`, a product over patches.
"""

import functools
import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.record import markdown_table, save
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
    use_patches: bool

    @nn.compact
    def __call__(self, x):
        """Features for ``x [rows, height, width, channels]``."""
        for features, size, stride in self.layers:
            if self.use_patches:
                x = Convolution(features, size, stride, as_product=True)(x)
            else:
                x = nn.Conv(features, (size, size), (stride, stride), padding="VALID")(x)
            x = nn.relu(x)
        return nn.relu(nn.Dense(self.width)(x.reshape(len(x), -1)))


def passes(torso, workers):
    """The gradient of every worker's loss, by name of the way to map over the workers."""

    def gradient(module, params, x):
        return jax.grad(lambda params: jnp.square(module.apply(params, x)).mean())(params)

    layers, width = torso
    convolution, patches = Torso(layers, width, use_patches=False), Torso(layers, width, use_patches=True)
    ways: dict[str, Any] = {"patches": (patches, jax.vmap(functools.partial(gradient, patches)))}
    ways["grouped"] = convolution, jax.vmap(functools.partial(gradient, convolution))
    if workers > 1:
        ways["one by one"] = (
            convolution,
            lambda params, x: jax.lax.map(lambda row: gradient(convolution, *row), (params, x)),
        )
    return ways


def measure(name, workers, repetitions):
    """Median milliseconds and the range, by way."""
    rows, observation, *torso = TORSOS[name]
    x = jax.random.uniform(jax.random.key(0), (workers, rows // workers, *observation))
    compiled = {}
    for way, (module, function) in passes(torso, workers).items():
        one = module.init(jax.random.key(1), x[0])
        params = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (workers, *leaf.shape)), one)
        compiled[way] = functools.partial(jax.jit(function), params, x)
        jax.block_until_ready(compiled[way]())
    seconds: dict[str, list[float]] = {way: [] for way in compiled}
    for _ in range(repetitions):
        for way, run in compiled.items():
            began = time.perf_counter()
            jax.block_until_ready(run())
            seconds[way].append(time.perf_counter() - began)
    return {way: 1e3 * np.array(took) for way, took in seconds.items()}


def main(repetitions: int = 15):
    """Measure and write results/convolution.json and .md."""
    rows, data = [], {}
    for name, (count, observation, *_) in TORSOS.items():
        for workers in (16, 1):
            took = measure(name, workers, repetitions)
            data[f"{name} {workers}"] = {way: x.tolist() for way, x in took.items()}
            cells = [
                f"{np.median(took[way]):.1f} ({took[way].min():.1f} - {took[way].max():.1f})" if way in took else "-"
                for way in ("grouped", "one by one", "patches")
            ]
            rows.append([f"{name}, {count} x {'x'.join(map(str, observation))}", workers, *cells])
    table = (
        "Milliseconds of one forward and backward pass (median, and range): workers with convolutions of their own, "
        "one worker with flax's convolution as *grouped*.\n\n"
        + markdown_table(["torso, rows in all", "workers", "grouped", "one by one", "patches"], rows)
    )
    save("convolution", {"repetitions": repetitions, "milliseconds": data}, table)


if __name__ == "__main__":
    tyro.cli(main)
