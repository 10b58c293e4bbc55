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
from purejaxrl_a3c.loops import rollout
from purejaxrl_a3c.loops.outside import Outside
from purejaxrl_a3c.run.chunks import CompiledRun
from purejaxrl_a3c.run.train import AlgorithmConfig, Result, build
from purejaxrl_a3c.types import Env, Key, Metrics, Params, Pretrained, State


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
    """As `programs.act`, without its first argument."""
    learn: Callable[..., tuple[State, Metrics, tuple[Params, Draws]]]
    """(key of the run, state, which is consumed, level of exploration, `Rollouts`) -> (state, metrics, what acts in the
    next iteration)."""


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
    """A run in environments outside of JAX.

    The algorithm is the same as in `make_train`: the network, the objective, the replay buffer, the update rule and its
    schedule of workers, whose staleness is simulated here as there. With the same observations it learns the same
    parameters. The environments of all workers step together. Their states are not part of the result; the run repeats
    if the environments do.

    Args:
        config: the ``Config`` of an algorithm whose ``env_id`` begins with ``gym/`` or ``ale/``.
        key: consumed; also the environments' seed is made of it.
        env: environments of one's own, as many as ``config`` has; None: those of ``env_id``. They are not closed.
        on_iteration: called after every iteration with the state, valid until it returns, and the metrics of that
            iteration.

    Returns:
        A `Result`; the metrics are arrays of NumPy ``[I]``.

    Raises:
        InputError: naming the setting, its value and what is accepted.
        StepError: if the environments raise; it has the result until then.
    """
    outside = check_outside(config)
    layout = outside.acting.layout
    count = layout.workers * layout.envs
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
        config: the ``Config`` of an algorithm whose ``env_id`` begins with ``gym/`` or ``ale/``.
        env: environments of one's own; None: those of ``env_id``.
        pretrained: what the run begins with; None: parameters of its own.

    Returns:
        A `CompiledRun`. A state that is not the last one which it returned is continued in new episodes.

    Raises:
        InputError: naming the setting, its value and what is accepted.
    """
    outside = check_outside(config)
    layout = outside.acting.layout
    shape = layout.workers, layout.envs
    own = make(config.env.env_id, shape[0] * shape[1]) if env is None else env  # type: ignore[attr-defined]
    check_env(outside.acting.env, own, shape[0] * shape[1])
    started = time.perf_counter()
    params = None if pretrained is None else pretrained.params
    programs, state_type, metrics_type = compile_parts(outside, own.observation_dtype, params)
    steps = [jnp.int32(t) for t in range(layout.rollout_length)]
    place, last, acts = None, None, None  # where environments are, the state that belongs there, and what acts next

    def reset(key: Key) -> _Place:
        seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
        obs = own.reset(seed).reshape(*shape, *own.observation_shape)
        return _Place(obs, np.ones(shape, bool), jax.tree.map(np.asarray, start_carry(outside.acting, shape)))

    def init(key: Key) -> State:
        nonlocal place, last, acts
        place, acts = reset(env_key(key)), None
        last = programs.init(key, place.obs, params)
        return last

    def advance(key: Key, state: State, count: int) -> tuple[State, Metrics]:
        nonlocal place, last, acts
        if place is None or last is not state:
            place = reset(jax.random.fold_in(key, state.iteration))
            obs, first = jnp.asarray(place.obs), jnp.asarray(place.first)
            state = state._replace(actor_state=rollout.ActorState((), obs, first, place.carry))
            acts = None
        acts = programs.begin(key, state) if acts is None else acts
        reports: list[Metrics] = []
        for _ in range(count):
            step = 0

            def act_at(t: int, *seen: Any, acts: Any = acts) -> Any:
                nonlocal step
                step = t
                return programs.act(*acts, steps[t], *seen)

            try:
                rollouts = collect(act_at, own, layout.rollout_length, place.carry, place.obs, place.first)
            except Exception as error:  # whatever an environment may raise
                where = f"{config.env.env_id}, iteration {int(state.iteration)}, step {step}"  # type: ignore[attr-defined]
                metrics = _stacked(reports, metrics_type)
                raise StepError(f"{where}: {type(error).__name__}: {error}", Result(state, metrics)) from error
            state, metrics, acts = programs.learn(key, state, acts[1].level, rollouts)
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
    outside = check_outside(config)
    env = make(config.env.env_id, 1)  # type: ignore[attr-defined]
    env.close()
    obs = _observations(outside, env.observation_dtype)
    return jax.eval_shape(make_init(outside), jax.random.key(0), obs, None)


def env_key(key: Key) -> Key:
    """The key of a run's environments, of that with which its state is made."""
    return jax.random.fold_in(key, 1)


