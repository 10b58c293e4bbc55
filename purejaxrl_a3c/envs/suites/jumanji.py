"""jumanji environments as `Env`."""

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c import checks
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.envs.observations import MASK, shape_of, with_mask
from purejaxrl_a3c.envs.pictures import figure_picture
from purejaxrl_a3c.types import Action, Env, EnvState, Key, Observation, TimeStep

_MOST_VALUES = 32  # of an integer that becomes a one-hot vector


def make(env_id: str, name: str, env_kwargs: dict[str, Any] | None = None) -> Env:
    """The jumanji environment called ``name``, for one agent with discrete actions.

    jumanji's observations are structs of arrays, which become dicts; a single array without a mask is the observation
    itself. Bounded integers of 3 to 32 values, such as the cells of a board, become one-hot vectors on a last axis.
    Where jumanji's mask is of several choices together, as in Minesweeper, the action is one choice among all
    combinations. An episode terminates where its last discount is 0, and is truncated otherwise. Note that most time
    limits of jumanji terminate. The observation then tells the time, except in PacMan.

    Args:
        env_id: the whole name, for errors.
        name: a name in ``jumanji.registered_environments()``, such as ``Snake-v1``.
        env_kwargs: arguments of the environment's class, such as ``time_limit``.

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
            env = checks.make_with(env_id, partial(jumanji.make, name), env_kwargs or {})
        except OSError as error:  # Sokoban downloads its levels
            checks.reject("env_id", env_id, f"an environment that can be made here; jumanji says: {error}")
        if env.reward_spec.shape != ():
            checks.reject("env_id", env_id, "an environment for one agent; this one rewards several")
        spec = env.observation_spec
        mask = getattr(spec, MASK, None)
        action_space, to_native = _actions(env_id, jumanji.specs, env.action_spec, None if mask is None else mask.shape)
        types = jax.eval_shape(lambda: env.reset(jax.random.key_data(jax.random.key(0)))[1].observation)
        readers = _readers(jumanji.specs, spec, types)

    def read(observation: Any) -> Observation:
        seen = _read(readers, observation)
        mask = seen.pop(MASK, None)
        only = next(iter(seen.values())) if len(seen) == 1 else seen
        return with_mask(only, None if mask is None else mask.reshape(-1))

    def reset(key: Key) -> tuple[EnvState, Observation]:
        state, timestep = env.reset(jax.random.key_data(key))  # the state keeps the key, and must hold plain arrays
        return state, read(timestep.observation)

    def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
        state, timestep = env.step(state, to_native(action))
        obs = read(timestep.observation)
        terminated = timestep.last() & (timestep.discount == 0)
        truncated = timestep.last() & ~terminated
        return state, TimeStep(obs, jnp.asarray(timestep.reward, jnp.float32), terminated, truncated, final_obs=obs)

    obs = jax.eval_shape(reset, jax.random.key(0))[1]
    return Env(
        reset,
        step,
        observation_shape=shape_of(obs),
        action_space=action_space,
        from_native=read,
        to_native=to_native,
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


def _actions(
    env_id: str, specs: Any, spec: Any, mask: tuple[int, ...] | None
) -> tuple[spaces.Discrete | spaces.MultiDiscrete, Callable[[Action], Any]]:
    """Our space for a spec of actions and the shape of a mask, and the function from its actions to jumanji's."""
    if isinstance(spec, specs.DiscreteArray):
        return spaces.Discrete(int(spec.num_values)), lambda action: action
    if not (isinstance(spec, specs.MultiDiscreteArray) and len(spec.shape) == 1):
        return checks.reject("env_id", env_id, f"an environment with discrete actions, not {spec}")
    sizes = tuple(int(n) for n in spec.num_values)
    if mask != sizes:
        return spaces.MultiDiscrete(sizes), lambda action: action

    def each_choice(action: Action) -> jax.Array:
        return jnp.stack(jnp.unravel_index(action, sizes), axis=-1).astype(jnp.int32)

    return spaces.Discrete(math.prod(sizes)), each_choice


def _readers(specs: Any, spec: Any, types: Any) -> dict[str, Any]:
    """For every array of a struct of jumanji the function that makes of it what agents see, as a nested dict."""
    readers: dict[str, Any] = {}
    for name, its_types in _fields(types).items():
        its = getattr(spec, name)
        readers[name] = _reader(its) if isinstance(its, specs.Array) else _readers(specs, its, its_types)
    return readers


def _reader(spec: Any) -> Callable[[Any], jax.Array]:
    if not (hasattr(spec, "minimum") and np.issubdtype(spec.dtype, np.integer)):
        return jnp.asarray
    low, high = int(np.min(spec.minimum)), int(np.max(spec.maximum))
    count = high - low + 1
    return (lambda x: jax.nn.one_hot(x - low, count)) if 3 <= count <= _MOST_VALUES else jnp.asarray


def _read(readers: dict[str, Any], observation: Any) -> dict[str, Any]:
    values = _fields(observation)
    return {name: one(values[name]) if callable(one) else _read(one, values[name]) for name, one in readers.items()}


def _fields(struct: Any) -> dict[str, Any]:
    if hasattr(struct, "_asdict"):
        found: dict[str, Any] = struct._asdict()
        return found
    return {field.name: getattr(struct, field.name) for field in dataclasses.fields(struct)}
