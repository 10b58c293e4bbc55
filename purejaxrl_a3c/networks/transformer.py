"""A core that attends to the last steps of its episode: a gated transformer (GTrXL: Parisotto et al. 2020).

The paper is arXiv 1910.06764. As there, the layers are normalised before attention and mlp, and gates join what these
find to their input. The gates start nearly closed, so the transformer starts near the identity. Unlike there, positions
are a learned number for each head and distance, added to the logits of the attention (as in Raffel et al. 2020, arXiv
1910.10683, without their buckets); it is the simplest way to tell distances apart, and the window bounds their number.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl_a3c.checks import check_divides
from purejaxrl_a3c.networks.config import TransformerConfig
from purejaxrl_a3c.networks.cores import Core, cleared
from purejaxrl_a3c.types import Carry, Key, Params

_GATE_BIAS = 2.0
"""How far the gates are closed at the start of training (2 in Parisotto et al. 2020)."""


class Memory(NamedTuple):
    """What a transformer remembers of one environment, the latest step last."""

    inputs: jax.Array  # float32 [num_transformer_layers, memory_window, num_cells]: what each layer saw
    valid: jax.Array  # float32 [memory_window]: 1 for a step of the present episode, 0 where there is none


def transformer(num_cells: int, settings: TransformerConfig) -> Core:
    """The core that attends to the last ``memory_window`` steps of the episode and to the present one.

    A layer remembers its inputs, from which keys and values are computed anew with the present parameters. Gradients
    flow through all steps of a block, and not into the memory from before it, which is a constant there.

    Args:
        num_cells: width of the layers and of the mlp in them.
        settings: the others.

    Raises:
        InputError: if the heads do not divide the width.
    """
    check_divides("num_attention_heads", settings.num_attention_heads, "num_cells", num_cells)
    module = _Transformer(num_cells, settings.num_transformer_layers, settings.num_attention_heads)

    def carry() -> Carry:
        shape = settings.num_transformer_layers, settings.memory_window, num_cells
        return Memory(jnp.zeros(shape, jnp.float32), jnp.zeros(settings.memory_window, jnp.float32))

    def unroll(params: Params, memory: Carry, features: jax.Array, first: jax.Array) -> tuple[Carry, jax.Array]:
        found: Any = module.apply(params, cleared(memory, first[:, 0]), features, first)
        return found

    def alone(memory: Carry, features: jax.Array, first: jax.Array) -> tuple[Carry, jax.Array, jax.Array]:
        """One step of one environment as a block."""
        return jax.tree.map(lambda x: x[None], memory), features[None, None], first[None, None]

    def init(key: Key, features: jax.Array) -> Params:
        return module.init(key, *alone(carry(), features, jnp.bool_(True)))

    def step(params: Params, memory: Carry, features: jax.Array, first: jax.Array) -> tuple[Carry, jax.Array]:
        memory, output = unroll(params, *alone(memory, features, first))
        return jax.tree.map(lambda x: x[0], memory), output[0, 0]

    return Core(init, carry, step, unroll)


class _Transformer(nn.Module):
    """The layers, for steps that follow a memory.

    Products are of rows ``[B * T, C]``, whose gradient takes a CPU a third of the time of that with both axes.
    """

    num_cells: int
    num_layers: int
    num_heads: int

    @nn.compact
    def __call__(self, memory: Memory, features: jax.Array, first: jax.Array) -> tuple[Memory, jax.Array]:
        """The memory ``[B]`` after the steps ``features [B, T, F]``, and the output ``[B, T, C]``."""
        window = memory.valid.shape[1]
        # Number of resets until each remembered step and each step of the block: steps with the same are one episode.
        resets = jnp.cumsum(first, axis=1, dtype=jnp.int32)
        episode = jnp.concatenate([jnp.zeros(memory.valid.shape, jnp.int32), resets], axis=1)
        valid = jnp.concatenate([memory.valid > 0, jnp.ones(first.shape, bool)], axis=1)
        steps = jnp.arange(episode.shape[1])
        distance = steps[window:, None] - steps[None]
        visible = (episode[:, window:, None] == episode[:, None]) & valid[:, None]
        visible &= ((distance >= 0) & (distance <= window))[None]

        x = nn.Dense(self.num_cells, name="embed")(features.reshape(first.size, -1))
        seen = []
        for i in range(self.num_layers):
            seen.append(jnp.concatenate([memory.inputs[:, i], x.reshape(*first.shape, -1)], axis=1))
            x = _Layer(self.num_heads, name=f"layer_{i}")(x, seen[-1], visible)
        # Nothing is kept of other episodes.
        kept = ((episode == episode[:, -1:]) & valid)[:, -window:]
        inputs = jnp.where(kept[:, None, :, None], jnp.stack(seen, axis=1)[:, :, -window:], 0.0)
        return Memory(inputs, kept.astype(jnp.float32)), x.reshape(*first.shape, -1)


class _Layer(nn.Module):
    """Attention and an mlp, each normalised before and gated behind."""

    num_heads: int

    @nn.compact
    def __call__(self, x: jax.Array, seen: jax.Array, visible: jax.Array) -> jax.Array:
        """What becomes of ``x [B * T, C]``, the last steps of ``seen [B, S, C]``; they see ``visible [B, T, S]``."""
        width = x.shape[1]
        found = _Attention(self.num_heads, name="attention")(nn.LayerNorm(name="attention_norm")(seen), visible)
        x = _Gate(name="attention_gate")(x, nn.relu(found))
        found = nn.relu(nn.Dense(width, name="hidden")(nn.LayerNorm(name="mlp_norm")(x)))
        return _Gate(name="mlp_gate")(x, nn.relu(nn.Dense(width, name="out")(found)))


class _Attention(nn.Module):
    """Attention of several heads, with a learned number for each distance.

    Keys and values have no bias: one of the keys would change nothing, and one of the values is that of the output.
    """

    num_heads: int

    @nn.compact
    def __call__(self, seen: jax.Array, visible: jax.Array) -> jax.Array:
        """What the last steps of ``seen [B, S, C]`` find in those that are ``visible [B, T, S]``: ``[B * T, C]``.

        Every step sees itself at least, so there is no softmax over nothing.
        """
        _, steps, total = visible.shape
        shape = seen.shape[2], self.num_heads, seen.shape[2] // self.num_heads
        lecun = nn.initializers.lecun_normal(in_axis=0, out_axis=(1, 2))
        key, value = (self.param(name, lecun, shape, jnp.float32) for name in ("key", "value"))
        bias = self.param("distance", nn.initializers.zeros, (self.num_heads, total - steps + 1), jnp.float32)

        rows = seen[:, -steps:].reshape(-1, shape[0])
        query = nn.Dense(shape[0], name="query")(rows).reshape(-1, steps, *shape[1:])
        # One einsum of all three takes the cheapest order: for a rollout it makes the keys and values of what is seen,
        # for a single step it never does.
        logits = jnp.einsum("bthd,chd,bsc->bhts", query, key, seen) * shape[2] ** -0.5
        logits = jnp.where(visible[:, None], logits + _by_distance(bias, steps, total)[None], -jnp.inf)
        found = jnp.einsum("bhts,bsc,chd->bthd", nn.softmax(logits), seen, value)
        return nn.Dense(shape[0], name="out")(found.reshape(rows.shape))


def _by_distance(bias: jax.Array, steps: int, seen: int) -> jax.Array:
    """``bias[h, t + M - s]`` for step ``t`` and remembered step ``s``, and 0 outside of the window: ``[H, T, T + M]``.

    Row ``t`` is row 0 moved by ``t`` to the right. So the rows are the pieces of length ``T + M`` of a sequence with
    the period ``T + M + 1``. Indexing would give the same, but its gradient adds up numbers in any order on a GPU.

    Args:
        bias: ``[H, M + 1]``, of the distances 0 to ``M``.
        steps: ``T``.
        seen: ``T + M``.
    """
    period = jnp.pad(bias[:, ::-1], ((0, 0), (0, steps)))
    return jnp.tile(period, steps)[:, : steps * seen].reshape(-1, steps, seen)


class _Gate(nn.Module):
    """A gate as in a GRU (Parisotto et al. 2020, section 3.2): how much of ``y`` takes the place of ``x``."""

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """``x`` and ``y`` joined, ``[B * T, C]`` each."""
        closed = nn.initializers.constant(-_GATE_BIAS)

        def of_both(name: str, x: jax.Array, **bias: Any) -> jax.Array:
            width = x.shape[-1]
            joined = nn.Dense(width, name=f"y_{name}", **bias)(y)
            return joined + nn.Dense(width, use_bias=False, name=f"x_{name}")(x)

        reset = nn.sigmoid(of_both("reset", x, use_bias=False))
        update = nn.sigmoid(of_both("update", x, bias_init=closed))
        candidate = jnp.tanh(of_both("candidate", reset * x, use_bias=False))
        return (1.0 - update) * x + update * candidate
