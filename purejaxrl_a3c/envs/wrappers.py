"""Functions ``Env -> Env``."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.types import Env


class EpisodeState(NamedTuple):
    """The wrapped environment's state and the running statistics of its current episode."""

    env: Any
    episode_return: jax.Array  # float32 []
    episode_length: jax.Array  # int32 []


def record_episodes(env):
    """Fill in ``episode_return`` and ``episode_length`` of every time step.

    Both count the step itself, so on the last step of an episode they are the episode's. Put it innermost:
    what wraps around it may change the rewards that the agent learns from, not the ones counted here.
    """

    def reset(key):
        state, obs = env.reset(key)
        return EpisodeState(state, jnp.float32(0), jnp.int32(0)), obs

    def step(key, state, action):
        inner, timestep = env.step(key, state.env, action)
        episode_return = state.episode_return + timestep.reward
        episode_length = state.episode_length + 1
        last = timestep.terminated | timestep.truncated
        next_state = EpisodeState(inner, jnp.where(last, 0.0, episode_return), jnp.where(last, 0, episode_length))
        return next_state, timestep._replace(episode_return=episode_return, episode_length=episode_length)

    return Env(reset, step, env.observation_shape, env.action_space)