def _observations(outside: Outside, dtype: Any) -> Any:
    layout = outside.acting.layout
    return jax.ShapeDtypeStruct((layout.workers, layout.envs, *outside.acting.env.observation_shape), dtype)


def make_init(outside: Outside) -> Callable[[Key, Any, Params | None], Any]:
    """(key, first observations [W, B, ...], parameters or None) -> the state at the start of a run."""

    def init(key: Key, obs: Any, params: Params | None) -> Any:
        shape = obs.shape[:2]
        actor_state = rollout.ActorState((), obs, jnp.ones(shape, bool), start_carry(outside.acting, shape))
        return outside.start(key, actor_state, params)

    return init


def compile_parts(outside: Outside, observation_dtype: Any, params: Params | None) -> tuple[Programs, Any, Metrics]:
    """The compiled `Programs` of an algorithm, and shapes and dtypes of its states and metrics."""

    def begin(key: Key, state: Any) -> tuple[Params, Draws]:
        return outside.actor(state), draw(outside, key, state.iteration, outside.workers)

    def act_now(params: Params, draws: Draws, step: jax.Array, carry: Any, obs: Any, first: Any) -> Any:
        return act(outside.acting, params, draws, step, carry, obs, first)

    def learn(key: Key, state: Any, level: Any, rollouts: Rollouts) -> Any:
        trajectories = to_trajectories(rollouts, state.actor_state.carry)
        actor_state = rollout.ActorState((), rollouts.end_obs, rollouts.first, rollouts.carries[-1])
        key_now = jax.random.fold_in(key, state.iteration)
        state, metrics = outside.learn(key_now, state, level, actor_state, trajectories)
        return state, metrics, begin(key, state)

    key, init, length = jax.random.key(0), make_init(outside), outside.acting.layout.rollout_length
    initial = key, _observations(outside, observation_dtype), params
    state = jax.eval_shape(init, *initial)
    acts, seen = jax.eval_shape(begin, key, state), state.actor_state
    acting = *acts, jnp.int32(0), seen.carry, seen.obs, seen.first
    rollouts = types_of_rollouts(length, jax.eval_shape(act_now, *acting), seen.obs, seen.first)
    learning = key, state, acts[1].level, rollouts
    metrics = jax.eval_shape(learn, *learning)[1]
    programs = Programs(
        init=jax.jit(init).lower(*initial).compile(),
        begin=jax.jit(begin).lower(key, state).compile(),
        act=jax.jit(act_now).lower(*acting).compile(),
        # A replay buffer is not to be copied.
        learn=jax.jit(learn, donate_argnums=1).lower(*learning).compile(),
    )
    return programs, state, metrics


def check_outside(config: Any) -> Outside:
    """What is left of the algorithm of ``config`` without its environments.

    Raises:
        InputError: for an algorithm or a setting that cannot be used here.
    """
    outside: Outside = build(config).outside
    if outside.refusal is not None:
        reject(*outside.refusal)
    wrappers = getattr(config.env, "wrappers", Wrappers())
    for name, default in vars(Wrappers()).items():
        if getattr(wrappers, name) != default:
            reject(name, getattr(wrappers, name), f"{default!r}, for environments outside of JAX")
    return outside


def check_env(expected: Env, env: HostEnv, count: int) -> None:
    """Check that these are as many environments as the run has, with the observations and actions that it expects.

    Raises:
        InputError: naming what differs.
    """
    if env.num_envs != count:
        reject("env", f"{env.num_envs} environments", f"{count} environments, as the config says")
    for name in ("observation_shape", "action_space"):
        if getattr(env, name) != getattr(expected, name):
            reject("env", f"{name} {getattr(env, name)}", f"of {name} {getattr(expected, name)}")
