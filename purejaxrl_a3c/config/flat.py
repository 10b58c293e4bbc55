"""The flat view of a nested config: every setting under one name."""

import dataclasses
import difflib
from typing import Any, TypeVar

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config.fields import bare, field_types, is_config, options, title

T = TypeVar("T")


def flat(config: Any) -> dict[str, Any]:
    """All settings by name, depth first. The configs in ``config`` are opened; they are not settings themselves."""
    found: dict[str, Any] = {}
    for name, value in _own(config).items():
        found |= flat(value) if is_config(value) else {name: value}
    return found


def parts(config: Any) -> dict[str, Any]:
    """The configs in ``config`` by the names of their fields, at every depth."""
    found: dict[str, Any] = {}
    for name, value in _own(config).items():
        found |= {name: value} | parts(value) if is_config(value) else {}
    return found


def is_float_setting(config: Any, name: str) -> bool:
    """Whether the setting ``name`` holds a float now, which may be an array and be mapped over."""
    holder = next(one for one in (config, *parts(config).values()) if name in field_types(type(one)))
    kinds = [bare(option) for option in options(field_types(type(holder))[name])]
    return float in kinds and isinstance(getattr(holder, name), float | int)


def replace(config: T, **changes: Any) -> T:
    """``config`` with other values of some fields, wherever in it they live.

    Args:
        config: any config.
        **changes: values by name. A whole part and fields of the new part may be given together:
            ``replace(config, optimizer=Adam(), adam_epsilon=1e-8)``.

    Returns:
        A config of the same type.

    Raises:
        InputError: for a name that is no field's, with the nearest names.
    """
    values = {name: changes.pop(name, value) for name, value in _own(config).items()}
    for name, part in values.items():
        if is_config(part):
            known = flat(part).keys() | parts(part).keys()
            inside = {key: changes.pop(key) for key in list(changes) if key in known}
            values[name] = replace(part, **inside) if inside else part
    if changes:
        known = flat(config).keys() | parts(config).keys()
        name, value = next(iter(changes.items()))
        nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)
        reject(name, value, f"the value of a field of {title(config)}; nearest: {', '.join(nearest)}")
    return dataclasses.replace(config, **values)  # type: ignore[type-var]


def _own(config: Any) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
