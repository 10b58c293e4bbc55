"""Checks of a config's values against the types and bounds of its fields."""

import math
import numbers
import operator
import typing
from collections.abc import Mapping
from typing import Any, Literal

import jax
import numpy as np

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config.fields import (
    Bounds,
    bare,
    bounds_of,
    field_types,
    is_config,
    is_config_type,
    is_float,
    options,
    title,
)


def check(config: Any) -> None:
    """Check every field of ``config``, and of the configs in it, against its type and its bounds.

    A float that is traced (under `jax.vmap` or `jax.jit`) has no value yet, and passes.

    Raises:
        InputError: naming the field, its value and what is accepted.
    """
    if is_config_type(config):
        reject("config", title(config), f"an instance, {title(config)}()")
    if not is_config(config):
        reject("config", config, "the Config of an algorithm, such as a3c.Config()")
    for name, annotation in field_types(type(config)).items():
        _check_field(name, getattr(config, name), annotation)


def is_concrete(value: Any) -> bool:
    """Whether ``value`` is known now, not only when the program runs."""
    return not isinstance(value, jax.core.Tracer)


def _check_field(name: str, value: Any, annotation: Any) -> None:
    accepted = [option for option in options(annotation) if option is not type(None)]
    if value is None and len(accepted) < len(options(annotation)):
        return
    if is_config(value) and type(value) in accepted:
        check(value)
        return
    problems = [_problem(name, value, option) for option in accepted]
    if all(problems):
        reject(name, value, " or ".join(dict.fromkeys(filter(None, problems))))


def _problem(name: str, value: Any, annotation: Any) -> str | None:
    """What ``value`` must be, or None if it is that."""
    kind, bounds = bare(annotation), bounds_of(annotation) or Bounds()
    origin = typing.get_origin(kind)
    if kind is int:
        return _int_problem(value, bounds)
    if kind is float:
        return _float_problem(value, bounds)
    if origin is Literal:
        known = typing.get_args(kind)
        return None if isinstance(value, str) and value in known else f"one of {', '.join(known)}"
    if origin is tuple:
        return _tuple_problem(name, value, typing.get_args(kind)[0])
    if origin is dict:
        return _dict_problem(name, value, typing.get_args(kind)[1])
    return None if isinstance(value, kind) else _with_article(kind)


def _int_problem(value: Any, bounds: Bounds) -> str | None:
    accepted = f"an int >= {bounds.low:g}" if math.isfinite(bounds.low) else "an int"
    try:
        is_int = not isinstance(value, bool | jax.Array) and bounds.low <= operator.index(value) <= bounds.high
    except TypeError:
        return accepted
    return None if is_int else accepted


def _float_problem(value: Any, bounds: Bounds) -> str | None:
    is_array = isinstance(value, jax.Array | np.ndarray)
    if isinstance(value, bool) or not (is_array or isinstance(value, numbers.Real)):
        return "a number"
    if is_array and value.shape != ():
        return "a single number; to try several, vmap over them"
    if not is_concrete(value):
        return None
    number = float(value)
    if math.isnan(number) or (math.isinf(number) and not bounds.infinite):
        return "finite"
    return None if bounds.admit(number) else bounds.describe()


def _tuple_problem(name: str, value: Any, item: Any) -> str | None:
    least = (bounds_of(item) or Bounds()).low
    accepted = "a tuple of numbers" if is_float(item) else f"a tuple of ints >= {least:g}"
    if not isinstance(value, tuple):
        return accepted
    for one in value:
        if problem := _problem(name, one, item):
            return reject(name, one, problem) if is_float(item) else accepted
    return None


def _dict_problem(name: str, value: Any, item: Any) -> str | None:
    is_pair, is_plain = typing.get_origin(item) is tuple, str in options(item)
    if not isinstance(value, Mapping):
        return f"a dict of {'pairs of numbers' if is_pair else 'values' if is_plain else 'numbers'} by name"
    problem_of = _pair_problem if is_pair else _plain_problem if is_plain else _number_problem
    for key, one in value.items():
        if problem := problem_of(one):
            reject(f"{name} {key}", one, problem)
    return None


def _number_problem(value: Any) -> str | None:
    return _float_problem(value, Bounds())


def _plain_problem(value: Any) -> str | None:
    """Such a value is part of the structure of a config's tree, so arrays are not accepted."""
    return None if isinstance(value, bool | int | float | str) else "a bool, a number of Python or a string"


def _pair_problem(value: Any) -> str | None:
    """A pair is part of the structure of a config's tree, so arrays are not accepted."""
    accepted = "two finite numbers of Python"
    if not isinstance(value, tuple) or len(value) != 2 or any(isinstance(x, jax.Array | np.ndarray) for x in value):
        return accepted
    return accepted if any(_float_problem(x, Bounds()) for x in value) else None


def _with_article(kind: type) -> str:
    known = {bool: "a bool", str: "a string"}
    names = {"Module": "flax module (an instance)", "GradientTransformation": "optax transformation"}
    name = title(kind) if is_config_type(kind) else names.get(kind.__name__, kind.__name__)
    return known.get(kind) or f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
