"""Wrappers with running statistics: they wrap an `Env` that resets itself, and remember across episodes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.envs import statistics, wrappers
from purejaxrl_a3c.envs.observations import MASK, map_shape, without_mask
from purejaxrl_a3c.types import Action, AxisName, Env, EnvState, Key, Observation, TimeStep

_LARGEST = 10.0  # normalized values are clipped to +-10, as in OpenAI Baselines' VecNormalize


class NormalizeState(NamedTuple):
    """State of `normalize_observations` and, with ``discounted_return``, of `scale_rewards`."""

    env: EnvState
    statistics: Any  # `Statistics`; for observations of several arrays a dict of them
    discounted_return: Any = ()  # float32 []


def normalize_observations(env: Env) -> Env:
    """Observations minus their running mean, divided by their running standard deviation, clipped to +-10.

    Mean and deviation are those of all observations that any copy has acted on, as of the last ``refresh``. An
    evaluation uses those of the trained state. Observations that are not finite are left out of both. Of several arrays
    each is normalized by itself, and an action mask is not.

    Args:
        env: an `Env` that resets itself.
    """

    def reset(key: Key) -> tuple[NormalizeState, Observation]:
        inner, obs = env.reset(key)
        moments = map_shape(statistics.start, without_mask(env.observation_shape))
        return NormalizeState(inner, _add(moments, obs)), normalize(moments, obs)

    def step(keys: Key, state: NormalizeState, action: Action) -> tuple[NormalizeState, TimeStep]:
        inner, timestep = env.step(keys, state.env, action)
        moments = state.statistics
        shown = timestep._replace(
            obs=normalize(moments, timestep.obs), final_obs=normalize(moments, timestep.final_obs)
        )
        return NormalizeState(inner, _add(moments, timestep.obs)), shown

    def freeze(state: NormalizeState) -> Env:
        return wrappers.map_observations(
            _freeze(env, state.env), lambda obs: normalize(state.statistics, obs), env.observation_shape
        )

    render = wrappers.drawn(env, lambda state: state.env)
    return env._replace(reset=reset, step=step, refresh=_refresh(env), freeze=freeze, render=render)


def _add(moments: Any, obs: Observation) -> Any:
    return statistics.each(statistics.add, moments, without_mask(obs))


def normalize(moments: Any, obs: Observation) -> Observation:
    """An observation as `normalize_observations` shows it under these moments; a mask stays as it is."""

    def scale(moments: statistics.Statistics, x: jax.Array) -> jax.Array:
        scaled = (x.astype(jnp.float32) - moments.mean) / statistics.standard_deviation(moments)
        return jnp.clip(scaled, -_LARGEST, _LARGEST)

    seen = statistics.each(scale, moments, without_mask(obs))
    return {**seen, MASK: obs[MASK]} if isinstance(obs, dict) and MASK in obs else seen


def get_statistics(state: EnvState) -> Any:
    """The statistics of observations in the state of an environment; None if it does not normalize them."""
    if not isinstance(state, NormalizeState):
        return None
    return state.statistics if _is_of_observations(state) else get_statistics(state.env)


def set_statistics(states: EnvState, moments: Any) -> EnvState:
    """The states of all copies, leaves ``[W, B, ...]``, with these merged statistics of observations."""
    if not isinstance(states, NormalizeState):
        return states
    if not _is_of_observations(states):
        return states._replace(env=set_statistics(states.env, moments))
    same = jax.tree.map(lambda one, many: jnp.broadcast_to(one, many.shape), moments, states.statistics)
    return states._replace(statistics=same)


def _is_of_observations(state: NormalizeState) -> bool:
    return isinstance(state.discounted_return, tuple)


def scale_rewards(env: Env, gamma: float | jax.Array) -> Env:
    """Rewards divided by the running standard deviation of their discounted sum, clipped to +-10.

    As in OpenAI Baselines' VecNormalize, the sum is ``g <- gamma g + reward``, from 0 at the start of every episode. No
    mean is subtracted, because that would change which policy is optimal. After a reward that is not finite the sum
    starts again from 0.

    Args:
        env: an `Env` that resets itself.
        gamma: discount factor a step.
    """

    def reset(key: Key) -> tuple[NormalizeState, Observation]:
        inner, obs = env.reset(key)
        return NormalizeState(inner, statistics.start(()), jnp.float32(0)), obs

    def step(keys: Key, state: NormalizeState, action: Action) -> tuple[NormalizeState, TimeStep]:
        inner, timestep = env.step(keys, state.env, action)
        total = gamma * state.discounted_return + timestep.reward
        moments = statistics.add(state.statistics, total)
        reward = timestep.reward / statistics.standard_deviation(state.statistics)
        # A sum that is not usable would stay so until the end of the episode.
        starts_again = timestep.terminated | timestep.truncated | ~statistics.is_usable(total)
        total = jnp.where(starts_again, 0.0, total)
        scaled = timestep._replace(reward=jnp.clip(reward, -_LARGEST, _LARGEST))
        return NormalizeState(inner, moments, total), scaled

    def freeze(state: NormalizeState) -> Env:
        return _freeze(env, state.env)

    render = wrappers.drawn(env, lambda state: state.env)
    return env._replace(reset=reset, step=step, refresh=_refresh(env), freeze=freeze, render=render)


def _freeze(env: Env, state: EnvState) -> Env:
    assert env.freeze is not None, "the wrapped Env must reset itself"
    return env.freeze(state)


def _refresh(env: Env) -> Callable[[NormalizeState, AxisName], NormalizeState]:
    def refresh(states: NormalizeState, axis_name: AxisName = None) -> NormalizeState:
        merged = statistics.each(lambda moments: statistics.merge(moments, axis_name), states.statistics)
        return states._replace(env=env.refresh(states.env, axis_name), statistics=merged)

    return refresh
