"""Errors that are raised before anything is compiled: each names the field, its value and what is accepted."""

import jax
from gymnax.environments import spaces

from purejaxrl_a3c.networks import ACTIVATIONS

_AT_LEAST_ONE = ("num_workers", "envs_per_worker", "num_envs", "rollout_length", "total_frames")
_BETWEEN_0_AND_1 = ("gamma", "lambda_", "rmsprop_decay")
_AT_LEAST_ZERO = ("entropy_coefficient", "value_coefficient", "learning_rate")
_ABOVE_ZERO = ("max_gradient_norm", "rmsprop_epsilon")
_MOST_FRAMES = 2**31 - 1  # frames are counted in int32


def reject(field, value, accepted):
    """Raise the one kind of error that a bad setting gets.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{field}: {value!r} is not accepted; it must be {accepted}")


def check_fields(config):
    """Check the fields of ``config`` that have a meaning shared by all algorithms.

    Floats that are traced (under `jax.vmap` or `jax.jit`) have no value yet and pass.

    Raises:
        ValueError: naming the field, its value and what is accepted.
    """
    for name, value in vars(config).items():
        if isinstance(value, jax.core.Tracer):
            continue
        if name in _AT_LEAST_ONE and not (_is_int(value) and value >= 1):
            reject(name, value, "an int >= 1")
        if name in _BETWEEN_0_AND_1 and not 0 <= value <= 1:
            reject(name, value, "in [0, 1]")
        if name in _AT_LEAST_ZERO and not value >= 0:
            reject(name, value, ">= 0")
        if name in _ABOVE_ZERO and not value > 0:
            reject(name, value, "> 0")
    if config.total_frames > _MOST_FRAMES:
        reject("total_frames", config.total_frames, f"at most {_MOST_FRAMES}")
    if not isinstance(config.hidden_sizes, tuple) or not all(
        _is_int(size) and size >= 1 for size in config.hidden_sizes
    ):
        reject("hidden_sizes", config.hidden_sizes, "a tuple of ints >= 1")
    if config.activation not in ACTIVATIONS:
        reject("activation", config.activation, f"one of {', '.join(ACTIVATIONS)}")


def check_discrete(env_id, action_space):
    """Check that a categorical policy fits the environment's actions.

    Raises:
        ValueError: naming the environment and its action space.
    """
    if not isinstance(action_space, spaces.Discrete):
        reject(
            "env_id",
            env_id,
            f"an environment with discrete actions; the actions of this one are {action_space}",
        )


def count_iterations(total_frames, frames_per_iteration):
    """Whole iterations in a run.

    Raises:
        ValueError: if there is not a single one.
    """
    iterations = total_frames // frames_per_iteration
    if iterations < 1:
        reject("total_frames", total_frames, f"at least {frames_per_iteration}, the frames of one iteration")
    return iterations


def _is_int(value):
    return isinstance(value, int) and not isinstance(value, bool)
