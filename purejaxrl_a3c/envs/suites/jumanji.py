"""jumanji environments as `Env`."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c import checks
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.envs.pictures import figure_picture
from purejaxrl_a3c.types import Action, Env, EnvState, Key, Observation, TimeStep


def make(env_id: str, name: str) -> Env:
    """The jumanji environment called ``name``, for one agent with discrete actions.

    jumanji's observations are structs of arrays. Their ``action_mask`` is dropped: masks are not used, and each
    environment has its own answer to an illegal action. If one array is left, it is the observation; several are joined
    into one float32 vector. An episode terminates where its last discount is 0, and is truncated otherwise. Note that
    most time limits of jumanji terminate.

    Args:
        env_id: the whole name, for errors.
        name: a name in ``jumanji.registered_environments()``, such as ``Snake-v1``.

    Returns:
        An episodic `Env`.

    Raises:
        InputError: if jumanji is not installed, has no environment of that name, or lacks its data; or if the
            environment is for several agents or its actions are not discrete.
    """
    # Importing and constructing compute with arrays, which must not become part of a trace around this call.
    with jax.ensure_compile_time_eval():
        try:
            import jumanji
        except ImportError as error:
            checks.reject_missing_suite(env_id, error)
        known = sorted(jumanji.registered_environments())
        checks.check_known(env_id, name, known)
        try:
            env = jumanji.make(name)
        except OSError as error:  # Sokoban downloads its levels
            checks.reject("env_id", env_id, f"an environment that can be made here; jumanji says: {error}")
        if env.reward_spec.shape != ():
            checks.reject("env_id", env_id, "an environment for one agent; this one rewards several")
        action_space = _action_space(env_id, jumanji.specs, env.action_spec)

    def reset(key: Key) -> tuple[EnvState, Observation]:
        state, timestep = env.reset(jax.random.key_data(key))  # the state keeps the key, and must hold plain arrays
        return state, _join(timestep.observation)

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        state, timestep = env.step(state, action)
        obs = _join(timestep.observation)
        terminated = timestep.last() & (timestep.discount == 0)
        truncated = timestep.last() & ~terminated
        return state, TimeStep(obs, jnp.asarray(timestep.reward, jnp.float32), terminated, truncated, final_obs=obs)

    obs = jax.eval_shape(reset, jax.random.key(0))[1]
    return Env(
        reset,
        step,
        observation_shape=obs.shape,
        action_space=action_space,
        from_native=_join,
        render=lambda states: _render(env, states),
    )


def _render(env: Any, states: Sequence[Any]) -> Iterator[np.ndarray]:
    import matplotlib.pyplot as plt

    before = set(plt.get_fignums())
    try:
        with plt.ioff(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that nothing is shown on a screen
            for state in states:
                env.render(state)
                figure = plt.gcf()
                figure.set_size_inches(4, 4)
                yield figure_picture(figure)
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)


def _action_space(env_id: str, specs: Any, spec: Any) -> spaces.Discrete | spaces.MultiDiscrete:
    if isinstance(spec, specs.DiscreteArray):
        return spaces.Discrete(int(spec.num_values))
    if isinstance(spec, specs.MultiDiscreteArray) and len(spec.shape) == 1:
        return spaces.MultiDiscrete(tuple(int(n) for n in spec.num_values))
    return checks.reject("env_id", env_id, f"an environment with discrete actions, not {spec}")


def _join(observation: Any) -> Observation:
    leaves = jax.tree_util.tree_leaves_with_path(observation)
    arrays = [array for path, array in leaves if "action_mask" not in jax.tree_util.keystr(path)]
    if len(arrays) == 1:
        return arrays[0]
    return jnp.concatenate([jnp.ravel(array).astype(jnp.float32) for array in arrays])
