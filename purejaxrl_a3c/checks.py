"""Errors that are raised before anything is compiled: each names the field, its value and what is accepted."""

import dataclasses
import difflib
import math
import numbers
import operator

import flax.linen as nn
import jax
import numpy as np

_ABOVE_ZERO = (
    "adam_epsilon",
    "clip_c",
    "clip_range",
    "clip_rho",
    "initial_scale",
    "kl_target",
    "max_gradient_norm",
    "rmsprop_epsilon",
    "service_cv",
    "slowness",
)
_AT_LEAST_ZERO = (
    "clip_rewards",
    "correction_strength",
    "entropy_coefficient",
    "extrinsic_coefficient",
    "intrinsic_coefficient",
    "kl_coefficient",
    "lag",
    "learning_rate",
    "outer_learning_rate",
    "predictor_learning_rate",
    "stop_kl",
    "value_coefficient",
)
_BETWEEN_0_AND_1 = ("gamma", "intrinsic_gamma", "lambda_", "outer_momentum", "rmsprop_decay", "sticky_actions")
_MAY_BE_ZERO = ("device_delay", "max_lead", "observe", "stagger_resets", "time_limit", "warm_up")  # of the ints
_MOST_FRAMES = 2**31 - 1  # frames are counted in int32


class InputError(ValueError):
    """A setting that is not accepted."""


def reject(field, value, accepted):
    """Raise the one kind of error that a bad setting gets.

    Raises:
        InputError: always.
    """
    raise InputError(f"{field}: {value!r} is not accepted; it must be {accepted}")


def check_count(field, value, least=1):
    """Check that ``value`` is a whole number of at least ``least``.

    Raises:
        InputError: naming the field.
    """
    if not _is_count(value, least):
        reject(field, value, f"an int >= {least}")


def check_fields(config, choices):
    """Check every field of ``config`` against its declared type, and its value against what its name means.

    A float may be traced (under `jax.vmap` or `jax.jit`); it has no value yet, and passes.

    Args:
        config: a dataclass of numbers, bools, strings, tuples of numbers, ``env_params``, and dataclasses of those.
        choices: the accepted values of fields that name something; of these, a flax module passes too as ``torso``.

    Raises:
        InputError: naming the field, its value and what is accepted.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            if not isinstance(value, field.type):
                article = "an" if field.type.__name__[0] in "AEIOU" else "a"
                reject(field.name, value, f"{article} {field.type.__name__}")
            check_fields(value, choices)
        elif field.type is int or (field.type == int | None and value is not None):
            check_count(field.name, value, least=_least(field.name))
            if value > _MOST_FRAMES:
                reject(field.name, value, f"at most {_MOST_FRAMES}")
        elif field.type is bool and not isinstance(value, bool):
            reject(field.name, value, "a bool")
        elif field.type is float:
            _check_float(field.name, value)
        elif field.type == tuple[int, ...] and not _is_tuple_of_counts(value, field.name):
            reject(field.name, value, f"a tuple of ints >= {_least(field.name)}")
        elif field.type == tuple[float, ...]:
            if not isinstance(value, tuple):
                reject(field.name, value, "a tuple of numbers")
            for number in value:
                _check_float(field.name, number)
        elif field.name in choices and not _is_choice(field.name, value, choices[field.name]):
            reject(field.name, value, f"one of {', '.join(choices[field.name])}")
        elif field.name == "env_params":
            if not isinstance(value, dict):
                reject(field.name, value, "a dict of numbers by name")
            for name, number in value.items():
                _check_float(f"env_params {name}", number)


def check_divides(field, value, name, number):
    """Check that ``value`` divides ``number``, which is called ``name``.

    Raises:
        InputError: naming the field.
    """
    if number % value:
        reject(field, value, f"a divisor of {number}, {name}")


def check_known(env_id, name, known):
    """Check that a suite of environments knows ``name``.

    Args:
        env_id: the whole name, ``suite/name``.
        name: what the suite calls it.
        known: all names of the suite.

    Raises:
        InputError: naming the nearest names.
    """
    if not isinstance(name, str) or name not in known:
        nearest = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4) or known
        what = "a gymnax environment" if name is env_id else f"an environment of {env_id.partition('/')[0]}"
        reject("env_id", env_id, f"the name of {what}; nearest: {', '.join(nearest)}")


def reject_missing_suite(env_id, error):
    """Raise the error that says how to install a suite of environments.

    Raises:
        InputError: always.
    """
    suite = env_id.partition("/")[0]
    reject("env_id", env_id, f"of a suite that is installed: pip install 'purejaxrl-a3c[{suite}]' ({error})")


def count_iterations(total_frames, frames_per_iteration):
    """Whole iterations in a run.

    Raises:
        InputError: if there is not a single one.
    """
    iterations = total_frames // frames_per_iteration
    if iterations < 1:
        reject("total_frames", total_frames, f"at least {frames_per_iteration}, the frames of one iteration")
    return iterations


def is_concrete(value):
    """Whether ``value`` is known now, not only when the program runs."""
    return not isinstance(value, jax.core.Tracer)


def _is_count(value, least):
    try:
        return not isinstance(value, bool | jax.Array) and operator.index(value) >= least
    except TypeError:
        return False


def _is_tuple_of_counts(value, field):
    return isinstance(value, tuple) and all(_is_count(one, _least(field)) for one in value)


def _least(field):
    return 0 if field in _MAY_BE_ZERO else 1


def _is_choice(field, value, accepted):
    return (isinstance(value, str) and value in accepted) or (field == "torso" and isinstance(value, nn.Module))


def _check_float(field, value):
    is_array = isinstance(value, jax.Array | np.ndarray)
    if isinstance(value, bool) or not (is_array or isinstance(value, numbers.Real)):
        reject(field, value, "a number")
    if is_array and value.shape != ():
        reject(field, value, "a single number; to try several, vmap over them")
    if not is_concrete(value):
        return
    number = float(value)
    if not math.isfinite(number):
        reject(field, value, "finite")
    if field in _BETWEEN_0_AND_1 and not 0 <= number <= 1:
        reject(field, value, "in [0, 1]")
    if field == "momentum" and not -1 < number < 1:
        reject(field, value, "in (-1, 1)")
    if field in _AT_LEAST_ZERO and number < 0:
        reject(field, value, ">= 0")
    if field in _ABOVE_ZERO and number <= 0:
        reject(field, value, "> 0")
