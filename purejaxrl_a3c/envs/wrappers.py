"""Functions ``Env -> Env``.

All but the last three wrap an *episodic* environment and forget everything when it is reset. `auto_reset` makes an
environment that goes on for ever; `normalize_observations` and `scale_rewards` wrap that one, and remember.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.envs import statistics
from purejaxrl_a3c.types import TimeStep

_LARGEST = 10.0  # what is normalised is clipped to +-10, as in OpenAI Baselines' VecNormalize


def _where(condition, yes, no):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


class RecordState(NamedTuple):
    """State of `record_episodes`."""

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
        return RecordState(state, jnp.float32(0), jnp.int32(0)), obs

    def step(key, state, action):
        inner, timestep = env.step(key, state.env, action)
        state = RecordState(inner, state.episode_return + timestep.reward, state.episode_length + 1)
        counted = timestep._replace(episode_return=state.episode_return, episode_length=state.episode_length)
        return state, counted

    return env._replace(reset=reset, step=step)


def time_limit(env, frames):
    """Truncate every episode after ``frames`` steps."""

    def reset(key):
        state, obs = env.reset(key)
        return (state, jnp.int32(0)), obs

    def step(key, state, action):
        inner, time = state
        inner, timestep = env.step(key, inner, action)
        time = time + 1
        truncated = (timestep.truncated | (time >= frames)) & ~timestep.terminated
        return (inner, time), timestep._replace(truncated=truncated)

    return env._replace(reset=reset, step=step)


def sticky_actions(env, probability):
    """Take the previous action again, with ``probability``, whatever was asked for (Machado et al. 2018).

    The first action of an episode is always taken as asked (arXiv 1709.06009, section 5.2).
    """

    def reset(key):
        state, obs = env.reset(key)
        return (state, jnp.bool_(True), env.action_space.sample(key)), obs

    def step(key, state, action):
        inner, first, previous = state
        key_stick, key_env = jax.random.split(key)
        stick = jax.random.bernoulli(key_stick, probability) & ~first
        action = _where(stick, previous, action)
        inner, timestep = env.step(key_env, inner, action)
        return (inner, jnp.bool_(False), action), timestep

    return env._replace(reset=reset, step=step)


def repeat_action(env, times):
    """Take every action ``times`` times, until the episode ends, and add up the rewards."""

    def step(key, state, action):
        def once(loop, key):
            state, timestep = loop
            going = ~(timestep.terminated | timestep.truncated)
            new_state, new = env.step(key, state, action)
            new = new._replace(reward=timestep.reward + new.reward)
            return _where(going, (new_state, new), loop), None

        keys = jax.random.split(key, times)
        loop, _ = jax.lax.scan(once, env.step(keys[0], state, action), keys[1:])
        return loop

    return env._replace(step=step)


def clip_rewards(env, limit):
    """Rewards clipped to ``[-limit, limit]``."""
    return _map_time_steps(env, lambda timestep: timestep._replace(reward=jnp.clip(timestep.reward, -limit, limit)))


def observe(env, indices):
    """Show the agent only these entries of an observation's last axis."""
    indices = jnp.array(indices)
    shape = (*env.observation_shape[:-1], len(indices))
    return _map_observations(env, lambda obs: obs[..., indices], shape)


def flatten(env):
    """Observations as vectors ``[F]``."""
    return _map_observations(env, jnp.ravel, (math.prod(env.observation_shape),))


def one_hot(env, size):
    """Integer observations in ``0 .. size - 1`` as one-hot vectors, float32 ``[..., size]``."""
    return _map_observations(env, lambda obs: jax.nn.one_hot(obs, size), (*env.observation_shape, size))


def stack_frames(env, frames):
    """The last observations side by side on the last axis, oldest first; an episode starts with its first, repeated."""

    def reset(key):
        state, obs = env.reset(key)
        obs = jnp.concatenate([obs] * frames, axis=-1)
        return (state, obs), obs

    def step(key, state, action):
        inner, stack = state
        inner, timestep = env.step(key, inner, action)
        newest = timestep.obs
        stack = jnp.concatenate([stack[..., newest.shape[-1] :], newest], axis=-1)
        return (inner, stack), timestep._replace(obs=stack, final_obs=stack)

    shape = (*env.observation_shape[:-1], frames * env.observation_shape[-1])
    return env._replace(reset=reset, step=step, observation_shape=shape)


class AutoResetState(NamedTuple):
    """State of `auto_reset`."""

    env: Any
    remaining: jax.Array  # int32 []: steps until the first episode is cut short; negative when none is to be


