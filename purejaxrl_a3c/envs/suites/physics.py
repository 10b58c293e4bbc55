"""The fields of a physics model as parameters of an environment: what brax and MuJoCo Playground share."""

import copy
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.envs.randomize import Family
from purejaxrl_a3c.types import Env


def family(env: Any, attribute: str, make: Callable[[Any], Env]) -> Family:
    """The environment of a library with factors on fields of its physics model.

    A parameter is a field of floats, with dots in the names of nested ones: ``body_mass``, ``opt.gravity``. Its value
    is one factor on the whole field, 1 by default. Each field is scaled by itself: the inertia stays when the mass
    changes.

    Args:
        env: the library's environment, which does not change.
        attribute: where it keeps the model.
        make: makes an `Env` of such an environment.
    """
    fields = {
        _name(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(env, attribute))
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    }

    def problem(name: str, value: float) -> str | None:
        if not np.asarray(fields[name]).any():
            return "left out: this field is zero everywhere, and a factor does not change it"
        return None if value >= 0 else "a factor >= 0"

    return Family(
        member=lambda factors: make(_scaled(env, attribute, factors) if factors else env),
        parameters=dict.fromkeys(fields, 1.0),
        problem=problem,
    )


def _scaled(env: Any, attribute: str, factors: Mapping[str, Any]) -> Any:
    """A copy of the environment with factors on fields of its model."""

    def scale(path: Any, leaf: Any) -> Any:
        return leaf * factors[_name(path)] if _name(path) in factors else leaf

    scaled = copy.copy(env)
    for name, value in vars(env).items():
        # Playground's environments choose among their own methods when they are made. These would read the old model.
        if isinstance(value, types.MethodType) and value.__self__ is env:
            setattr(scaled, name, types.MethodType(value.__func__, scaled))
    setattr(scaled, attribute, jax.tree_util.tree_map_with_path(scale, getattr(env, attribute)))
    return scaled


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
