"""Acting: one environment under one set of parameters; ``vmap`` adds environments and workers."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.types import Carry, Observation, Trajectory


class Position(NamedTuple):
    """Where an environment stands between two steps."""

    env: Any
    obs: Observation
    first: jax.Array  # bool []: obs starts an episode
    carry: Carry


def start(env, network, key):
    """The `Position` at the start of a fresh episode."""
    state, obs = env.reset(key)
    return Position(state, obs, jnp.bool_(True), network.carry())


def draw(network, key, index):
    """All randomness of some steps: ``(noise, keys)``, leaves ``[..., *]``, for `unroll`.

    Args:
        network: the `Network`.
        key: consumed.
        index: int32 ``[...]``, the steps' numbers among all that share ``key``, from 0; see `randomness`.
    """
    noise = network.noise(jax.random.fold_in(key, 0), index)
    return noise, randomness.keys_at(key, 1 + randomness.components(index, 2))


def unroll(env, network, params, position, noise, keys):
    """Act for ``T`` steps with actions sampled from the policy.

    Only what the caller uses of the network's outputs is computed: acting costs no value network, where that
    is a separate one.

    Args:
        env: the `Env`, which resets itself.
        network: the `Network`.
        params: its parameters.
        position: where to start.
        noise: from `draw`, leaves ``[T, ...]``.
        keys: from `draw`, ``[T, 2]``.

    Returns:
        ``(position, trajectory [T])``: where the environment stands then, and what happened.
    """

    def tick(position, random):
        noise, keys = random
        state, obs, first, carry = position
        next_carry, outputs = network.step(params, carry, obs, first)
        action = outputs.policy.sample(noise)
        next_state, timestep = env.step(keys, state, outputs.policy.executed(action))
        row = Trajectory(
            obs=obs,
            first=first,
            action=action,
            log_prob=outputs.policy.log_prob(action),
            reward=timestep.reward,
            terminated=timestep.terminated,
            truncated=timestep.truncated,
            final_obs=timestep.final_obs,
            carry=(),
            next_carry=next_carry,
            episode_return=timestep.episode_return,
            episode_length=timestep.episode_length,
        )
        last = timestep.terminated | timestep.truncated
        return Position(next_state, timestep.obs, last, next_carry), row

    end, rows = jax.lax.scan(tick, position, (noise, keys))
    return end, rows._replace(carry=position.carry, end_obs=end.obs)
