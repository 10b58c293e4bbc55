"""gymnax environments as `Env`: the only file that knows what gymnax's ``step`` returns."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c import checks
from purejaxrl_a3c.backend import threefry
from purejaxrl_a3c.backend.deferred import deferred
from purejaxrl_a3c.envs import spaces, wrappers
from purejaxrl_a3c.types import Env, TimeStep


def make(env_id, env_params=None):
    """The gymnax environment registered as ``env_id``.

    Integer observations (a cell of FrozenLake, say) become one-hot vectors.

    Args:
        env_id: a name in ``gymnax.registered_envs``, built in or added with ``gymnax.register``.
        env_params: values, which may be traced, for fields of the environment's ``EnvParams``, by name.

    Returns:
        An episodic `Env`.

    Raises:
        InputError: if no environment of that name is registered (the message lists the nearest names), if it
            cannot be made here for lack of its data, or if it has no parameter of a name in ``env_params``.
    """
    gymnax, gymnax_spaces = _gymnax()
    checks.check_known(env_id, env_id, gymnax.registered_envs)
    # Some constructors compute with arrays and branch on the result: they must not see a trace that we run in.
    with jax.ensure_compile_time_eval():
        try:
            env, params = gymnax.make(env_id)
        except OSError as error:  # MNISTBandit downloads its data
            checks.reject("env_id", env_id, f"an environment that can be made here; gymnax says: {error}")
        default_space = env.action_space(params)
        observation_space = env.observation_space(params)
    fields = [field.name for field in dataclasses.fields(params)]
    for name in env_params or {}:
        if name not in fields:
            checks.reject("env_params", name, f"a parameter of {env_id}: {', '.join(fields)}")
    params = params.replace(**(env_params or {}))
    # What kind of space it is, the defaults say; its bounds may depend on parameters, and be traced.
    action_space, to_gymnax = _action_space(env_id, default_space, env.action_space(params))

    def step(key, state, action):
        obs, state, reward, terminated, _ = env.step_env(threefry.written_out(key), state, to_gymnax(action), params)
        terminated = jnp.asarray(terminated, bool)
        timestep = TimeStep(
            obs=obs,
            reward=jnp.asarray(reward, jnp.float32),
            terminated=terminated,
            truncated=jnp.logical_and(env.is_truncated(state, params), ~terminated),
            final_obs=obs,
        )
        return state, timestep

    def reset(key):
        obs, state = env.reset_env(threefry.written_out(key), params)
        # gymnax resets some fields to Python numbers; a loop over steps needs the types that step returns.
        action = jax.eval_shape(action_space.sample, key)
        state_types, timestep_types = jax.eval_shape(step, key, state, action)
        return _astype(state, state_types), _astype(obs, timestep_types.obs)

    obs = jax.eval_shape(lambda: reset(jax.random.key(0)))[1]
    if not hasattr(obs, "shape"):
        checks.reject("env_id", env_id, "an environment whose observation is one array")
    made = Env(reset, step, observation_shape=obs.shape, action_space=action_space)
    if isinstance(observation_space, gymnax_spaces.Discrete) and obs.shape == ():
        made = wrappers.one_hot(made, observation_space.n)
    return made


def _action_space(env_id, default, space):
    """Our space, and the function from its actions to gymnax's, whose space is ``space``."""
    _, gymnax_spaces = _gymnax()
    if isinstance(default, gymnax_spaces.Discrete):
        return spaces.Discrete(default.n), lambda action: action
    if isinstance(default, gymnax_spaces.Tuple) and all(isinstance(s, gymnax_spaces.Discrete) for s in default.spaces):
        return spaces.MultiDiscrete(tuple(s.n for s in default.spaces)), tuple
    if isinstance(default, gymnax_spaces.Box) and np.issubdtype(default.dtype, np.floating):
        size = math.prod(default.shape)
        if np.isfinite(default.low).all() and np.isfinite(default.high).all():
            return spaces.Continuous(size), lambda a: spaces.to_bounds(a, space.low, space.high, space.shape)
        return spaces.Continuous(size, bounded=False), lambda action: action.reshape(space.shape)
    return checks.reject("env_id", env_id, f"an environment with discrete or continuous actions, not {default}")


def _gymnax():
    """Import gymnax on first use: it makes an array, and from then on JAX can no longer join other processes."""
    # With what it draws with, which we do not need, the import would take twice as long as JAX's.
    drawing = deferred("matplotlib", "matplotlib.pyplot", "matplotlib.colors", "matplotlib.animation", "seaborn")
    with jax.ensure_compile_time_eval(), drawing:
        import gymnax
        from gymnax.environments import spaces
    return gymnax, spaces


def _astype(tree, types):
    return jax.tree.map(lambda x, like: jnp.asarray(x).astype(like.dtype), tree, types)
