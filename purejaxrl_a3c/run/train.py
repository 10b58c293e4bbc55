"""A whole run as a pure function."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import check
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


def make_train(config: AlgorithmConfig, axis_name: AxisName = None) -> Callable[[Key], Result]:
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
            return algorithm.step(jax.random.fold_in(key_run, state.iteration), state)

        return Result(*jax.lax.scan(iterate, algorithm.init(key_init), length=whole.iterations))

    return train


def build(config: Any, axis_name: AxisName = None) -> Algorithm:
    """The `Algorithm` of ``config``.

    Raises:
        InputError: if it is not the config of an algorithm, or for settings that do not fit.
    """
    check(config)
    if not hasattr(config, "build"):
        reject("config", config, "the Config of an algorithm, such as a3c.Config()")
    return config.build(axis_name)
