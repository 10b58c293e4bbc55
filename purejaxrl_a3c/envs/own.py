"""Environments of one's own by name: ``my_module:make_env``."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import jax

from purejaxrl_a3c.checks import make_with, reject
from purejaxrl_a3c.envs.randomize import Family
from purejaxrl_a3c.envs.suites import gymnax
from purejaxrl_a3c.types import Env

ACCEPTED = "the name of a module and of a function in it, such as my_module:make_env, that returns an Env"


def is_own(env_id: Any) -> bool:
    """Whether this is a name of an environment of one's own."""
    return isinstance(env_id, str) and ":" in env_id and "/" not in env_id


def make_own(env_id: str, env_params: dict[str, Any] | None = None, env_kwargs: dict[str, Any] | None = None) -> Family:
    """The environment that a function of one's own makes; it has parameters if it is written as gymnax's are.

    Args:
        env_id: ``module:function``. The module is looked for in the working folder too. The function returns an
            episodic `Env`, or an environment that is written as gymnax's are.
        env_params: values for parameters of the latter.
        env_kwargs: what the function takes.

    Raises:
        InputError: if there is no such function, or it returns something else.
    """
    # Making an environment may compute with arrays, which must not become part of a trace around this call.
    with jax.ensure_compile_time_eval():
        env = make_with(env_id, load_function(env_id), env_kwargs or {})
    if isinstance(env, Env):
        if env_params:
            reject("env_params", env_params, "empty, for an Env: only environments written as gymnax's take parameters")
        if env.freeze is not None:
            reject("env_id", env_id, "of an episodic Env; one that resets itself can be given as an object, in Python")
        return Family(member=lambda values: env)
    if hasattr(env, "step_env") and hasattr(env, "default_params"):
        return gymnax.family_of(env, None, env_params, env_id)
    if hasattr(env, "action_space") and hasattr(env, "step"):
        accepted = "an Env; a class of Gymnasium is registered with it and then called gym/my_module:Name-v0"
        return reject("env_id", env_id, f"{ACCEPTED}, not {type(env).__name__}; {accepted}")
    return reject("env_id", env_id, f"{ACCEPTED}, not {type(env).__name__}")


def load_function(env_id: str) -> Callable[..., Any]:
    """The function ``module:function``.

    Raises:
        InputError: if there is none.
    """
    module, _, name = env_id.partition(":")
    if not module or module.startswith("."):
        reject("env_id", env_id, ACCEPTED)
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as `python -m` does, and a console script does not
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and lacks another one
        reject("env_id", env_id, f"{ACCEPTED} ({error})")
    function = getattr(found, name, None)
    if not callable(function):
        reject("env_id", env_id, f"{ACCEPTED} ({module} has no function {name})")
    return function
