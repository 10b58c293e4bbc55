"""Functions ``Env -> Env`` around an episodic environment.

Their states start afresh when the environment is reset. `auto_reset` is the outermost: it makes an environment that
resets itself. `envs.normalize` has the wrappers around that one.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.envs.observations import (
    Shape,
    joined,
    map_seen,
    shapes,
    split_mask,
    total_size,
    with_mask,
)
from purejaxrl_a3c.types import Action, Env, EnvState, Key, Observation, TimeStep

Tree = TypeVar("Tree")  # a pytree of arrays


def _where(condition: jax.Array, yes: Tree, no: Tree) -> Tree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def drawn(
    env: Env, inner: Callable[[EnvState], EnvState]
) -> Callable[[Sequence[EnvState]], Iterable[np.ndarray]] | None:
    """``env.render`` for the states of a wrapper, which have those of ``env`` inside."""
    render = env.render
    return None if render is None else lambda states: render([inner(state) for state in states])


def _first(state: EnvState) -> EnvState:
    return state[0]


def _env_of(state: EnvState) -> EnvState:
    return state.env


class RecordState(NamedTuple):
    """State of `record_episodes`."""

    env: EnvState
    episode_return: jax.Array  # float32 []
    episode_length: jax.Array  # int32 []


def record_episodes(env: Env) -> Env:
    """Fill in ``episode_return`` and ``episode_length`` of every time step.

    Both include the step itself, so on the last step of an episode they are the whole episode's. This wrapper belongs
    innermost: wrappers around it may change the rewards that the agent learns from, but not the recorded ones.
    """

    def reset(key: Key) -> tuple[RecordState, Observation]:
        state, obs = env.reset(key)
        return RecordState(state, jnp.float32(0), jnp.int32(0)), obs

    def step(key: Key, state: RecordState, action: Action) -> tuple[RecordState, TimeStep]:
        inner, timestep = env.step(key, state.env, action)
        state = RecordState(inner, state.episode_return + timestep.reward, state.episode_length + 1)
        recorded = timestep._replace(episode_return=state.episode_return, episode_length=state.episode_length)
        return state, recorded

    return env._replace(reset=reset, step=step, render=drawn(env, _env_of))


def as_arrays(env: Env) -> Env:
    """Rewards and ends of episodes as arrays, where an environment of one's own returns numbers of Python."""

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        state, timestep = env.step(key, state, action)
        reward = jnp.asarray(timestep.reward, jnp.float32)
        terminated, truncated = (jnp.asarray(x, bool) for x in (timestep.terminated, timestep.truncated))
        return state, timestep._replace(reward=reward, terminated=terminated, truncated=truncated)

    return env._replace(step=step)


def time_limit(env: Env, frames: int) -> Env:
    """Truncate every episode after ``frames`` steps."""

    def reset(key: Key) -> tuple[EnvState, Observation]:
        state, obs = env.reset(key)
        return (state, jnp.int32(0)), obs

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        inner, time = state
        inner, timestep = env.step(key, inner, action)
        time = time + 1
        truncated = (timestep.truncated | (time >= frames)) & ~timestep.terminated
        return (inner, time), timestep._replace(truncated=truncated)

    return env._replace(reset=reset, step=step, render=drawn(env, _first))


def sticky_actions(env: Env, probability: float | jax.Array) -> Env:
    """Repeat the previous action with ``probability``, whatever the agent asks for (Machado et al. 2018).

    The first action of an episode is never replaced (arXiv 1709.06009, section 5.2).
    """

    def reset(key: Key) -> tuple[EnvState, Observation]:
        state, obs = env.reset(key)
        return (state, jnp.bool_(True), env.action_space.sample(key)), obs

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        inner, first, previous = state
        key_stick, key_env = jax.random.split(key)
        stick = jax.random.bernoulli(key_stick, probability) & ~first
        action = _where(stick, previous, action)
        inner, timestep = env.step(key_env, inner, action)
        return (inner, jnp.bool_(False), action), timestep

    return env._replace(reset=reset, step=step, render=drawn(env, _first))


def repeat_action(env: Env, times: int) -> Env:
    """Take every action ``times`` times, or until the episode ends, and add up the rewards."""

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        def once(loop: tuple[EnvState, TimeStep], key: Key) -> tuple[tuple[EnvState, TimeStep], None]:
            state, timestep = loop
            going = ~(timestep.terminated | timestep.truncated)
            new_state, new = env.step(key, state, action)
            new = new._replace(reward=timestep.reward + new.reward)
            return _where(going, (new_state, new), loop), None

        keys = jax.random.split(key, times)
        loop, _ = jax.lax.scan(once, env.step(keys[0], state, action), keys[1:])
        return loop

    return env._replace(step=step)


def clip_rewards(env: Env, limit: float | jax.Array) -> Env:
    """Rewards clipped to ``[-limit, limit]``."""

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        state, timestep = env.step(key, state, action)
        return state, timestep._replace(reward=jnp.clip(timestep.reward, -limit, limit))

    return env._replace(step=step)


