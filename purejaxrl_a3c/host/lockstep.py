"""Training in environments outside of JAX: acting and learning are compiled, and a loop of Python lies between them."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.envs import Wrappers
from purejaxrl_a3c.host.programs import (
    Draws,
    Rollouts,
    act,
    collect,
    draw,
    start_carry,
    to_trajectories,
    types_of_rollouts,
)
from purejaxrl_a3c.host.vector import HostEnv, make
from purejaxrl_a3c.loops import iteration, rollout
from purejaxrl_a3c.loops.iteration import Parts, State
from purejaxrl_a3c.loops.on_policy import finish, start_learning
from purejaxrl_a3c.run.chunks import CompiledRun
from purejaxrl_a3c.run.train import AlgorithmConfig, Result, build
from purejaxrl_a3c.types import ClockedRule, Key, Metrics, Params, Pretrained, UpdateRule


class StepError(RuntimeError):
    """Environments that could not go on.

    Attributes:
        result: the `Result` of all whole iterations before; nothing that was learned is lost.
    """

    def __init__(self, message: str, result: Result) -> None:
        """Keep what was learned."""
        super().__init__(message)
        self.result = result


class Programs(NamedTuple):
    """The compiled parts of an iteration."""

    init: Callable[[Key, Any, Params | None], State]
    """(key, first observations [W, B, ...], parameters or None) -> state."""
    begin: Callable[[Key, State], tuple[Params, Draws]]
    """(key of the run, state) -> (parameters that act, leaves [W, ...], `Draws`) of the next iteration."""
    act: Callable[..., Any]
    """As `programs.act`, without the parts of the algorithm."""
    learn: Callable[..., tuple[State, Metrics, tuple[Params, Draws]]]
    """(key of the run, state, what acted, `Rollouts`) -> (state, metrics, what acts in the next iteration)."""


class _Place(NamedTuple):
    """Where the environments are between two rollouts."""

    obs: np.ndarray  # [W, B, ...]
    first: np.ndarray  # bool [W, B]
    carry: Any  # leaves [W, B, ...]


def train(
    config: AlgorithmConfig,
    key: Key,
    env: HostEnv | None = None,
    on_iteration: Callable[[State, Metrics], None] | None = None,
) -> Result:
    """A run of an on-policy algorithm in environments outside of JAX.

    The algorithm is the same as in `make_train`: the network, the objective, the update rule and its schedule of
    workers, whose staleness is simulated here as there. With the same observations it learns the same parameters. The
    environments of all workers step together. Their states are not part of the result; the run repeats if the
    environments do.

    Args:
        config: the ``Config`` of an on-policy algorithm whose ``env_id`` begins with ``gym/`` or ``ale/``.
        key: consumed; also the environments' seed is made of it.
        env: environments of one's own, as many as ``config`` has; None: those of ``env_id``. They are not closed.
        on_iteration: called after every iteration with the state and the metrics of that iteration.

    Returns:
        A `Result`; the metrics are arrays of NumPy ``[I]``.

    Raises:
        InputError: naming the setting, its value and what is accepted.
        StepError: if the environments raise; it has the result until then.
    """
    parts = check_parts(config, build(config).parts)
    count = parts.layout.workers * parts.layout.envs
    own = make(config.env.env_id, count) if env is None else env  # type: ignore[attr-defined]
    reports: list[Metrics] = []
    try:
        run = compile_run(config, own)
        key_init, key_run = jax.random.split(randomness.as_key(key))
        state = run.init(key_init)
        for _ in range(run.iterations):
            state, metrics = run.advance(key_run, state, 1)
            reports.append(metrics)
            if on_iteration is not None:
                on_iteration(state, jax.tree.map(lambda x: x[0], metrics))
    except StepError as error:
        raise StepError(str(error), Result(error.result.state, _joined([*reports, error.result.metrics]))) from error
    finally:
        if env is None:
            own.close()
    return Result(state, _joined(reports))


def _joined(reports: list[Metrics]) -> Metrics:
    return jax.tree.map(lambda *rows: np.concatenate(rows), *reports)


def compile_run(
    config: AlgorithmConfig, env: HostEnv | None = None, pretrained: Pretrained | None = None
) -> CompiledRun:
    """Compile the run that ``config`` describes, as `run.chunks.compile_run` does for environments of JAX.

    Args:
        config: the ``Config`` of an on-policy algorithm whose ``env_id`` begins with ``gym/`` or ``ale/``.
        env: environments of one's own; None: those of ``env_id``.
        pretrained: what the run begins with; None: parameters of its own.

    Returns:
        A `CompiledRun`. A state that is not the last one which it returned is continued in new episodes.

    Raises:
        InputError: naming the setting, its value and what is accepted.
    """
    parts = check_parts(config, build(config).parts)
    layout = parts.layout
    shape = layout.workers, layout.envs
    own = make(config.env.env_id, shape[0] * shape[1]) if env is None else env  # type: ignore[attr-defined]
    check_env(parts, own, shape[0] * shape[1])
    started = time.perf_counter()
    params = None if pretrained is None else pretrained.params
    programs, state_type, metrics_type = compile_parts(parts, own.observation_dtype, params)
    steps = [jnp.int32(t) for t in range(layout.rollout_length)]
    place, last = None, None  # of the environments, and the state that belongs there

    def reset(key: Key) -> _Place:
        seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
        obs = own.reset(seed).reshape(*shape, *own.observation_shape)
        return _Place(obs, np.ones(shape, bool), jax.tree.map(np.asarray, start_carry(parts, shape)))

    def init(key: Key) -> State:
        nonlocal place, last
        place = reset(jax.random.split(key, 4)[1])
        last = programs.init(key, place.obs, params)
        return last

    def advance(key: Key, state: State, count: int) -> tuple[State, Metrics]:
        nonlocal place, last
        if place is None or last is not state:
            place = reset(jax.random.fold_in(key, state.iteration))
            obs, first = jnp.asarray(place.obs), jnp.asarray(place.first)
            state = state._replace(actor_state=rollout.ActorState((), obs, first, place.carry))
        acts = programs.begin(key, state)
        reports: list[Metrics] = []
        for _ in range(count):
            step = 0

            def act_at(t: int, *seen: Any, acts: tuple[Params, Draws] = acts) -> Any:
                nonlocal step
                step = t
                return programs.act(*acts, steps[t], *seen)

            try:
                rollouts = collect(act_at, own, layout.rollout_length, place.carry, place.obs, place.first)
            except Exception as error:  # whatever an environment may raise
                where = f"{config.env.env_id}, iteration {int(state.iteration)}, step {step}"  # type: ignore[attr-defined]
                metrics = _stacked(reports, metrics_type)
                raise StepError(f"{where}: {type(error).__name__}: {error}", Result(state, metrics)) from error
            state, metrics, acts = programs.learn(key, state, acts, rollouts)
            reports.append(metrics)
            place = _Place(rollouts.end_obs, rollouts.first, rollouts.carries[-1])
        last = state
        return state, _stacked(reports, metrics_type)

    return CompiledRun(
        init=init,
        advance=advance,
        state=state_type,
        metrics=metrics_type,
        iterations=layout.iterations,
        frames_per_iteration=layout.frames,
        compile_seconds=time.perf_counter() - started,
    )


def _stacked(reports: list[Metrics], types: Metrics) -> Metrics:
    """The reports of some iterations, arrays of NumPy ``[n]``."""
    empty = jax.tree.map(lambda x: np.zeros((0, *x.shape), x.dtype), types)
    rows = jax.device_get(reports)
    return jax.tree.map(
        lambda start, *rest: np.concatenate([start, *(np.asarray(x)[None] for x in rest)]), empty, *rows
    )


def state_types(config: AlgorithmConfig) -> State:
    """Shapes and dtypes of the state of a run.

    Raises:
        InputError: as `compile_run`.
    """
    parts = check_parts(config, build(config).parts)
    env = make(config.env.env_id, 1)  # type: ignore[attr-defined]
    env.close()
    return jax.eval_shape(_make_init(parts), jax.random.key(0), _observations(parts, env.observation_dtype), None)


def _observations(parts: Parts, dtype: Any) -> Any:
    shape = parts.layout.workers, parts.layout.envs, *parts.env.observation_shape
    return jax.ShapeDtypeStruct(shape, dtype)


def _make_init(parts: Parts) -> Callable[[Key, Any, Params | None], State]:
    """(key, first observations [W, B, ...], parameters or None) -> the state at the start of a run."""
    shape = parts.layout.workers, parts.layout.envs

    def init(key: Key, obs: Any, params: Params | None) -> State:
        key_network, _, key_rule, key_bonus = jax.random.split(key, 4)
        actor_state = rollout.ActorState((), obs, jnp.ones(shape, bool), start_carry(parts, shape))
        params = parts.network.init(key_network) if params is None else params
        return start_learning(key_rule, key_bonus, parts, params, actor_state)

    return init


def compile_parts(parts: Parts, observation_dtype: Any, params: Params | None) -> tuple[Programs, State, Metrics]:
    """The compiled `Programs` of an algorithm, and shapes and dtypes of its states and metrics."""
    rule = parts.rule
    assert isinstance(rule, UpdateRule)

    def begin(key: Key, state: State) -> tuple[Params, Draws]:
        return rule.actor(state.learner), draw(parts, key, state.iteration, parts.layout.own_workers())

    def act_now(params: Params, draws: Draws, step: jax.Array, carry: Any, obs: Any, first: Any) -> Any:
        return act(parts, params, draws, step, carry, obs, first)

    def learn(key: Key, state: State, acts: tuple[Params, Draws], rollouts: Rollouts) -> Any:
        params, draws = acts
        trajectories = to_trajectories(rollouts, state.actor_state.carry)
        actor_state = rollout.ActorState((), rollouts.end_obs, rollouts.first, rollouts.carries[-1])
        keys = iteration.keys_of(jax.random.fold_in(key, state.iteration))
        done = iteration.learn_from(keys, parts, rule, state, params, draws.level, actor_state, trajectories)
        state, metrics = finish(parts, state, done)
        return state, metrics, begin(key, state)

    key, init = jax.random.key(0), _make_init(parts)
    initial = key, _observations(parts, observation_dtype), params
    state = jax.eval_shape(init, *initial)
    acts, seen = jax.eval_shape(begin, key, state), state.actor_state
    acting = *acts, jnp.int32(0), seen.carry, seen.obs, seen.first
    learning = key, state, acts, types_of_rollouts(parts, jax.eval_shape(act_now, *acting), seen.obs, seen.first)
    metrics = jax.eval_shape(learn, *learning)[1]
    given = ((init, initial), (begin, (key, state)), (act_now, acting), (learn, learning))
    return Programs(*(jax.jit(one).lower(*told).compile() for one, told in given)), state, metrics


def check_parts(config: Any, parts: Any) -> Parts:
    """The parts of an algorithm that can be trained here.

    Raises:
        InputError: for an algorithm or a setting that cannot be used here.
    """
    if not isinstance(parts, Parts):
        reject("config", config, "the Config of an on-policy algorithm, without a bonus")
    if parts.bonus is not None:
        reject("config", config, "without a bonus, for environments outside of JAX")
    if isinstance(parts.rule, ClockedRule):
        reject("schedule", "clock", "random or round_robin, for environments outside of JAX")
    if parts.layout.group_size:
        reject("group_size", parts.layout.group_size, "0: environments outside of JAX cannot begin the same episode")
    wrappers = getattr(config.env, "wrappers", Wrappers())
    for name, default in vars(Wrappers()).items():
        if getattr(wrappers, name) != default:
            reject(name, getattr(wrappers, name), f"{default!r}, for environments outside of JAX")
    return parts


def check_env(parts: Parts, env: HostEnv, count: int) -> None:
    """Check that these are as many environments as the run has, with the observations and actions that it expects.

    Raises:
        InputError: naming what differs.
    """
    if env.num_envs != count:
        reject("env", f"{env.num_envs} environments", f"{count} environments, as the config says")
    for name in ("observation_shape", "action_space"):
        if getattr(env, name) != getattr(parts.env, name):
            reject("env", f"{name} {getattr(env, name)}", f"of {name} {getattr(parts.env, name)}")
