"""A whole run as a pure function."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import check, flat, is_config
from purejaxrl_a3c.types import Algorithm, AxisName, Key, MakeBonus, Metrics, State


class AlgorithmConfig(Protocol):
    """The ``Config`` of an algorithm."""

    def __hash__(self) -> int:
        """By its settings; a config that holds arrays has none."""
        ...

    def build(self, axis_name: AxisName = None, make_bonus: MakeBonus | None = None) -> Algorithm:
        """The algorithm of these settings."""
        ...


class Result(NamedTuple):
    """The result of a run."""

    state: State  # after the last iteration; `evaluate` takes it
    metrics: Metrics  # every field [I], one entry an iteration


Callback: TypeAlias = Callable[[jax.Array, State, Metrics], Mapping[str, jax.Array]]
"""``(iteration, state, metrics) -> scalars by name``: a pure function of what is left after so many iterations, int32
``[]``. It reports; it changes nothing."""


def make_train(
    config: AlgorithmConfig, axis_name: AxisName = None, callback: Callback | None = None
) -> Callable[[Key], Result]:
    """The whole run that ``config`` describes, as a pure function.

    It can be compiled, and mapped over keys and over every float of the config::

        train = jax.jit(make_train(config))
        result = train(jax.random.key(0))
        seeds = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), 8))
        sweep = jax.jit(jax.vmap(lambda rate: make_train(replace(config, learning_rate=rate))(key)))(rates)

    Args:
        config: the ``Config`` of an algorithm.
        axis_name: the name of an axis of devices that share the run: its workers or, in lockstep, its environments.
            All devices get the same key and learn the same parameters. ``train`` must then run where the name is bound:
            under `jax.shard_map` with ``check_vma=False``, `jax.pmap` or ``jax.vmap(axis_name=...)``. The functions of
            `devices` do that.
        callback: called in every iteration, in the compiled program; what it returns joins ``metrics.losses``. See
            `callbacks.evaluate_every`. The run is the same up to rounding, as it is another program.

    Returns:
        ``train(key) -> Result``, with ``I = total_frames // frames of one iteration`` entries in every metric. The key
        may be a typed key or one of `jax.random.PRNGKey`.

    Raises:
        InputError: for settings that do not fit, naming the setting, its value and what is accepted.
    """
    whole = build(config)

    def train(key: Key) -> Result:
        algorithm = whole if axis_name is None else build(config, axis_name)
        key_init, key_run = jax.random.split(randomness.as_key(key))

        def iterate(state: State, _: None) -> tuple[State, Metrics]:
            state, metrics = algorithm.step(jax.random.fold_in(key_run, state.iteration), state)
            return state, metrics if callback is None else _joined(metrics, callback(state.iteration, state, metrics))

        return Result(*jax.lax.scan(iterate, algorithm.init(key_init), length=whole.iterations))

    return train


def compiler_options(config: AlgorithmConfig) -> dict[str, Any]:
    """The options of `jax.jit` with which one run is fastest; the numbers are the same with and without them.

    The command line uses them. They are for one run on one device, not for many side by side::

        train = jax.jit(make_train(config), compiler_options=compiler_options(config))

    On a CPU DQN with small layers takes a sixth less time with them; for other algorithms there are none.

    Args:
        config: the ``Config`` of an algorithm.

    Raises:
        InputError: as `make_train`.
    """
    return build(config).compiler_options


def _joined(metrics: Metrics, more: Mapping[str, jax.Array]) -> Metrics:
    """The metrics with what a callback returned.

    Raises:
        InputError: if a name is taken, or a value is no scalar.
    """
    for name, value in more.items():
        if name in metrics.losses or name in Metrics._fields:
            reject("callback", f"a metric named {name!r}", "names that the run does not report itself")
        if jnp.shape(value) != ():
            reject("callback", f"{name} of shape {jnp.shape(value)}", "scalars by name")
    return metrics._replace(losses=metrics.losses | {name: jnp.asarray(value) for name, value in more.items()})


def build(config: Any, axis_name: AxisName = None) -> Algorithm:
    """The `Algorithm` of ``config``.

    Raises:
        InputError: if it is not the config of an algorithm, or for settings that do not fit.
    """
    check(config)
    if not hasattr(config, "build"):
        reject("config", config, "the Config of an algorithm, such as a3c.Config()")
    return config.build(axis_name)


def check_numbers(config: Any) -> None:
    """Check that no setting is an array, where a compiled program is kept by its config.

    Raises:
        InputError: naming the setting.
    """
    for name, value in flat(config).items() if is_config(config) else ():
        if isinstance(value, jax.Array):
            reject(name, value, "a number; `make_train` takes arrays, to map over")
