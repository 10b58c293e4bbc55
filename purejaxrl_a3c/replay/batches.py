"""What agents learn from: batches made of the rows of drawn items."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.replay.ring import View
from purejaxrl_a3c.types import Action, Carry, Observation


class Transitions(NamedTuple):
    """Steps, each with what followed over the next ``n`` steps; leaves ``[M, ...]``."""

    obs: Observation
    action: Action
    reward: jax.Array  # float32 [M]: the discounted sum of the rewards until next_obs
    discount: jax.Array  # float32 [M]: of the value of next_obs; 0 if the episode terminated before it
    next_obs: Observation  # the true successor: at a truncation the last observation of the old episode


def transitions(view: View, n: int, gamma: float | jax.Array) -> Transitions:
    """The batch of ``n``-step transitions: fewer steps where the episode or the buffer ends sooner.

    ``reward = r_0 + gamma r_1 + ... + gamma^(k-1) r_(k-1)`` and ``discount = gamma^k``, with ``k <= n`` steps.

    Args:
        view: the drawn items.
        n: number of rewards, an int >= 1.
        gamma: discount factor of a step.
    """
    offset = jnp.arange(n, dtype=jnp.int32)[None]
    rows = jnp.broadcast_to(offset, (view.newest.size, n))
    reward, terminated, truncated = (view.read(name, rows) for name in ("reward", "terminated", "truncated"))
    ends = terminated | truncated | (offset >= view.newest[:, None])
    end = jnp.where(ends.any(1), jnp.argmax(ends, 1), n - 1).astype(jnp.int32)[:, None]
    total = jnp.sum(jnp.where(offset <= end, reward * jnp.power(gamma, offset.astype(jnp.float32)), 0.0), axis=1)
    terminal = jnp.take_along_axis(terminated, end, axis=1)[:, 0]
    discount = jnp.where(terminal, 0.0, jnp.power(gamma, end[:, 0] + 1.0))

    def read_one(name: str, row: jax.Array) -> Any:
        return jax.tree.map(lambda x: x[:, 0], view.read(name, row))

    first = jnp.zeros_like(end)
    return Transitions(
        obs=read_one("obs", first),
        action=read_one("action", first),
        reward=total,
        discount=discount,
        next_obs=read_one("final_obs", end),
    )


class Sequences(NamedTuple):
    """``S`` consecutive steps of one environment; leaves ``[M, S, ...]``. They may cross the ends of episodes."""

    carry: Carry  # [M, ...]: the network's before the first step, as it was when it acted
    obs: Observation
    first: jax.Array  # bool
    action: Action
    reward: jax.Array  # float32
    terminated: jax.Array  # bool
    truncated: jax.Array  # bool
    final_obs: Observation  # the true successors


def sequences(view: View, length: int) -> Sequences:
    """The batch of the ``length`` steps that begin with each item."""
    rows = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32)[None], (view.newest.size, length))
    names: list[Any] = [name for name in Sequences._fields if name != "carry"]
    return Sequences(carry=view.carry(), **{name: view.read(name, rows) for name in names})
