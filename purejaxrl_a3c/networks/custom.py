"""Checks a torso that is a flax module of the user's own, before anything is compiled."""

from collections.abc import Callable
from typing import Any, NoReturn

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.envs.observations import Shape, map_shape, shape_of

_ROWS = 7  # observations in a batch; the number itself does not matter


def check_is_instance(torso: Any) -> None:
    """Check that ``torso`` is not a class of flax modules, which is an easy mistake.

    Raises:
        InputError: if it is one.
    """
    if isinstance(torso, type) and issubclass(torso, nn.Module):
        raise InputError(
            f"torso: the class {torso.__name__} is not accepted; it must be an instance of it, {torso.__name__}(...)"
        )


def check_module(torso: nn.Module, observation_shape: Shape) -> None:
    """Check that ``torso`` turns observations ``[..., *observation_shape]`` into features ``[..., F]``.

    It gets a dict of arrays where an observation is one.

    Its only variables must be its ``params``, and it must not draw random numbers: a network is a function of its
    parameters and the observations. The module is traced, not run.

    Raises:
        InputError: saying what the module does instead.
    """

    def trace(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return jax.eval_shape(function, *arguments)
        except InputError:
            raise
        except flax.errors.InvalidRngError as error:
            _reject(torso, observation_shape, "it draws random numbers", error)
        except Exception as error:
            problem = f"for an input of shape {shape_of(arguments[-1])} it fails with {_describe_error(error)}"
            _reject(torso, observation_shape, problem, error)

    def of_rows(*rows: int) -> Any:
        return map_shape(lambda shape: jax.ShapeDtypeStruct((*rows, *shape), jnp.float32), observation_shape)

    one, several = of_rows(), of_rows(_ROWS)
    variables = trace(lambda obs: torso.init(jax.random.key(0), obs), one)
    if others := sorted(set(variables) - {"params"}):
        _reject(torso, observation_shape, f"it has the variables {', '.join(others)}")
    features = trace(torso.apply, variables, one)
    if not _is_vector(features):
        problem = f"for an input of shape {shape_of(one)} its output is {_describe(features)}"
        _reject(torso, observation_shape, problem)
    rows = trace(torso.apply, variables, several)
    if _describe(rows) != f"{features.dtype}{[_ROWS, *features.shape]}":
        problem = f"for an input of shape {shape_of(several)} its output is {_describe(rows)}"
        _reject(torso, observation_shape, problem)


def _is_vector(output: Any) -> bool:
    is_array = isinstance(output, jax.ShapeDtypeStruct)
    return is_array and jnp.issubdtype(output.dtype, jnp.floating) and len(output.shape) == 1


def _reject(torso: nn.Module, observation_shape: Shape, problem: str, cause: Exception | None = None) -> NoReturn:
    observations = map_shape(lambda shape: f"[{', '.join(['...', *map(str, shape)])}]", observation_shape)
    raise InputError(
        f"torso: the flax module {type(torso).__name__} is not accepted, because {problem}; it must turn observations "
        f"{observations} into features [..., F], with no variables but params and without random numbers"
    ) from cause


def _describe(output: Any) -> str:
    """``float32[7, 3]`` for an array of this type and shape; a tree of these for a tree."""
    return str(jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", output))


def _describe_error(error: Exception) -> str:
    first_line = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {first_line[:200]}"
