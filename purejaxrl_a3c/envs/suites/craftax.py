"""Craftax and Craftax-Classic as `Env`."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c import checks
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.types import Action, Env, EnvState, Key, Observation, TimeStep

NAMES = ("Craftax-Symbolic-v1", "Craftax-Pixels-v1", "Craftax-Classic-Symbolic-v1", "Craftax-Classic-Pixels-v1")
_BLOCK = 16  # pixels of a block in a picture


def make(env_id: str, name: str) -> Env:
    """The Craftax environment called ``name``.

    An episode terminates where the player dies or wins. It is truncated at the time limit of the suite's default
    parameters, after 100,000 steps, or 10,000 in Classic. The first use of pixels takes a minute or two.

    Args:
        env_id: the whole name, for errors.
        name: one of `NAMES`.

    Returns:
        An episodic `Env`.

    Raises:
        InputError: if Craftax is not installed or has no environment of that name.
    """
    # Importing and constructing compute with arrays, which must not become part of a trace around this call.
    with jax.ensure_compile_time_eval():
        try:
            from craftax import craftax_env
        except ImportError as error:
            checks.reject_missing_suite(env_id, error)
        checks.check_known(env_id, name, NAMES)
        craftax = craftax_env.make_craftax_env_from_name(name, auto_reset=False)
        params = craftax.default_params
        endless = params.replace(max_timesteps=jnp.iinfo(jnp.int32).max)

    def reset(key: Key) -> tuple[EnvState, Observation]:
        obs, state = craftax.reset_env(jax.random.key_data(key), params)  # the state keeps a key as plain numbers
        return state, obs

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        obs, state, reward, done, _ = craftax.step_env(jax.random.key_data(key), state, action, params)
        terminated = craftax.is_terminal(state, endless)  # ``done`` is true for both the time limit and death
        timestep = TimeStep(obs, reward, terminated, truncated=done & ~terminated, final_obs=obs)
        return state, timestep

    obs = jax.eval_shape(reset, jax.random.key(0))[1]

    def render(states: Sequence[Any]) -> Iterator[np.ndarray]:
        if "Classic" in name:
            from craftax.craftax_classic.renderer import make_craftax_pixel_renderer
        else:
            from craftax.craftax.renderer import make_craftax_pixel_renderer
        draw = jax.jit(make_craftax_pixel_renderer(_BLOCK))
        return (np.clip(np.asarray(draw(state)), 0, 255).astype(np.uint8) for state in states)

    actions = spaces.Discrete(craftax.num_actions)
    return Env(reset, step, observation_shape=obs.shape, action_space=actions, render=render)
