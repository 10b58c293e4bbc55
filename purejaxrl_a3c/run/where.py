"""What depends on whether the environments of a run are of JAX or outside of it."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from purejaxrl_a3c import host
from purejaxrl_a3c.algorithms import a3c, impala, ppo
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import flat
from purejaxrl_a3c.envs.suites import gymnasium
from purejaxrl_a3c.host import actors, compiled, lockstep, race
from purejaxrl_a3c.host.results import Settings
from purejaxrl_a3c.run import chunks, devices
from purejaxrl_a3c.run.chunks import CompiledRun
from purejaxrl_a3c.run.devices import Devices
from purejaxrl_a3c.run.evaluate import evaluate as evaluate_in_jax
from purejaxrl_a3c.run.options import Options
from purejaxrl_a3c.types import Key, Pretrained, State


def is_outside(config: Any) -> bool:
    """Whether the environments of this ``Config`` step outside of JAX."""
    env_id = flat(config)["env_id"]
    return isinstance(env_id, str) and env_id.partition("/")[0] in gymnasium.PREFIXES


def check_engine(config: Any, options: Options) -> None:
    """Check that the workers of this ``Config`` can run as the options say.

    Raises:
        InputError: naming the option.
    """
    if options.engine != "lockstep":
        if not is_outside(config):
            reject("engine", options.engine, "lockstep for environments of JAX")
        if jax.process_count() > 1 or (options.num_devices or 1) > 1:
            reject("engine", options.engine, "lockstep with several devices or processes of JAX")
        if options.engine == "actors":
            if not isinstance(config, ppo.Config | impala.Config) or config.asynchrony.schedule != "queue":
                reject("engine", options.engine, "lockstep except for PPO and IMPALA with schedule queue")
        elif not isinstance(config, a3c.Config):
            reject("engine", options.engine, "lockstep except for A3C")
    if options.engine in ("lockstep", "actors"):
        for name in ("push", "ray_address"):
            if getattr(options, name) != getattr(Options, name):
                reject(name, getattr(options, name), f"{getattr(Options, name)!r} if engine is {options.engine}")


def spread(config: Any, available: Sequence[jax.Device]) -> Devices:
    """The `Devices` for a run of ``config``.

    Raises:
        InputError: if they cannot share the run evenly.
    """
    return (lockstep.spread if is_outside(config) else devices.spread)(config, available)


def state_types(config: Any, on: Devices | None = None) -> Any:
    """Shapes, dtypes and, on several devices, shardings of a run's state, without compiling it.

    Raises:
        InputError: for settings that do not fit.
    """
    return compiled.state_types(config, on) if is_outside(config) else chunks.state_types(config, on)


def compile_run(config: Any, options: Options, on: Devices | None, pretrained: Pretrained | None) -> CompiledRun:
    """Compile the run that ``config`` describes for `run_in_chunks`; see `chunks.compile_run`.

    Raises:
        InputError: for settings that do not fit.
    """
    if options.engine == "actors":
        return actors.compile_run(config, pretrained)
    if options.engine != "lockstep":
        return race.compile_run(
            config, Settings(options.push, options.engine, ray_address=options.ray_address), pretrained
        )
    if is_outside(config):
        return lockstep.compile_run(config, pretrained=pretrained, on=on)
    return chunks.compile_run(config, on, pretrained)


def evaluate(
    config: Any, state: State, key: Key, episodes: int, deterministic: bool, opponent: State | str | None = None
) -> np.ndarray:
    """Undiscounted returns of whole episodes, float32 ``[episodes]``; ``opponent`` as of `run.evaluate.evaluate`."""
    if not is_outside(config):
        return np.asarray(evaluate_in_jax(config, state, key, episodes, deterministic, opponent=opponent))
    if opponent is not None:
        reject("opponent", opponent, "left out: this environment is not a game for two")
    return np.asarray(host.evaluate(config, state, key, episodes, deterministic))
