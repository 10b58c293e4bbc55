"""What makes a class a config: a frozen dataclass, a pytree, and lenient about how a value is written."""

import dataclasses
import typing
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.config.fields import bare, field_types, is_config, is_float, options

T = TypeVar("T")


@typing.dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def configuration(kind: type[T]) -> type[T]:
    """Make ``kind`` a frozen dataclass whose instances are pytrees; see the package's docstring.

    What is written in another way is converted where nothing is lost: ``5e5`` and NumPy's integers to int, lists to
    tuples, NumPy's scalars to Python's, arrays to float32. `check` checks values later, when they are used.
    """

    def convert_fields(self: Any) -> None:
        for name, annotation in field_types(type(self)).items():
            object.__setattr__(self, name, _converted(getattr(self, name), annotation))

    kind.__post_init__ = convert_fields  # type: ignore[attr-defined]
    made = dataclasses.dataclass(frozen=True)(kind)
    made.__is_configuration__ = True  # type: ignore[attr-defined]
    jax.tree_util.register_pytree_with_keys(made, _flatten, lambda static, leaves: _unflatten(made, static, leaves))
    return made


def with_array_floats(config: T) -> T:
    """``config`` with an array in place of every float, so that one compiled program serves all values.

    Numbers in dicts and tuples stay as they are.
    """
    changes: dict[str, Any] = {}
    for name, annotation in field_types(type(config)).items():
        value = getattr(config, name)
        if is_config(value):
            changes[name] = with_array_floats(value)
        elif is_float(annotation) and isinstance(value, float | int):
            changes[name] = jnp.float32(value)
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def _converted(value: Any, annotation: Any) -> Any:
    kinds = [bare(option) for option in options(annotation)]
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.shape == ()):
        value = value.item()
    tuples = [kind for kind in kinds if typing.get_origin(kind) is tuple]
    if tuples and type(value) in (list, tuple):
        return tuple(_converted(one, typing.get_args(tuples[0])[0]) for one in value)
    if int in kinds and isinstance(value, float) and value.is_integer():
        return int(value)
    if is_float(annotation):
        if isinstance(value, dict):
            item = next((typing.get_args(kind)[1] for kind in kinds if typing.get_origin(kind) is dict), float)
            return {key: _converted(one, item) for key, one in value.items()}
        if isinstance(value, jax.Array | np.ndarray) and value.dtype != jnp.float32:
            return value.astype(np.float32)
    return value


class _Static(NamedTuple):
    """What of a config belongs to the structure of its tree; hashable."""

    children: tuple[str, ...]  # names of the fields with leaves
    fields: tuple[tuple[str, Any], ...]  # the other fields, by name
    collections: tuple[tuple[str, type, tuple[tuple[Any, Any], ...]], ...]  # Python numbers in tuples and dicts


def _flatten(config: Any) -> tuple[list[tuple[Any, Any]], _Static]:
    children: dict[str, Any] = {}
    fields, collections = [], []
    for name, annotation in field_types(type(config)).items():
        value = getattr(config, name)
        if type(value) in (tuple, dict) and is_float(annotation):
            items = dict(value) if isinstance(value, dict) else dict(enumerate(value))
            static = tuple((key, one) for key, one in items.items() if _is_static(one))
            collections.append((name, type(value), static))
            if arrays := {key: one for key, one in items.items() if not _is_static(one)}:
                children[name] = arrays
        elif is_config(value) or (is_float(annotation) and not _is_static(value)):
            children[name] = value
        else:
            fields.append((name, value))
    keyed = [(jax.tree_util.GetAttrKey(name), value) for name, value in children.items()]
    return keyed, _Static(tuple(children), tuple(fields), tuple(collections))


def _unflatten(kind: type[T], static: _Static, leaves: Iterable[Any]) -> T:
    values = dict(static.fields) | dict(zip(static.children, leaves, strict=True))
    for name, collection, numbers in static.collections:
        items = dict(numbers) | values.get(name, {})
        values[name] = items if collection is dict else tuple(items[i] for i in range(len(items)))
    made = object.__new__(kind)  # unchecked and unconverted: JAX also puts things into trees that are not arrays
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def _is_static(value: Any) -> bool:
    if type(value) is tuple:
        return all(_is_static(one) for one in value)
    return value is None or isinstance(value, bool | int | float | str)
