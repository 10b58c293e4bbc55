"""jumanji environments as `Env`."""

import jax
import jax.numpy as jnp

from purejaxrl_a3c import checks
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.types import Env, TimeStep


def make(env_id, name):
    """The jumanji environment called ``name``, for one agent with discrete actions.

    Observations are structs there. Their ``action_mask`` is dropped: masks are not used, and what an illegal action
    does is up to the environment. If one array is left, that is the observation; several are joined into one float32
    vector. An episode is truncated where jumanji leaves a discount at its end, and terminates where that is 0; note
    that most time limits of jumanji terminate.

    Args:
        env_id: the whole name, for errors.
        name: a name in ``jumanji.registered_environments()``, such as ``Snake-v1``.

    Returns:
        An episodic `Env`.

    Raises:
        InputError: if jumanji is not installed, has no environment of that name, or lacks its data; or if the
            environment is for several agents or its actions are not discrete.
    """
    # Importing and constructing compute with arrays: they must not see a trace that we run in.
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

    def reset(key):
        state, timestep = env.reset(jax.random.key_data(key))  # states keep the key, and are to hold plain arrays
        return state, _join(timestep.observation)

    def step(key, state, action):
        state, timestep = env.step(state, action)
        obs = _join(timestep.observation)
        terminated = timestep.last() & (timestep.discount == 0)
        truncated = timestep.last() & ~terminated
        return state, TimeStep(obs, jnp.asarray(timestep.reward, jnp.float32), terminated, truncated, final_obs=obs)

    obs = jax.eval_shape(reset, jax.random.key(0))[1]
    return Env(reset, step, observation_shape=obs.shape, action_space=action_space)


def _action_space(env_id, specs, spec):
    if isinstance(spec, specs.DiscreteArray):
        return spaces.Discrete(int(spec.num_values))
    if isinstance(spec, specs.MultiDiscreteArray) and len(spec.shape) == 1:
        return spaces.MultiDiscrete(tuple(int(n) for n in spec.num_values))
    return checks.reject("env_id", env_id, f"an environment with discrete actions, not {spec}")


def _join(observation):
    leaves = jax.tree_util.tree_leaves_with_path(observation)
    arrays = [array for path, array in leaves if "action_mask" not in jax.tree_util.keystr(path)]
    if len(arrays) == 1:
        return arrays[0]
    return jnp.concatenate([jnp.ravel(array).astype(jnp.float32) for array in arrays])