def observe(env: Env, indices: tuple[int, ...]) -> Env:
    """Show the agent only the entries at ``indices`` of an observation's last axis.

    Raises:
        InputError: if observations have no axis, or several arrays.
    """
    seen, mask = split_mask(env.observation_shape)
    if not isinstance(seen, tuple):
        reject("observe", indices, f"empty, for observations of several arrays: {', '.join(seen)}")
    if seen == ():
        reject("observe", indices, "empty, for observations that are a single number and have no axis")
    shown, shape = jnp.array(indices), (*seen[:-1], len(indices))
    return map_observations(env, map_seen_array(lambda obs: obs[..., shown]), with_mask(shape, mask))


def flatten(env: Env) -> Env:
    """Observations as vectors ``[F]``; a single number becomes a vector of one, and several arrays are joined."""
    seen, mask = split_mask(env.observation_shape)
    return map_observations(env, map_seen_array(joined), with_mask((total_size(seen),), mask))


def one_hot(env: Env, size: int) -> Env:
    """Integer observations in ``0 .. size - 1`` as one-hot vectors, float32 ``[..., size]``."""
    return map_observations(env, lambda obs: jax.nn.one_hot(obs, size), (*env.observation_shape, size))


def stack_frames(env: Env, frames: int) -> Env:
    """The latest ``frames`` observations side by side on the last axis, oldest first; of a mask the latest one.

    At the start of an episode its first observation is repeated.

    Raises:
        InputError: if observations have no axis.
    """
    if () in shapes(split_mask(env.observation_shape)[0]):
        reject("frame_stack", frames, "1, or flatten True: observations are a single number and have no axis")

    def reset(key: Key) -> tuple[EnvState, Observation]:
        state, obs = env.reset(key)
        obs = map_seen(lambda x: jnp.concatenate([x] * frames, axis=-1), obs)
        return (state, obs), obs

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        inner, stack = state
        inner, timestep = env.step(key, inner, action)

        def push(newest: jax.Array, stack: jax.Array) -> jax.Array:
            return jnp.concatenate([stack[..., newest.shape[-1] :], newest], axis=-1)

        stack = map_seen(push, timestep.obs, stack)
        return (inner, stack), timestep._replace(obs=stack, final_obs=stack)

    shape = map_seen(lambda one: (*one[:-1], frames * one[-1]), env.observation_shape)
    return env._replace(reset=reset, step=step, observation_shape=shape, render=drawn(env, _first))


class AutoResetState(NamedTuple):
    """State of `auto_reset`."""

    env: EnvState
    remaining: jax.Array  # int32 []: steps until the first episode is cut; negative if none will be


def auto_reset(env: Env, stagger: int = 0) -> Env:
    """An environment that starts its next episode by itself.

    On the last step of an episode ``final_obs`` is the old episode's and ``obs`` is the new one's. Its ``step`` takes
    two keys, one for the step and one for the reset.

    Args:
        env: an episodic `Env`.
        stagger: if not 0, the first episode of every copy is truncated after a random number of steps, uniform in
            ``1 .. stagger``, unless it ends before. Otherwise copies that start together run in phase, and a batch
            holds the same moment of every episode. The cut is a truncation: the target bootstraps there. It makes no
            whole episode, which the time step of the cut says with an ``episode_length`` of 0.
    """

    def reset(key: Key) -> tuple[AutoResetState, Observation]:
        key_env, key_stagger = jax.random.split(key)
        state, obs = env.reset(key_env)
        remaining = jax.random.randint(key_stagger, (), 1, stagger + 1) if stagger else jnp.int32(-1)
        return AutoResetState(state, remaining), obs

    def step(keys: Key, state: AutoResetState, action: Action) -> tuple[AutoResetState, TimeStep]:
        key_step, key_reset = keys
        inner, timestep = env.step(key_step, state.env, action)
        remaining = state.remaining - 1
        cut = (remaining == 0) & ~timestep.terminated & ~timestep.truncated
        timestep = timestep._replace(truncated=(timestep.truncated | cut) & ~timestep.terminated)
        if stagger and timestep.episode_length is not None:
            timestep = timestep._replace(episode_length=jnp.where(cut, 0, timestep.episode_length))
        last = timestep.terminated | timestep.truncated
        inner, obs = _where(last, env.reset(key_reset), (inner, timestep.obs))
        return AutoResetState(inner, jnp.where(last, -1, remaining)), timestep._replace(obs=obs)

    return env._replace(reset=reset, step=step, freeze=lambda state: auto_reset(env), render=drawn(env, _env_of))


def map_seen_array(function: Callable[[Any], jax.Array]) -> Callable[[Observation], Observation]:
    """``function`` of what there is to see of an observation, which makes one array of it, beside the mask."""

    def of_observation(obs: Observation) -> Observation:
        seen, mask = split_mask(obs)
        return with_mask(function(seen), mask)

    return of_observation


def map_observations(env: Env, function: Callable[[Observation], Observation], shape: Shape) -> Env:
    """``env`` with ``function`` of its observations, which have ``shape`` then."""

    def reset(key: Key) -> tuple[EnvState, Observation]:
        state, obs = env.reset(key)
        return state, function(obs)

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        state, timestep = env.step(key, state, action)
        return state, timestep._replace(obs=function(timestep.obs), final_obs=function(timestep.final_obs))

    return env._replace(reset=reset, step=step, observation_shape=shape)
