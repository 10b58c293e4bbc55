"""brax environments as `Env`."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c import checks
from purejaxrl_a3c.envs import spaces, wrappers
from purejaxrl_a3c.envs.pictures import drawn_with_opengl
from purejaxrl_a3c.envs.randomize import Family
from purejaxrl_a3c.envs.suites import physics
from purejaxrl_a3c.types import Action, Env, EnvState, Key, Observation, TimeStep

EPISODE_LENGTH = 1000  # the default of brax, whose trainers cut the episodes of every environment there


def make(env_id: str, name: str, env_kwargs: dict[str, Any] | None = None) -> Env:
    """The brax environment called ``name``, on its default physics backend if no other is asked for.

    An episode terminates where brax says ``done`` and is truncated after `EPISODE_LENGTH` steps. brax's own auto-reset
    is not used, because it hides the last observation and starts every episode of a copy from the same state.

    Args:
        env_id: the whole name, for errors.
        name: a name in brax's registry, such as ``ant``.
        env_kwargs: arguments of the environment's class, such as ``backend``.

    Returns:
        An episodic `Env`.

    Raises:
        InputError: if brax is not installed, has no environment of that name or it does not take these arguments, or
            cannot run beside this jax.
    """
    return family(env_id, name, env_kwargs).member({})


def family(env_id: str, name: str, env_kwargs: dict[str, Any] | None = None) -> Family:
    """As `make`, with factors on the fields of brax's ``System``; see `physics.family`."""
    # Importing and constructing compute with arrays, which must not become part of a trace around this call.
    with jax.ensure_compile_time_eval():
        try:
            from brax import envs
        except ImportError as error:
            checks.reject_missing_suite(env_id, error)
        known = envs._envs  # brax lists them nowhere else
        checks.check_known(env_id, name, known)
        brax = checks.make_with(env_id, partial(envs.get_environment, name), env_kwargs or {})
    observation_shape = jax.eval_shape(lambda: brax.reset(jax.random.key_data(jax.random.key(0))).obs).shape
    made = physics.family(brax, "sys", lambda brax: _to_env(env_id, brax, observation_shape))
    env = made.member({})
    try:
        jax.eval_shape(lambda key: env.step(key, env.reset(key)[0], env.action_space.sample(key)), jax.random.key(0))
    except (
        AttributeError,
        TypeError,
    ) as error:  # brax is no longer maintained: Swimmer uses arguments that jax has removed
        checks.reject("env_id", env_id, f"an environment that brax can run beside jax {jax.__version__} ({error})")
    return made


def _to_env(env_id: str, brax: Any, observation_shape: tuple[int, ...]) -> Env:
    """An environment of brax as `Env`."""

    def reset(key: Key) -> tuple[EnvState, Observation]:
        state = brax.reset(jax.random.key_data(key))  # a state may keep the key, and must hold plain arrays
        return state, state.obs

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        # brax writes into the dicts of the state that it is given, so it gets copies of them.
        state = brax.step(jax.tree.map(lambda x: x, state), _clip(action))
        timestep = TimeStep(
            obs=state.obs,
            reward=jnp.asarray(state.reward, jnp.float32),
            terminated=jnp.asarray(state.done, bool),
            truncated=jnp.bool_(False),
            final_obs=state.obs,
        )
        return state, timestep

    def render(states: Sequence[Any]) -> Iterator[np.ndarray]:
        from brax.io import image

        return iter(image.render_array(brax.sys, [state.pipeline_state for state in states], 240, 320))

    env = Env(reset, step, observation_shape, spaces.Continuous(brax.action_size), to_native=_clip)
    return wrappers.time_limit(env._replace(render=drawn_with_opengl(env_id, render)), EPISODE_LENGTH)


def _clip(action: Action) -> jax.Array:
    return jnp.clip(action, -1.0, 1.0)