def auto_reset(env, stagger=0):
    """An environment that starts its next episode by itself: ``obs`` is then of the new one, ``final_obs`` of the old.

    Its ``step`` takes two keys, one for the step and one for the reset.

    Args:
        env: an episodic `Env`.
        stagger: if not 0, the first episode of every copy is truncated after a random number of steps, uniform in
            ``1 .. stagger``, unless it ends before; otherwise copies that start together go on in phase, and a batch
            holds the same moment of every episode. As a truncation it is bootstrapped, so no target is wrong.
    """

    def reset(key):
        key_env, key_stagger = jax.random.split(key)
        state, obs = env.reset(key_env)
        remaining = jax.random.randint(key_stagger, (), 1, stagger + 1) if stagger else jnp.int32(-1)
        return AutoResetState(state, remaining), obs

    def step(keys, state, action):
        key_step, key_reset = keys
        inner, timestep = env.step(key_step, state.env, action)
        remaining = state.remaining - 1
        timestep = timestep._replace(truncated=(timestep.truncated | (remaining == 0)) & ~timestep.terminated)
        last = timestep.terminated | timestep.truncated
        inner, obs = _where(last, env.reset(key_reset), (inner, timestep.obs))
        return AutoResetState(inner, jnp.where(last, -1, remaining)), timestep._replace(obs=obs)

    return env._replace(reset=reset, step=step, freeze=lambda state: auto_reset(env))


class NormalizeState(NamedTuple):
    """State of `normalize_observations` and, with ``discounted_return``, of `scale_rewards`."""

    env: Any
    statistics: statistics.Statistics
    discounted_return: Any = ()


def normalize_observations(env):
    """Observations less their running mean, over their running standard deviation, clipped to +-10.

    Mean and deviation are of all observations that any copy has acted on, brought up to date by ``refresh``; an
    evaluation uses those of the trained state.
    """

    def normalize(moments, obs):
        scaled = (obs - moments.mean) / statistics.standard_deviation(moments)
        return jnp.clip(scaled, -_LARGEST, _LARGEST)

    def reset(key):
        inner, obs = env.reset(key)
        moments = statistics.start(env.observation_shape)
        return NormalizeState(inner, statistics.add(moments, obs)), normalize(moments, obs)

    def step(key, state, action):
        inner, timestep = env.step(key, state.env, action)
        moments = state.statistics
        shown = timestep._replace(
            obs=normalize(moments, timestep.obs), final_obs=normalize(moments, timestep.final_obs)
        )
        return NormalizeState(inner, statistics.add(moments, timestep.obs)), shown

    def freeze(state):
        return _map_observations(
            env.freeze(state.env), lambda obs: normalize(state.statistics, obs), env.observation_shape
        )

    return env._replace(reset=reset, step=step, refresh=_refresh(env), freeze=freeze)


def scale_rewards(env, gamma):
    """Rewards over the running standard deviation of their discounted sum, clipped to +-10.

    As in OpenAI Baselines' VecNormalize: the sum is ``g <- gamma g + reward``, from 0 at every episode's start, and
    no mean is subtracted, which would change what is optimal.

    Args:
        env: an `Env` that resets itself.
        gamma: discount factor a step.
    """

    def reset(key):
        inner, obs = env.reset(key)
        return NormalizeState(inner, statistics.start(()), jnp.float32(0)), obs

    def step(key, state, action):
        inner, timestep = env.step(key, state.env, action)
        total = gamma * state.discounted_return + timestep.reward
        moments = statistics.add(state.statistics, total)
        reward = timestep.reward / statistics.standard_deviation(state.statistics)
        total = jnp.where(timestep.terminated | timestep.truncated, 0.0, total)
        scaled = timestep._replace(reward=jnp.clip(reward, -_LARGEST, _LARGEST))
        return NormalizeState(inner, moments, total), scaled

    def freeze(state):
        return env.freeze(state.env)

    return env._replace(reset=reset, step=step, refresh=_refresh(env), freeze=freeze)


def _refresh(env):
    def refresh(states, axis_name=None):
        merged = statistics.merge(states.statistics, axis_name)
        return states._replace(env=env.refresh(states.env, axis_name), statistics=merged)

    return refresh


def _map_time_steps(env, function, reset=None):
    def step(key, state, action):
        state, timestep = env.step(key, state, action)
        return state, function(timestep)

    return env._replace(reset=reset or env.reset, step=step)


def _map_observations(env, function, shape):
    def reset(key):
        state, obs = env.reset(key)
        return state, function(obs)

    def change(timestep: TimeStep):
        return timestep._replace(obs=function(timestep.obs), final_obs=function(timestep.final_obs))

    return _map_time_steps(env, change, reset)._replace(observation_shape=shape)
