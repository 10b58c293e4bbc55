"""Command-line flags of an algorithm, made from its config: one for each setting, in groups."""

import ast
import copy
import dataclasses
import functools
import inspect
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union

import tyro

from purejaxrl_a3c.config import field_types, is_config
from purejaxrl_a3c.config.fields import bare, options
from purejaxrl_a3c.run.options import Options

_GROUPS = {"env": "environment", "network": "network", "optimizer": "optimizer"}
"""Parts of a config to groups of flags; everything else is in the group "algorithm"."""


class Flag(NamedTuple):
    """One flag."""

    group: str
    name: str
    type: Any
    default: Any
    help: str


def flags_of(name: str, config: Any, options: Options) -> Any:
    """The flags of one algorithm, as a type for tyro.

    Args:
        name: of the algorithm.
        config: its settings, which are the flags' defaults.
        options: likewise, of the run.

    Returns:
        A dataclass of groups of flags; `read_flags` reads its instances.
    """
    flags = [*_flags_of_config(config), *_flags_of_options(options)]
    groups = {
        title: [flag for flag in flags if flag.group == title] for title in (*_GROUPS.values(), "algorithm", "run")
    }
    fields = [(title, _group(title, some)) for title, some in groups.items() if some]
    return subcommand(name, config, fields)


def subcommand(name: str, config: Any, fields: Sequence[tuple[str, Any]] = ()) -> Any:
    """An algorithm as a type for tyro, with these groups of flags: names and types."""
    made = dataclasses.make_dataclass(name.replace("-", "_"), fields, frozen=True)
    made.__doc__ = (inspect.getdoc(inspect.getmodule(type(config))) or "").partition("\n")[0]
    return Annotated[made, tyro.conf.subcommand(name, prefix_name=False)]


def read_flags(flags: Any) -> tuple[dict[str, Any], Options]:
    """``(settings by name, Options)`` from an instance of what `flags_of` makes."""
    groups = {field.name: vars(getattr(flags, field.name)) for field in dataclasses.fields(flags)}
    run = Options(**groups.pop("run"))
    return {name: value for group in groups.values() for name, value in group.items()}, run


def _group(title: str, flags: list[Flag]) -> Any:
    fields = []
    for flag in flags:
        given = dataclasses.field(default_factory=functools.partial(copy.copy, flag.default))  # dicts are mutable
        fields.append((flag.name, Annotated[flag.type, tyro.conf.arg(help=flag.help)], given))
    made = dataclasses.make_dataclass(title, fields, frozen=True)
    made.__doc__ = ""
    return made


def _flags_of_config(config: Any, group: str = "algorithm") -> Iterator[Flag]:
    texts = docstrings(type(config))
    for name, annotation in field_types(type(config)).items():
        value = getattr(config, name)
        if is_config(value):
            yield from _flags_of_config(value, _GROUPS.get(name, group))
        elif (kind := _flag_type(annotation)) is not None:
            yield Flag(group, name, kind, value, texts.get(name, ""))


def _flags_of_options(options: Options) -> Iterator[Flag]:
    texts, types = docstrings(Options), typing.get_type_hints(Options)
    for field in dataclasses.fields(Options):
        yield Flag("run", field.name, types[field.name], getattr(options, field.name), texts[field.name])


def _flag_type(annotation: Any) -> Any:
    """The alternatives of a field that can be written on a command line, without bounds; None if there are none."""
    kinds = [bare(option) for option in options(annotation)]
    written = [_bare_items(kind) for kind in kinds if _is_written(kind)]
    return Union[tuple(written)] if any(kind is not type(None) for kind in written) else None  # noqa: UP007


def _is_written(kind: Any) -> bool:
    return kind in (int, float, bool, str, Path, type(None)) or typing.get_origin(kind) in (Literal, tuple, dict)


def _bare_items(kind: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        item: Any = bare(typing.get_args(kind)[0])
        return tuple[item, ...]
    if typing.get_origin(kind) is dict:
        value: Any = bare(typing.get_args(kind)[1])
        return dict[str, value]
    return kind


def docstrings(kind: type) -> Mapping[str, str]:
    """The text under each field of a class, on one line, by the field's name."""
    return _read_docstrings(kind)  # mypy takes `type[Any]` for unhashable, which `cache` alone would refuse


@functools.cache
def _read_docstrings(kind: type) -> Mapping[str, str]:
    body: Any = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    found, name = {}, ""
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name:
            found[name] = " ".join(str(node.value.value).split())
    return found
