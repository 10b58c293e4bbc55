"""Acting: one environment under one set of parameters; ``vmap`` adds environments and workers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.types import Carry, Env, EnvState, Key, Network, Noise, Observation, Params, Trajectory


class ActorState(NamedTuple):
    """One environment between two steps, and the network's memory of it."""

    env: EnvState
    obs: Observation
    first: jax.Array  # bool []: obs starts an episode
    carry: Carry


def start(env: Env, network: Network, key: Key) -> ActorState:
    """The `ActorState` at the start of a fresh episode."""
    state, obs = env.reset(key)
    return ActorState(state, obs, jnp.bool_(True), network.carry())


def draw(network: Network, key: Key, index: jax.Array) -> tuple[Noise, Key]:
    """All random numbers of some steps, drawn at once.

    Args:
        network: the `Network`.
        key: consumed.
        index: int32 ``[...]``, the steps' numbers among all that share ``key``, from 0; see `randomness`.

    Returns:
        ``(noise, keys)`` for `unroll`, leaves ``[..., *]`` and ``[..., 2]``.
    """
    noise = network.noise(jax.random.fold_in(key, 0), index)
    return noise, randomness.keys_at(key, 1 + randomness.components(index, 2))


def unroll(
    env: Env,
    network: Network,
    params: Params,
    actor_state: ActorState,
    noise: Noise,
    keys: Key,
    behave: Callable[[Any], Any] = lambda policy: policy,
) -> tuple[ActorState, Trajectory]:
    """Act for ``T`` steps with actions sampled from the policy.

    Only the outputs that the caller uses are computed: acting costs no value network, where that is a separate one.

    Args:
        env: the `Env`, which resets itself.
        network: the `Network`.
        params: its parameters.
        actor_state: where to start.
        noise: from `draw`, leaves ``[T, ...]``.
        keys: from `draw`, ``[T, 2]``.
        behave: policy to the policy that acts, see `Exploration`.

    Returns:
        ``(actor_state, trajectory [T])``: the environment after these steps, and the steps.
    """

    def tick(actor_state: ActorState, random: tuple[Noise, Key]) -> tuple[ActorState, Trajectory]:
        noise, keys = random
        state, obs, first, carry = actor_state
        next_carry, outputs = network.step(params, carry, obs, first)
        policy = behave(outputs.policy)
        action = policy.sample(noise)
        next_state, timestep = env.step(keys, state, policy.to_env_action(action))
        row = Trajectory(
            obs=obs,
            first=first,
            action=action,
            log_prob=policy.log_prob(action),
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
        return ActorState(next_state, timestep.obs, last, next_carry), row

    end, rows = jax.lax.scan(tick, actor_state, (noise, keys))
    return end, rows._replace(carry=actor_state.carry, end_obs=end.obs)
