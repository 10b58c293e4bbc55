"""gymnax environments as `Env`: the only file that knows what gymnax's ``step`` returns."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c import checks
from purejaxrl_a3c.backend import threefry
from purejaxrl_a3c.backend.deferred import deferred
from purejaxrl_a3c.config import is_concrete
from purejaxrl_a3c.envs import spaces, wrappers
from purejaxrl_a3c.envs.randomize import Family
from purejaxrl_a3c.envs.suites.gymnax_pictures import make_render
from purejaxrl_a3c.types import Action, Env, EnvState, Key, Observation, TimeStep

Space = spaces.Discrete | spaces.MultiDiscrete | spaces.Continuous


def family(env_id: str, env_params: dict[str, Any] | None = None, env_kwargs: dict[str, Any] | None = None) -> Family:
    """The gymnax environment registered as ``env_id``, with its parameters.

    Integer observations, such as a cell of FrozenLake, become one-hot vectors.

    Args:
        env_id: a name in ``gymnax.registered_envs``, built in or added with ``gymnax.register``.
        env_params: values for fields of the environment's ``EnvParams``, by name. They may be traced.
        env_kwargs: arguments of the environment's class, by name.

    Returns:
        The episodic environments with these and other values of the other parameters.

    Raises:
        InputError: if no environment of that name is registered (the message lists the nearest names), if it
            cannot be made here because its data is missing, or if it has no parameter of a name in ``env_params``, or
            not of such a value, or does not take ``env_kwargs``.
    """
    return family_of(*_load(env_id, env_kwargs or {}), env_params, env_id)


def family_of(env: Any, params: Any, env_params: dict[str, Any] | None, env_id: str) -> Family:
    """As `family`, of an environment and its default parameters; arguments and errors are those of `from_gymnax`."""
    with jax.ensure_compile_time_eval():
        defaults = env.default_params if params is None else params
    given = env_params or {}
    numbers = [name for name in _fields(defaults) if np.asarray(getattr(defaults, name)).dtype.kind in "bif"]
    return Family(
        member=lambda values: from_gymnax(env, defaults, given | dict(values), env_id),
        parameters={name: _default(defaults, name) for name in numbers},
        problem=lambda name, value: _problem(defaults, name, value),
    )


def from_gymnax(
    env: Any, params: Any = None, env_params: dict[str, Any] | None = None, env_id: str = "this environment"
) -> Env:
    """An environment of one's own that is written as gymnax's are.

    Args:
        env: an instance of a subclass of ``gymnax.environments.environment.Environment``.
        params: its parameters; None: its ``default_params``.
        env_params: values for fields of ``params``, by name. They may be traced.
        env_id: what errors call it.

    Returns:
        An episodic `Env`.

    Raises:
        InputError: if an agent cannot see or act there, or for a parameter that is not there or not accepted.
    """
    defaults = env.default_params if params is None else params
    _check_params(env_id, defaults, env_params or {})
    params = defaults.replace(**(env_params or {}))
    with jax.ensure_compile_time_eval():
        default_space = env.action_space(defaults)
        observation_space = env.observation_space(defaults)
    # The default space says which kind of space it is; the bounds may depend on parameters, and be traced.
    action_space, to_gymnax = _action_space(env_id, default_space, env.action_space(params))

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
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

    def reset(key: Key) -> tuple[EnvState, Observation]:
        obs, state = env.reset_env(threefry.written_out(key), params)
        # gymnax resets some fields to Python numbers; a loop over steps needs the types that step returns.
        action = jax.eval_shape(action_space.sample, key)
        state_types, timestep_types = jax.eval_shape(step, key, state, action)
        return _astype(state, state_types), _astype(obs, timestep_types.obs)

    obs = jax.eval_shape(lambda: reset(jax.random.key(0)))[1]
    if not hasattr(obs, "shape"):
        checks.reject("env_id", env_id, "an environment whose observation is one array")
    made = Env(
        reset,
        step,
        observation_shape=obs.shape,
        action_space=action_space,
        to_native=to_gymnax,
        render=make_render(env, params),
    )
    if isinstance(observation_space, _gymnax()[1].Discrete) and obs.shape == ():
        made = wrappers.one_hot(made, observation_space.n)
        made = made._replace(from_native=lambda obs: jax.nn.one_hot(obs, observation_space.n))
    return made


def names() -> list[str]:
    """The names of all environments that are registered with gymnax."""
    return list(_gymnax()[0].registered_envs)


def _load(env_id: str, env_kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The environment and its default parameters."""
    gymnax, _ = _gymnax()
    checks.check_known(env_id, env_id, gymnax.registered_envs)
    # Some constructors compute with arrays and branch on the result, which must not become part of a trace around this.
    with jax.ensure_compile_time_eval():
        try:
            return checks.make_with(env_id, partial(gymnax.make, env_id), env_kwargs)
        except OSError as error:  # MNISTBandit downloads its data
            return checks.reject("env_id", env_id, f"an environment that can be made here; gymnax says: {error}")


