"""MuJoCo Playground environments as `Env`."""

import subprocess
from collections.abc import Iterator, Sequence
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


def make(env_id: str, name: str, env_kwargs: dict[str, Any] | None = None) -> Env:
    """The MuJoCo Playground environment called ``name``, on MJX's JAX implementation.

    An episode terminates where Playground says ``done`` and is truncated after the configuration's ``episode_length``
    steps. Where observations are dicts, the agent sees the entry ``state``. The configuration's ``action_repeat``
    belongs to Playground's trainers and is not applied. Playground's own auto-reset is not used, because it hides the
    last observation. Playground says ``done``, too, where the physics has diverged; what is then not a finite number in
    the last observation and reward becomes 0, so that nothing learns from it.

    Args:
        env_id: the whole name, for errors.
        name: a name in Playground's registry, such as ``CartpoleBalance``.
        env_kwargs: entries of its configuration that are not to be the defaults, with dots in the names of nested ones.

    Returns:
        An episodic `Env`.

    Raises:
        InputError: if Playground is not installed, has no environment of that name, or cannot get its robot models,
            which it fetches with git on first use.
    """
    return family(env_id, name, env_kwargs).member({})


def family(env_id: str, name: str, env_kwargs: dict[str, Any] | None = None) -> Family:
    """As `make`, with factors on the fields of the model of MJX; see `physics.family`."""
    # Importing and constructing compute with arrays, which must not become part of a trace around this call.
    with jax.ensure_compile_time_eval():
        try:
            from mujoco_playground import registry
        except ImportError as error:
            checks.reject_missing_suite(env_id, error)
        known = registry.ALL_ENVS
        checks.check_known(env_id, name, known)
        config = registry.get_default_config(name)
        if "impl" in config:
            config.impl = "jax"  # the default is Warp, which needs an NVIDIA GPU
        checks.make_with(env_id, lambda **entries: config.update_from_flattened_dict(entries), env_kwargs or {})
        try:
            playground = registry.load(name, config=config)
        except (OSError, subprocess.SubprocessError) as error:
            checks.reject("env_id", env_id, f"an environment that can be made here; Playground says: {error}")
    obs = jax.eval_shape(lambda: _show(playground.reset(jax.random.key_data(jax.random.key(0))).obs))

    def make_one(playground: Any) -> Env:
        return wrappers.time_limit(_to_env(env_id, playground, obs.shape), config.episode_length)

    return physics.family(playground, "_mjx_model", make_one)


def _to_env(env_id: str, playground: Any, observation_shape: tuple[int, ...]) -> Env:
    """An environment of Playground as `Env`, without its time limit."""

    def reset(key: Key) -> tuple[EnvState, Observation]:
        state = playground.reset(jax.random.key_data(key))  # the state keeps the key, and must hold plain arrays
        return state, _show(state.obs)

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        # Playground writes into the dicts of the state that it is given, so it gets copies of them.
        state = playground.step(jax.tree.map(lambda x: x, state), _clip(action))
        terminated = jnp.asarray(state.done, bool)

        def finite(x: jax.Array) -> jax.Array:
            # The value after a termination is multiplied by 0, and 0 times NaN is NaN.
            return jnp.where(terminated & ~jnp.isfinite(x), jnp.zeros_like(x), x)

        obs, reward = finite(_show(state.obs)), finite(jnp.asarray(state.reward, jnp.float32))
        return state, TimeStep(obs, reward, terminated, truncated=jnp.bool_(False), final_obs=obs)

    def render(states: Sequence[Any]) -> Iterator[np.ndarray]:
        return iter(playground.render(list(states), height=240, width=320))

    return Env(
        reset,
        step,
        observation_shape,
        spaces.Continuous(playground.action_size),
        from_native=_show,
        to_native=_clip,
        render=drawn_with_opengl(env_id, render),
    )


def _show(obs: Any) -> Observation:
    return obs["state"] if isinstance(obs, dict) else obs


def _clip(action: Action) -> jax.Array:
    return jnp.clip(action, -1.0, 1.0)
