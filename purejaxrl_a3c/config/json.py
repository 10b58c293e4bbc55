"""Configs to JSON and back, by the flat names of their settings."""

import math
from typing import Any, TypeVar

import jax
import numpy as np

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config.fields import field_types, is_config_type, options, title
from purejaxrl_a3c.config.flat import flat, parts, replace

T = TypeVar("T")


def to_json(config: Any) -> dict[str, Any]:
    """All settings of ``config`` by name, as JSON can hold them.

    A part that may be of several classes, such as the optimizer, adds the title of its class under its name. What JSON
    cannot hold, such as a flax module, becomes its type's name in angle brackets, which `from_json` refuses.
    """
    classes = {name: title(part) for name, part in parts(config).items() if len(_classes(config, name)) > 1}
    return classes | {name: _to_plain(value) for name, value in flat(config).items()}


def from_json(kind: type[T], values: Any) -> T:
    """The config of the class ``kind`` whose `to_json` went through JSON.

    Raises:
        InputError: if the names are not those of its settings, or a value is one that JSON could not hold.
    """
    if not isinstance(values, dict):
        reject("config", values, f"the settings of {title(kind)} by name")
    config = kind()
    while wanted := [n for n, part in parts(config).items() if values.get(n, title(part)) != title(part)]:
        config = replace(config, **{wanted[0]: _class_of(config, wanted[0], values[wanted[0]])()})
    settings = {name: _from_plain(name, value) for name, value in values.items() if name not in parts(config)}
    odd = sorted(settings.keys() ^ flat(config).keys())
    if odd:
        reject("config", odd, f"the settings of {title(kind)}, with nothing missing and nothing more")
    return replace(config, **settings)


def _classes(config: Any, part: str) -> dict[str, Any]:
    """The classes that a part of ``config`` may be of, by title."""
    holder = next(one for one in (config, *parts(config).values()) if part in field_types(type(one)))
    return {title(one): one for one in options(field_types(type(holder))[part]) if is_config_type(one)}


def _class_of(config: Any, part: str, name: str) -> Any:
    classes = _classes(config, part)
    if name not in classes:
        reject(part, name, f"one of {', '.join(classes)}")
    return classes[name]


def _to_plain(value: Any) -> Any:
    if type(value) is tuple:
        return [_to_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _to_plain(one) for key, one in value.items()}
    if isinstance(value, jax.Array | np.ndarray):
        return np.asarray(value).tolist()
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    return value if value is None or isinstance(value, bool | int | float | str) else f"<{type(value).__name__}>"


def _from_plain(name: str, value: Any) -> Any:
    if isinstance(value, str) and value.startswith("<"):
        reject(name, value, "something that JSON can hold: such an object has to be given again in Python")
    return math.inf if value == "inf" else value
