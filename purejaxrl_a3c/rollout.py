"""Acting: one environment under one set of parameters; ``vmap`` adds environments and workers."""

from typing import Any, NamedTuple

import jax

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
    return Position(state, obs, jax.numpy.bool_(True), network.carry())


def unroll(env, network, params, key, position, length):
    """Act for ``length`` steps with actions sampled from the policy.

    Only what the caller uses of the network's outputs is computed: acting costs no value network, where that
    is a separate one.

    Args:
        env: the `Env`.
        network: the `Network`.
        params: its parameters.
        key: consumed.
        position: where to start.
        length: ``T``, environment steps.

    Returns:
        ``(position, trajectory [T])``: where the environment stands then, and what happened.
    """

    def tick(position, random):
        noise, key_env = random
        state, obs, first, carry = position
        next_carry, outputs = network.step(params, carry, obs, first)
        action = outputs.policy.sample(noise)
        next_state, timestep = env.step(key_env, state, action)
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
            episode_return=timestep.episode_return,
            episode_length=timestep.episode_length,
        )
        last = timestep.terminated | timestep.truncated
        return Position(next_state, timestep.obs, last, next_carry), row

    key_act, key_env = jax.random.split(key)
    random = network.noise(key_act, (length,)), jax.random.split(key_env, length)
    end, rows = jax.lax.scan(tick, position, random)
    return end, rows._replace(carry=position.carry)
