"""Whether an environment returns what agents expect, without computing anything."""

from typing import Any

import jax
import jax.numpy as jnp

from purejaxrl_a3c.envs.observations import shape_of, split_mask
from purejaxrl_a3c.types import Env


def wrong_types(env: Env) -> str | None:
    """What is wrong with the shapes and dtypes that ``env`` returns; None if nothing is."""
    key = jax.random.key(0)
    state, obs = jax.eval_shape(env.reset, key)
    action = jax.eval_shape(env.action_space.sample, key)
    keys = key if env.freeze is None else jax.random.split(key)
    new_state, timestep = jax.eval_shape(env.step, keys, state, action)
    if not _is_observation(obs):
        return f"reset returns an observation {_told(obs)}, which must be an array or a dict of arrays"
    if shape_of(obs) != env.observation_shape:
        return f"reset returns an observation {_told(obs)}, but observation_shape is {env.observation_shape}"
    mask = split_mask(obs)[1]
    if mask is not None and (not hasattr(mask, "dtype") or mask.dtype != bool):
        return f"reset returns an action_mask {_told(mask)}, which must be bool"
    before, after = _by_path(state), _by_path(new_state)
    if before.keys() != after.keys():
        return f"reset and step return states with other entries: {sorted(before.keys() ^ after.keys())}"
    for name, x in before.items():
        y = after[name]
        if (x.shape, x.dtype) != (y.shape, y.dtype):
            return f"the state's {name or 'array'} is {_told(x)} in reset and {_told(y)} in step"
    truth, number = jax.ShapeDtypeStruct((), bool), jax.ShapeDtypeStruct((), jnp.float32)
    wanted = {"obs": obs, "final_obs": obs, "reward": number, "terminated": truth, "truncated": truth}
    for name, like in wanted.items():
        found = getattr(timestep, name)
        if _told(found) != _told(like):
            return f"step returns {name} {_told(found)}, which must be {_told(like)}"
    return None


def _is_observation(obs: Any) -> bool:
    if isinstance(obs, dict):
        return bool(obs) and all(isinstance(name, str) and _is_observation(x) for name, x in obs.items())
    return hasattr(obs, "shape")


def _by_path(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def _told(array: Any) -> str:
    if isinstance(array, dict):
        return "{" + ", ".join(f"{name}: {_told(array[name])}" for name in sorted(array)) + "}"
    return f"{array.dtype}{list(array.shape)}" if hasattr(array, "shape") else repr(array)
