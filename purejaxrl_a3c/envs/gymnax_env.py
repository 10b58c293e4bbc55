"""gymnax environments as `Env`: the only file that knows what gymnax's ``step`` returns."""

import difflib

import gymnax
import jax
import jax.numpy as jnp

from purejaxrl_a3c import checks
from purejaxrl_a3c.types import Env, TimeStep


def make(env_id):
    """The gymnax environment registered as ``env_id``, with its default parameters.

    Args:
        env_id: a name in ``gymnax.registered_envs``, built in or added with ``gymnax.register``.

    Returns:
        An `Env` that resets itself.

    Raises:
        InputError: if no environment of that name is registered (the message lists the nearest names), or if it
            cannot be made here, for lack of its data.
    """
    known = gymnax.registered_envs
    if not isinstance(env_id, str) or env_id not in known:
        nearest = difflib.get_close_matches(str(env_id), known, n=3, cutoff=0.4) or known
        checks.reject("env_id", env_id, f"the name of a gymnax environment; nearest: {', '.join(nearest)}")
    # Some constructors compute with arrays and branch on the result: they must not see a trace that we run in.
    with jax.ensure_compile_time_eval():
        try:
            env, params = gymnax.make(env_id)
        except OSError as error:  # MNISTBandit downloads its data
            checks.reject("env_id", env_id, f"an environment that can be made here; gymnax says: {error}")
        action_space = env.action_space(params)

    def step(key, state, action):
        obs, state, reward, terminated, truncated, info = env.step(key, state, action, params)
        timestep = TimeStep(
            obs=obs,
            reward=jnp.asarray(reward, jnp.float32),
            terminated=jnp.asarray(terminated, bool),
            truncated=jnp.logical_and(truncated, jnp.logical_not(terminated)),
            final_obs=info["final_observation"],
        )
        return state, timestep

    def reset(key):
        obs, state = env.reset(key, params)
        # gymnax resets some fields to Python numbers; a loop over steps needs the types that step returns.
        action = jax.eval_shape(action_space.sample, key)
        state_types, timestep_types = jax.eval_shape(step, key, state, action)
        return _astype(state, state_types), _astype(obs, timestep_types.obs)

    shape = jax.eval_shape(lambda: reset(jax.random.key(0)))[1].shape
    return Env(reset, step, observation_shape=shape, action_space=action_space)


def _astype(tree, types):
    return jax.tree.map(lambda x, like: jnp.asarray(x).astype(like.dtype), tree, types)