def _check_params(env_id: str, defaults: Any, env_params: dict[str, Any]) -> None:
    """Check that the environment has all of these parameters, and that those which are counts are whole numbers."""
    for name, value in env_params.items():
        if name not in _fields(defaults):
            checks.reject("env_params", name, f"a parameter of {env_id}: {', '.join(_fields(defaults))}")
        if problem := _problem(defaults, name, value):
            checks.reject(f"env_params {name}", value, problem)


def _fields(defaults: Any) -> dict[str, Any]:
    return {field.name: field.type for field in dataclasses.fields(defaults)}


def _default(defaults: Any, name: str) -> Any:
    """The default of a parameter, of which the type says what its values are: those of a whole number are ints."""
    default = getattr(defaults, name)
    default = np.asarray(default).item() if is_concrete(default) and np.shape(default) == () else default
    return float(default) if isinstance(default, int) and _fields(defaults)[name] in (float, "float") else default


def _problem(defaults: Any, name: str, value: float) -> str | None:
    """What the value of a parameter must be instead; None if it is accepted, as one is that has no value yet."""
    default, least = _default(defaults, name), 1 if name == "max_steps_in_episode" else -np.inf
    if np.shape(default) != ():
        return f"left out: it holds several numbers, of shape {np.shape(default)}"
    if not is_concrete(value):
        return None
    if isinstance(default, bool) and value not in (0, 1):
        return "0 or 1"
    if isinstance(default, int) and not (float(value).is_integer() and value >= least):
        return "a whole number" + (f" >= {least}" if least == 1 else "")
    return None


def _action_space(env_id: str, default: Any, space: Any) -> tuple[Space, Callable[[Action], Any]]:
    """Our space, and the function from its actions to gymnax's, whose space is ``space``."""
    _, gymnax_spaces = _gymnax()
    if isinstance(default, gymnax_spaces.Discrete):
        return spaces.Discrete(default.n), lambda action: action
    if isinstance(default, gymnax_spaces.Tuple) and all(isinstance(s, gymnax_spaces.Discrete) for s in default.spaces):
        return spaces.MultiDiscrete(tuple(s.n for s in default.spaces)), tuple
    if isinstance(default, gymnax_spaces.Box) and np.issubdtype(default.dtype, np.floating):
        bounded = np.broadcast_to(np.isfinite(default.low) & np.isfinite(default.high), default.shape)
        made = spaces.continuous(bounded.reshape(-1))
        return made, lambda a: spaces.to_bounds(a, space.low, space.high, space.shape, bounded)
    return checks.reject("env_id", env_id, f"an environment with discrete or continuous actions, not {default}")


def _gymnax() -> tuple[Any, Any]:
    """The modules ``gymnax`` and ``gymnax.environments.spaces``.

    They are imported on first use, because importing gymnax makes an array, and from then on JAX can no longer join
    other processes.
    """
    # gymnax imports plotting libraries, which takes twice as long as importing JAX and is not needed here.
    drawing = deferred("matplotlib", "matplotlib.pyplot", "matplotlib.colors", "matplotlib.animation", "seaborn")
    with jax.ensure_compile_time_eval(), drawing:
        import gymnax
        from gymnax.environments import spaces
    return gymnax, spaces


def _astype(tree: Any, types: Any) -> Any:
    return jax.tree.map(lambda x, like: jnp.asarray(x).astype(like.dtype), tree, types)
