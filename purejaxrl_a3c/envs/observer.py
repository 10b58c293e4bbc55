"""How an agent sees the observations of an environment that something else steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from purejaxrl_a3c.envs import normalize, wrappers
from purejaxrl_a3c.envs.config import Config, Wrappers
from purejaxrl_a3c.envs.make import make_episodic, wrap_episodic
from purejaxrl_a3c.envs.observations import Shape
from purejaxrl_a3c.types import Env, EnvState, Key, Observation, TimeStep


class Observer(NamedTuple):
    """The wrappers around observations, without the environment. The state is such as the last frames."""

    shape: Shape
    """Of an observation before the wrappers."""
    first: Callable[[Observation], tuple[Any, Observation]]
    """first observation of an episode -> (state, what the agent sees)."""
    later: Callable[[Any, Observation], tuple[Any, Observation]]
    """(state, a later observation) -> (state, what the agent sees)."""


def make_observer(config: Config, state: EnvState) -> Observer:
    """The `Observer` of an agent.

    Args:
        config: the environment's settings. Observations of an `Env` object that resets itself are shown as they are.
        state: of one copy at the end of training, whose statistics of observations are used.
    """
    self_resetting = isinstance(config.env_id, Env) and config.env_id.freeze is not None
    env: Any = (
        config.env_id
        if self_resetting
        else make_episodic(config.env_id, config.env_params, env_kwargs=config.env_kwargs)
    )

    def step(key: Key, state: EnvState, obs: Observation) -> tuple[EnvState, TimeStep]:
        del key
        return state, TimeStep(obs, jnp.float32(0), jnp.bool_(False), jnp.bool_(False), final_obs=obs)

    # An environment that shows what it is told: the observation comes in the place of the key, then of the action.
    echo = Env(lambda obs: ((), obs), step, env.observation_shape, env.action_space)
    shown = {name: getattr(config.wrappers, name) for name in ("observe", "flatten", "frame_stack")}
    wrapped = wrap_episodic(echo, Wrappers(**shown), config.env_id)
    if (moments := normalize.get_statistics(state)) is not None:
        normalized = wrapped.observation_shape
        wrapped = wrappers.map_observations(wrapped, lambda obs: normalize.normalize(moments, obs), normalized)

    unused: Any = None

    def later(state: Any, obs: Observation) -> tuple[Any, Observation]:
        state, timestep = wrapped.step(unused, state, obs)
        return state, timestep.obs

    return Observer(env.observation_shape, wrapped.reset, later)
