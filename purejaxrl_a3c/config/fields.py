"""The types of a config's fields, and which numbers they accept."""

import math
import types
import typing
from typing import Annotated, Any, NamedTuple


class Bounds(NamedTuple):
    """Which numbers a field accepts, written beside the field: ``gamma: Annotated[float, Bounds(0, 1)] = 0.99``."""

    low: float = -math.inf
    high: float = math.inf
    open: bool = False  # whether the finite ends themselves are excluded
    infinite: bool = False  # whether inf is accepted, which switches a limit off

    def admit(self, value: float) -> bool:
        """Whether ``value`` is accepted."""
        if math.isinf(value):
            return self.infinite and value > 0
        return self.low < value < self.high if self.open else self.low <= value <= self.high

    def describe(self) -> str:
        """What is accepted, as the end of the sentence "it must be ..."."""
        left, right = "()" if self.open else "[]"
        if math.isfinite(self.low) and math.isfinite(self.high):
            return f"in {left}{self.low:g}, {self.high:g}{right}"
        if math.isfinite(self.low):
            return f"{'>' if self.open else '>='} {self.low:g}" + (", or inf for no limit" if self.infinite else "")
        return "finite"


Count = Annotated[int, Bounds(1)]
CountOrZero = Annotated[int, Bounds(0)]
NonNegative = Annotated[float, Bounds(0)]
Positive = Annotated[float, Bounds(0, open=True)]
PositiveOrInf = Annotated[float, Bounds(0, open=True, infinite=True)]
UnitInterval = Annotated[float, Bounds(0, 1)]


def is_config(value: Any) -> bool:
    """Whether ``value`` is a config: an instance of a class made by `configuration`."""
    return not isinstance(value, type) and is_config_type(type(value))


def is_config_type(kind: Any) -> bool:
    """Whether ``kind`` is a class made by `configuration`."""
    return isinstance(kind, type) and "__is_configuration__" in vars(kind)


def title(config: Any) -> str:
    """``a3c.Config`` of a config or of its class, for messages."""
    kind = config if isinstance(config, type) else type(config)
    *_, package, module = ["", *kind.__module__.split(".")]
    return f"{package if module == 'config' else module}.{kind.__name__}"


_FIELD_TYPES: dict[type, dict[str, Any]] = {}


def field_types(kind: type) -> dict[str, Any]:
    """The annotations of a config's fields by name, with their `Bounds`."""
    if kind not in _FIELD_TYPES:  # Reading them takes longer than all else that is done with a config.
        _FIELD_TYPES[kind] = typing.get_type_hints(kind, include_extras=True)
    return _FIELD_TYPES[kind]


def options(annotation: Any) -> list[Any]:
    """The alternatives of a union, each with its own metadata; the annotation itself if it is not a union."""
    if typing.get_origin(annotation) is Annotated and not _own_bounds(annotation):
        return options(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [option for part in typing.get_args(annotation) for option in options(part)]
    return [annotation]


def bare(annotation: Any) -> Any:
    """The annotation without its metadata."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation


def bounds_of(annotation: Any) -> Bounds | None:
    """The `Bounds` in an annotation: its own, or those of its alternatives or items."""
    own = _own_bounds(annotation)
    return own or next((found for part in typing.get_args(annotation) if (found := bounds_of(part))), None)


def is_float(annotation: Any) -> bool:
    """Whether a field may hold floats: one, or several in a tuple or dict."""
    return annotation is float or any(is_float(part) for part in typing.get_args(annotation))


def _own_bounds(annotation: Any) -> Bounds | None:
    return next((one for one in getattr(annotation, "__metadata__", ()) if isinstance(one, Bounds)), None)
