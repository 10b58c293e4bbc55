"""Training in environments outside of JAX: acting and learning are compiled, and a loop of Python lies between them."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.host import reports
from purejaxrl_a3c.host.compiled import Programs, blank_init, check_env, check_outside, compile_programs, env_key
from purejaxrl_a3c.host.patience import TIMEOUT, time_limit
from purejaxrl_a3c.host.placing import Placing
from purejaxrl_a3c.host.programs import Draws, Place, Rollouts, collect
from purejaxrl_a3c.host.vector import HostEnv, make_as_told
from purejaxrl_a3c.loops.outside import Outside
from purejaxrl_a3c.run.chunks import CompiledRun
from purejaxrl_a3c.run.devices import Devices
from purejaxrl_a3c.run.devices import spread as spread_state
from purejaxrl_a3c.run.train import AlgorithmConfig, Result
from purejaxrl_a3c.types import Key, Metrics, Params, Pretrained, State


class StepError(RuntimeError):
    """Environments that could not go on.

    Attributes:
        result: the `Result` of all whole iterations before; nothing that was learned is lost.
    """

    def __init__(self, message: str, result: Result) -> None:
        """Keep what was learned."""
        super().__init__(message)
        self.result = result


def train(
    config: AlgorithmConfig,
    key: Key,
    env: HostEnv | None = None,
    on_iteration: Callable[[State, Metrics], None] | None = None,
    timeout: float = TIMEOUT,
) -> Result:
    """A run in environments outside of JAX.

    The algorithm is the same as in `make_train`: the network, the objective, the replay buffer, the update rule and its
    schedule of workers, whose staleness is simulated here as there. With the same observations it learns the same
    parameters. The environments of all workers step together. Their states are not part of the result; the run repeats
    if the environments do. With small networks on a CPU it is faster after
    ``jax.config.update("jax_cpu_enable_async_dispatch", False)``, which has to come before anything is computed.

    Args:
        config: the ``Config`` of an algorithm whose ``env_id`` begins with one of `suites.gymnasium.PREFIXES`.
        key: consumed; also the environments' seed is made of it.
        env: environments of one's own, as many as ``config`` has; None: those of ``env_id``. They are not closed.
        on_iteration: called after every iteration with the state, valid until it returns, and the metrics of that
            iteration.
        timeout: seconds that a step of all environments may take, see `patience.time_limit`.

    Returns:
        A `Result`; the metrics are arrays of NumPy ``[I]``.

    Raises:
        InputError: naming the setting, its value and what is accepted.
        StepError: if the environments raise or take too long; it has the result until then.
    """
    if not timeout > 0:
        reject("timeout", timeout, "> 0")
    outside = check_outside(config, made=env is None)
    own = make_as_told(config, outside.acting.layout.total_envs) if env is None else env
    rows: list[Metrics] = []
    try:
        run = _compile(config, outside, own, None, None, timeout)
        key_init, key_run = jax.random.split(randomness.as_key(key))
        state = run.init(key_init)
        for _ in range(run.iterations):
            state, metrics = run.advance(key_run, state, 1)
            rows.append(metrics)
            if on_iteration is not None:
                on_iteration(state, jax.tree.map(lambda x: x[0], metrics))
    except StepError as error:
        raise StepError(str(error), Result(error.result.state, _joined([*rows, error.result.metrics]))) from error
    finally:
        if env is None:
            own.close()
    return Result(state, _joined(rows))


def _joined(rows: list[Metrics]) -> Metrics:
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *rows)


def compile_run(
    config: AlgorithmConfig,
    env: HostEnv | None = None,
    pretrained: Pretrained | None = None,
    on: Devices | None = None,
) -> CompiledRun:
    """Compile the run that ``config`` describes, as `run.chunks.compile_run` does for environments of JAX.

    Args:
        config: the ``Config`` of an algorithm whose ``env_id`` begins with one of `suites.gymnasium.PREFIXES`.
        env: environments of one's own; None: those of ``env_id``.
        pretrained: what the run begins with; None: parameters of its own.
        on: the devices that share the run, see `spread`; None: one. With several processes every one of them steps the
            environments of its own devices, and ``env`` are those.

    Returns:
        A `CompiledRun`. A state that is not the last one which it returned is continued in new episodes.

    Raises:
        InputError: naming the setting, its value and what is accepted.
    """
    outside = check_outside(config, made=env is None)
    count = math.prod(Placing(on, outside.acting.layout).shape)
    own = make_as_told(config, count) if env is None else env
    return _compile(config, outside, own, pretrained, on)


def spread(config: AlgorithmConfig, devices: Sequence[jax.Device]) -> Devices:
    """The `Devices` for a run of ``config``, as `run.devices.spread` for environments of JAX.

    Raises:
        InputError: if the devices cannot share the run evenly.
    """
    check_outside(config)
    return spread_state(config, devices, lambda algorithm: blank_init(algorithm.outside))


def _compile(
    config: AlgorithmConfig,
    outside: Outside,
    env: HostEnv,
    pretrained: Pretrained | None,
    on: Devices | None,
    timeout: float = TIMEOUT,
) -> CompiledRun:
    layout, started = outside.acting.layout, time.perf_counter()
    check_env(outside, env, math.prod(Placing(on, layout).shape))
    programs, placing, state_type, metrics_type = compile_programs(
        config, outside, env.observation_dtype, pretrained, on
    )
    loop = _Loop(outside, programs, placing, env, metrics_type, pretrained, timeout)
    return CompiledRun(
        init=loop.init,
        advance=loop.advance,
        state=state_type,
        metrics=metrics_type,
        iterations=layout.iterations,
        frames_per_iteration=layout.frames,
        compile_seconds=time.perf_counter() - started,
    )


class _Loop:
    """A run whose environments are somewhere. Its functions are those of a `CompiledRun`."""

    def __init__(
        self,
        outside: Outside,
        programs: Programs,
        placing: Placing,
        env: HostEnv,
        metrics: Metrics,
        pretrained: Pretrained | None,
        timeout: float,
    ) -> None:
        self._layout, self._name = outside.acting.layout, outside.origin.env_name
        self._programs, self._placing, self._env = programs, placing, env
        self._metrics, self._pretrained, self._timeout = metrics, pretrained, timeout
        self._steps = [placing.put(jnp.int32(t)) for t in range(self._layout.rollout_length)]
        self._last: State = None  # the state that belongs to where the environments are
        self._acts: tuple[Params, Draws] | None = None  # what acts next

    def _reset(self, key: Key) -> Any:
        # Environment i of all has the seed of the first one, plus i, whoever steps it.
        seed = (int(jax.random.randint(key, (), 0, 2**31 - 1)) + self._placing.first_env) % 2**31
        return jax.tree.map(lambda x: x.reshape(*self._placing.shape, *x.shape[1:]), self._env.reset(seed))

    def init(self, key: Key) -> State:
        self._last, self._acts = self._programs.init(key, self._reset(env_key(key)), self._pretrained), None
        return self._last

    def advance(self, key: Key, state: State, count: int) -> tuple[State, Metrics]:
        if self._last is not state:
            obs = self._reset(jax.random.fold_in(key, int(state.iteration)))
            state, self._acts = self._programs.restart(state, obs), None
        self._last = None
        acts = self._programs.begin(key, state) if self._acts is None else self._acts
        packed: list[Any] = []
        for _ in range(count):
            rollouts = self._collect(acts, state, packed)
            state, report, acts = self._programs.learn(key, state, acts[1].level, rollouts)
            packed.append(report)
        self._last, self._acts = state, acts
        return state, reports.unpack(packed, self._metrics)

    def _collect(self, acts: tuple[Params, Draws], state: Any, packed: list[Any]) -> Rollouts:
        step = 0

        def act_at(t: int, *seen: Any) -> Any:
            nonlocal step
            step = t
            begin_step()
            return self._programs.act(*acts, self._steps[t], *seen)

        wrappers, obs, first, carry = state.actor_state
        try:
            obs, first = self._placing.local((obs, first))
            place = Place(obs, first, carry, wrappers)
            with time_limit(self._timeout) as begin_step:
                return collect(act_at, self._env, len(self._steps), place, self._programs.show)
        except Exception as error:  # whatever an environment may raise
            where = f"{self._name}, iteration {int(state.iteration)}, step {step}"
            result = Result(state, reports.unpack(packed, self._metrics))
            raise StepError(f"{where}: {type(error).__name__}: {error}", result) from error
