"""Errors that are raised before anything is compiled: each names the field, its value and what is accepted."""

import dataclasses
import math
import numbers
import operator

import jax
import numpy as np
from gymnax.environments import spaces

_ABOVE_ZERO = ("max_gradient_norm", "rmsprop_epsilon")
_AT_LEAST_ZERO = ("entropy_coefficient", "learning_rate", "value_coefficient")
_BETWEEN_0_AND_1 = ("gamma", "lambda_", "rmsprop_decay")
_MOST_FRAMES = 2**31 - 1  # frames are counted in int32


class InputError(ValueError):
    """A setting that is not accepted."""


def reject(field, value, accepted):
    """Raise the one kind of error that a bad setting gets.

    Raises:
        InputError: always.
    """
    raise InputError(f"{field}: {value!r} is not accepted; it must be {accepted}")


def check_count(field, value):
    """Check that ``value`` is a whole number of at least 1.

    Raises:
        InputError: naming the field.
    """
    if not _is_count(value):
        reject(field, value, "an int >= 1")


def check_fields(config, activations):
    """Check every field of ``config`` against its declared type, and its value against what its name means.

    A float may be traced (under `jax.vmap` or `jax.jit`); it has no value yet, and passes.

    Args:
        config: a dataclass of ints, floats, bools and strings, and ``hidden_sizes``.
        activations: the accepted names.

    Raises:
        InputError: naming the field, its value and what is accepted.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.type is int:
            check_count(field.name, value)
        elif field.type is bool and not isinstance(value, bool):
            reject(field.name, value, "a bool")
        elif field.type is float:
            _check_float(field.name, value)
    if config.total_frames > _MOST_FRAMES:
        reject("total_frames", config.total_frames, f"at most {_MOST_FRAMES}")
    if not isinstance(config.hidden_sizes, tuple) or not all(map(_is_count, config.hidden_sizes)):
        reject("hidden_sizes", config.hidden_sizes, "a tuple of ints >= 1")
    if not isinstance(config.activation, str) or config.activation not in activations:
        reject("activation", config.activation, f"one of {', '.join(activations)}")


def check_discrete(env_id, action_space):
    """Check that a categorical policy fits the environment's actions.

    Raises:
        InputError: naming the environment and its action space.
    """
    if not isinstance(action_space, spaces.Discrete):
        reject("env_id", env_id, f"an environment with discrete actions; the actions of this one are {action_space}")


def count_iterations(total_frames, frames_per_iteration):
    """Whole iterations in a run.

    Raises:
        InputError: if there is not a single one.
    """
    iterations = total_frames // frames_per_iteration
    if iterations < 1:
        reject("total_frames", total_frames, f"at least {frames_per_iteration}, the frames of one iteration")
    return iterations


def _is_count(value):
    try:
        return not isinstance(value, bool | jax.Array) and operator.index(value) >= 1
    except TypeError:
        return False


def _check_float(field, value):
    is_array = isinstance(value, jax.Array | np.ndarray)
    if isinstance(value, bool) or not (is_array or isinstance(value, numbers.Real)):
        reject(field, value, "a number")
    if is_array and value.shape != ():
        reject(field, value, "a single number; to try several, vmap over them")
    if isinstance(value, jax.core.Tracer):
        return
    number = float(value)
    if not math.isfinite(number):
        reject(field, value, "finite")
    if field in _BETWEEN_0_AND_1 and not 0 <= number <= 1:
        reject(field, value, "in [0, 1]")
    if field in _AT_LEAST_ZERO and number < 0:
        reject(field, value, ">= 0")
    if field in _ABOVE_ZERO and number <= 0:
        reject(field, value, "> 0")
