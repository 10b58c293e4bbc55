"""Errors that are raised before anything is compiled: each names the field, its value and what is accepted."""

import difflib
import importlib.metadata
import operator
import reprlib
from collections.abc import Callable, Collection
from typing import Any, NoReturn, TypeVar

import jax

T = TypeVar("T")
_SHORT = reprlib.Repr()  # a message is not the place for a whole config
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxtuple = _SHORT.maxlist = _SHORT.maxdict = 8


class InputError(ValueError):
    """A setting or an argument that is not accepted."""


def reject(field: str, value: Any, accepted: str) -> NoReturn:
    """Raise the one kind of error that bad input gets.

    Args:
        field: name of the setting or argument.
        value: what was given; long ones are shortened in the message.
        accepted: what would have been accepted, as the end of the sentence "it must be ...".

    Raises:
        InputError: always.
    """
    raise InputError(f"{field}: {_SHORT.repr(value)} is not accepted; it must be {accepted}")


def check_count(field: str, value: Any, least: int = 1) -> None:
    """Check that ``value`` is an int of at least ``least``.

    Raises:
        InputError: naming the field.
    """
    try:
        is_count = not isinstance(value, bool | jax.Array) and operator.index(value) >= least
    except TypeError:
        is_count = False
    if not is_count:
        reject(field, value, f"an int >= {least}")


def check_divides(field: str, value: int, name: str, number: int) -> None:
    """Check that ``value`` divides ``number``, which is called ``name`` in the message.

    Raises:
        InputError: naming the field.
    """
    if number % value:
        reject(field, value, f"a divisor of {number}, {name}")


def check_known(env_id: str, name: str, known: Collection[str]) -> None:
    """Check that a suite of environments knows ``name``.

    Args:
        env_id: the whole name, ``suite/name``.
        name: what the suite calls it.
        known: all names of the suite.

    Raises:
        InputError: with the three nearest names.
    """
    if not isinstance(name, str) or name not in known:
        ranked = difflib.get_close_matches(str(name), known, n=3, cutoff=0.0)
        what = "a gymnax environment" if name is env_id else f"an environment of {env_id.partition('/')[0]}"
        reject("env_id", env_id, f"the name of {what}; nearest: {', '.join(ranked)}")


def make_with(env_id: str, make: Callable[..., T], env_kwargs: dict[str, Any]) -> T:
    """What ``make(**env_kwargs)`` returns.

    Args:
        env_id: the whole name of the environment that it makes.
        make: a function of an environment's library.
        env_kwargs: arguments of the user's.

    Raises:
        InputError: if there are any arguments and ``make`` does not accept them, with its own words.
    """
    try:
        return make(**env_kwargs)
    # What libraries raise for such arguments; an unknown name or missing data are errors of other kinds.
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError, NotImplementedError) as error:
        if not env_kwargs:
            raise
        return reject("env_kwargs", env_kwargs, f"arguments that {env_id} takes ({error})")


def reject_missing_suite(env_id: str, error: Exception) -> NoReturn:
    """Raise the error that says how to install a suite of environments.

    Raises:
        InputError: always.
    """
    suite = env_id.partition("/")[0]
    # The suite's own package can be installed beside a checkout and beside an installed package alike.
    named = (line.partition(";") for line in importlib.metadata.requires("purejaxrl-a3c") or ())
    package = next((package.strip() for package, _, extra in named if f"'{suite}'" in extra.replace('"', "'")), suite)
    reject("env_id", env_id, f"of a suite that is installed: pip install '{package}' ({error})")
