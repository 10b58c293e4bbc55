"""Cores whose memory is a linear recurrence, so that all steps of a rollout are unrolled at once.

The memory after a step is ``decay * memory + update``, element by element, where decay and update depend on what is
seen in that step and not on the memory. Two such steps are again one such step, so `jax.lax.associative_scan` needs
about ``log2(T)`` rounds instead of ``T`` steps (Martin & Cundy 2018, arXiv 1709.04057).
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl_a3c.networks.cores import Core, cleared
from purejaxrl_a3c.types import Carry, Key, Params

_LONGEST_MEMORY = 100.0
"""Steps over which the slowest cell of a minGRU forgets at the start of training."""
_RADII = (0.9, 0.999)
"""Where the eigenvalues of an LRU lie at the start of training: they halve the memory in 7 to 700 steps."""


def min_gru(num_cells: int) -> Core:
    """Minimal gated recurrent unit (minGRU: Feng et al. 2024, arXiv 2410.01201, section 3.1).

    ``z = sigmoid(W_z x + b_z)``, ``c = W_c x + b_c`` and ``h' = (1 - z) h + z c``. The candidate ``c`` is linear and
    may be negative; the paper's ``g(x) > 0`` is only needed where the scan is computed with logarithms. The output is
    ``h'`` itself, as it is for a GRU: it is a weighted mean of candidates, so it stays in their range.

    The biases ``b_z`` are spread such that the cells forget over 2 to 100 steps at the start of training, evenly on a
    logarithmic scale (after Tallec & Ollivier 2018, arXiv 1804.11188, who draw the steps uniformly). With biases of 0
    every cell would halve its memory at every step, and little would be left to learn from.
    """

    def spread(key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        del key
        return -jnp.linspace(0.0, math.log(_LONGEST_MEMORY - 1.0), shape[0], dtype=dtype)

    gate: Any = nn.Dense(num_cells, bias_init=spread)
    candidate: Any = nn.Dense(num_cells)

    def init(key: Key, features: jax.Array) -> Params:
        key_gate, key_candidate = jax.random.split(key)
        return {"gate": gate.init(key_gate, features), "candidate": candidate.init(key_candidate, features)}

    def drive(params: Params, features: jax.Array) -> tuple[jax.Array, jax.Array]:
        z = nn.sigmoid(gate.apply(params["gate"], features))
        return 1.0 - z, z * candidate.apply(params["candidate"], features)

    def read(params: Params, memory: jax.Array, features: jax.Array) -> jax.Array:
        del params, features
        return memory

    return _linear((num_cells,), init, drive, read, jnp.multiply)


def lru(num_cells: int) -> Core:
    """Linear recurrent unit (LRU: Orvieto et al. 2023, arXiv 2303.06349).

    ``h' = lambda h + gamma B x`` with complex ``h``, ``lambda = exp(-exp(nu) + i exp(theta))``, which is inside the
    unit circle whatever is learned, and ``gamma``, which starts at ``sqrt(1 - |lambda|^2)`` so that the memory is as
    large as its input. The output is ``tanh(Re(C h') + D x)``. In the paper an mlp follows, here the linear heads do:
    so something must not be linear. With the tanh the output is bounded as that of the other recurrent cores, however
    much the memory has summed up.

    At the start the ``lambda`` are uniform in a ring, as in the paper, whose radii are `_RADII`. Complex numbers are
    pairs ``[2, num_cells]`` of real and imaginary parts, and everything is float32.
    """
    scaled = nn.initializers.variance_scaling
    # The variances of the paper: 1 / (2 F) for both parts of B, and 1 / num_cells for both parts of C.
    b: Any = nn.Dense(2 * num_cells, use_bias=False, kernel_init=scaled(0.5, "fan_in", "normal"))
    c: Any = nn.Dense(num_cells, use_bias=False, kernel_init=scaled(2.0, "fan_in", "normal"))
    d: Any = nn.Dense(num_cells)

    def init(key: Key, features: jax.Array) -> Params:
        key_radius, key_phase, key_b, key_c, key_d = jax.random.split(key, 5)
        low, high = (radius**2 for radius in _RADII)
        square = jax.random.uniform(key_radius, (num_cells,), jnp.float32, low, high)
        phase = jax.random.uniform(key_phase, (num_cells,), jnp.float32, 1e-3, 2.0 * math.pi)
        return {
            "nu": jnp.log(-0.5 * jnp.log(square)),
            "theta": jnp.log(phase),
            "log_gamma": 0.5 * jnp.log(1.0 - square),
            "b": b.init(key_b, features),
            "c": c.init(key_c, jnp.zeros(2 * num_cells, jnp.float32)),
            "d": d.init(key_d, features),
        }

    def drive(params: Params, features: jax.Array) -> tuple[jax.Array, jax.Array]:
        radius, phase = jnp.exp(-jnp.exp(params["nu"])), jnp.exp(params["theta"])
        eigenvalue = jnp.stack([radius * jnp.cos(phase), radius * jnp.sin(phase)])
        update = b.apply(params["b"], features).reshape(2, num_cells)
        return eigenvalue, jnp.exp(params["log_gamma"])[None] * update

    def read(params: Params, memory: jax.Array, features: jax.Array) -> jax.Array:
        # One product with both parts is Re(C h): the minus sign before the imaginary parts is learned with C.
        return jnp.tanh(c.apply(params["c"], memory.reshape(-1)) + d.apply(params["d"], features))

    return _linear((2, num_cells), init, drive, read, _complex_product)


def _complex_product(x: jax.Array, y: jax.Array) -> jax.Array:
    """The product of complex numbers ``[..., 2, num_cells]``."""
    (a, b), (c, d) = (jnp.moveaxis(z, -2, 0) for z in (x, y))
    return jnp.stack([a * c - b * d, a * d + b * c], axis=-2)


def _linear(
    shape: tuple[int, ...],
    init: Callable[[Key, jax.Array], Params],
    drive: Callable[[Params, jax.Array], tuple[jax.Array, jax.Array]],
    read: Callable[[Params, jax.Array, jax.Array], jax.Array],
    times: Callable[[jax.Array, jax.Array], jax.Array],
) -> Core:
    """The core whose memory becomes ``decay * memory + update``.

    Args:
        shape: of the memory.
        init: as of the core.
        drive: (params, features [F]) -> (decay, update), both of the memory's shape.
        read: (params, memory, features [F]) -> output [F'].
        times: the product of two memories, element by element, also under leading axes. A decay of zeros forgets.
    """

    def carry() -> Carry:
        return jnp.zeros(shape, jnp.float32)

    def step(params: Params, memory: Carry, features: jax.Array, first: jax.Array) -> tuple[Carry, jax.Array]:
        decay, update = drive(params, features)
        memory = times(decay, cleared(memory, first)) + update
        return memory, read(params, memory, features)

    def unroll(params: Params, memory: Carry, features: jax.Array, first: jax.Array) -> tuple[Carry, jax.Array]:
        rows = features.reshape(first.size, -1)
        decay, update = (x.reshape(*first.shape, *shape) for x in jax.vmap(drive, (None, 0))(params, rows))
        # What was remembered before the block enters with the first update.
        update = update.at[:, 0].add(times(decay[:, 0], cleared(memory, first[:, 0])))
        _, memories = jax.lax.associative_scan(follow, (cleared(decay, first), update), axis=1)
        output = jax.vmap(read, (None, 0, 0))(params, memories.reshape(first.size, *shape), rows)
        return memories[:, -1], output.reshape(*first.shape, -1)

    def follow(earlier: tuple[jax.Array, jax.Array], later: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Two steps as one."""
        return times(later[0], earlier[0]), times(later[0], earlier[1]) + later[1]

    return Core(init, carry, step, unroll)
