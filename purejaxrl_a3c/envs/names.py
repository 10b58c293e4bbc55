"""The names of all environments."""

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import jax

from purejaxrl_a3c.checks import reject, reject_missing_suite
from purejaxrl_a3c.envs.suites import craftax, gymnax

_NAMES: dict[str, tuple[str, Callable[[Any], Iterable[str]]]] = {
    "brax": ("brax.envs", lambda module: module._envs),  # brax lists them nowhere else
    "craftax": ("craftax", lambda module: craftax.NAMES),
    "jumanji": ("jumanji", lambda module: module.registered_environments()),
    "navix": ("navix", lambda module: module.registry()),
    "pgx": ("pgx", lambda module: module.available_envs()),
    "playground": ("mujoco_playground.registry", lambda module: module.ALL_ENVS),
}
"""Suite to the module that knows its names, and how to ask it."""


_OTHERS = (
    "gym/NAME, ale/NAME, vizdoom/NAME: environments outside of JAX, as their own libraries call them",
    "MODULE:FUNCTION: one of your own, see docs/environments.md",
)


def list_names(suite: str | None = None) -> list[str]:
    """Every ``env_id`` of one suite; without ``suite``, those of gymnax and then a line for all others that there are.

    Raises:
        InputError: if there is no such suite, or it is not installed.
    """
    if suite is None:
        suites = [f"{name}/...: see `purejaxrl-a3c envs {name}`" for name in _NAMES]
        return [*sorted(gymnax.names()), *suites, *_OTHERS]
    if suite == "gymnax":
        return sorted(gymnax.names())
    if suite not in _NAMES:
        reject("suite", suite, f"one of gymnax, {', '.join(_NAMES)}")
    module, ask = _NAMES[suite]
    with jax.ensure_compile_time_eval():
        try:
            imported = importlib.import_module(module)
        except ImportError as error:
            reject_missing_suite(f"{suite}/", error)
    return sorted(f"{suite}/{name}" for name in ask(imported))
