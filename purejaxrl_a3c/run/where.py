"""What depends on whether the environments of a run are of JAX or outside of it."""

from typing import Any

import numpy as np

from purejaxrl_a3c import host
from purejaxrl_a3c.config import flat
from purejaxrl_a3c.envs.suites import gymnasium
from purejaxrl_a3c.host import compiled, lockstep
from purejaxrl_a3c.run import chunks
from purejaxrl_a3c.run.chunks import CompiledRun
from purejaxrl_a3c.run.devices import Devices
from purejaxrl_a3c.run.evaluate import evaluate as evaluate_in_jax
from purejaxrl_a3c.types import Key, Pretrained, State


def is_outside(config: Any) -> bool:
    """Whether the environments of this ``Config`` step outside of JAX."""
    env_id = flat(config)["env_id"]
    return isinstance(env_id, str) and env_id.partition("/")[0] in gymnasium.PREFIXES


def state_types(config: Any, on: Devices | None = None) -> Any:
    """Shapes, dtypes and, on several devices, shardings of a run's state, without compiling it.

    Raises:
        InputError: for settings that do not fit.
    """
    return compiled.state_types(config) if is_outside(config) else chunks.state_types(config, on)


def compile_run(config: Any, on: Devices | None = None, pretrained: Pretrained | None = None) -> CompiledRun:
    """Compile the run that ``config`` describes for `run_in_chunks`; see `chunks.compile_run`.

    Raises:
        InputError: for settings that do not fit.
    """
    if is_outside(config):
        return lockstep.compile_run(config, pretrained=pretrained)
    return chunks.compile_run(config, on, pretrained)


def evaluate(config: Any, state: State, key: Key, episodes: int, deterministic: bool) -> np.ndarray:
    """Undiscounted returns of whole episodes, float32 ``[episodes]``."""
    function: Any = host.evaluate if is_outside(config) else evaluate_in_jax
    return np.asarray(function(config, state, key, episodes, deterministic))
