"""The compiled parts of a run in environments outside of JAX that step together."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c import envs
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.envs import normalize
from purejaxrl_a3c.host.programs import (
    Draws,
    Place,
    Rollouts,
    act,
    compile_show,
    draw,
    end_of,
    show,
    start_carry,
    start_place,
    to_actor_state,
    to_trajectories,
    types_of_rollouts,
)
from purejaxrl_a3c.host.vector import HostEnv
from purejaxrl_a3c.loops.outside import Outside
from purejaxrl_a3c.run.train import AlgorithmConfig, build
from purejaxrl_a3c.types import Env, Key, Metrics, Params, Pretrained, State, TimeStep


class Programs(NamedTuple):
    """The compiled parts of an iteration."""

    init: Callable[[Key, Any, Pretrained | None], State]
    """(key, first observations [W, B, ...], what the run begins with) -> state."""
    restart: Callable[[State, Any], State]
    """(state, first observations [W, B, ...]) -> the state in new episodes. It is compiled when it is called."""
    begin: Callable[[Key, State], tuple[Params, Draws]]
    """(key of the run, state) -> (parameters that act, leaves [W, ...], `Draws`) of the next iteration."""
    act: Callable[..., Any]
    """As `programs.act`, without its first argument."""
    show: Callable[[Any, TimeStep], tuple[Any, TimeStep]] | None
    """As `programs.show`; None without wrappers."""
    learn: Callable[..., tuple[State, Metrics, tuple[Params, Draws]]]
    """(key of the run, state, which is consumed, level of exploration, `Rollouts`) -> (state, metrics, what acts in the
    next iteration)."""


def compile_programs(
    outside: Outside, observation_dtype: Any, pretrained: Pretrained | None
) -> tuple[Programs, State, Metrics]:
    """The compiled `Programs` of an algorithm, and shapes and dtypes of its states and metrics."""

    def begin(key: Key, state: Any) -> tuple[Params, Draws]:
        return outside.actor(state), draw(outside, key, state.iteration, outside.workers)

    def act_now(params: Params, draws: Draws, step: jax.Array, carry: Any, obs: Any, first: Any) -> Any:
        return act(outside.acting, params, draws, step, carry, obs, first)

    def learn(key: Key, state: Any, level: Any, rollouts: Rollouts) -> Any:
        trajectories = to_trajectories(rollouts, state.actor_state.carry)
        key_now = jax.random.fold_in(key, state.iteration)
        actor_state = to_actor_state(end_of(rollouts))
        state, metrics = outside.learn(key_now, state, level, actor_state, trajectories)
        return state, metrics, begin(key, state)

    key, init, length = jax.random.key(0), make_init(outside), outside.acting.layout.rollout_length
    initial = key, observations(outside, observation_dtype), pretrained
    state = jax.eval_shape(init, *initial)
    acts, seen = jax.eval_shape(begin, key, state), state.actor_state
    acting = *acts, jnp.int32(0), seen.carry, seen.obs, seen.first
    rollouts = types_of_rollouts(length, jax.eval_shape(act_now, *acting), seen.obs, seen.first, seen.env)
    learning = key, state, acts[1].level, rollouts
    metrics = jax.eval_shape(learn, *learning)[1]
    programs = Programs(
        init=jax.jit(init).lower(*initial).compile(),
        restart=jax.jit(make_restart(outside)),
        begin=jax.jit(begin).lower(key, state).compile(),
        act=jax.jit(act_now).lower(*acting).compile(),
        show=compile_show(outside.acting.env.told, seen.env, initial[1]),
        # A replay buffer is not to be copied.
        learn=jax.jit(learn, donate_argnums=1).lower(*learning).compile(),
    )
    return programs, state, metrics


def make_init(outside: Outside) -> Callable[[Key, Any, Pretrained | None], Any]:
    """(key, first observations [W, B, ...], what the run begins with) -> the state at the start of a run."""

    def init(key: Key, obs: Any, pretrained: Pretrained | None) -> Any:
        place = start_place(outside.acting, obs)
        if pretrained is not None and pretrained.observations is not None:
            place = place._replace(wrappers=normalize.set_statistics(place.wrappers, pretrained.observations))
        return outside.start(key, to_actor_state(place), None if pretrained is None else pretrained.params)

    return init


def make_restart(outside: Outside) -> Callable[[Any, Any], Any]:
    """(state, first observations [W, B, ...]) -> the state in new episodes."""

    def restart(state: Any, obs: Any) -> Any:
        told, wrappers = outside.acting.env.told, state.actor_state.env
        first = jnp.ones(obs.shape[:2], bool)
        if told is not None:
            # Wrappers that remember more than an episode are told that it was cut off.
            zeros = jnp.zeros(first.shape, jnp.float32)
            wrappers, shown = show(told)(wrappers, TimeStep(obs, zeros, ~first, first, obs))
            obs = shown.obs
        place = Place(obs, first, start_carry(outside.acting, first.shape), wrappers)
        return state._replace(actor_state=to_actor_state(place))

    return restart


def observations(outside: Outside, dtype: Any) -> Any:
    """Type of the observations of all environments, ``[W, B, ...]``, before wrappers."""
    layout = outside.acting.layout
    return jax.ShapeDtypeStruct((layout.workers, layout.envs, *bare(outside).observation_shape), dtype)


def bare(outside: Outside) -> Env:
    """The environment without wrappers, which cannot step."""
    env = outside.acting.env
    return env if env.told is None else env.told.env


def state_types(config: AlgorithmConfig) -> State:
    """Shapes and dtypes of the state of a run.

    Raises:
        InputError: as `check_outside`.
    """
    outside = check_outside(config)
    dtype = jax.eval_shape(bare(outside).reset, jax.random.key(0))[1].dtype
    return jax.eval_shape(make_init(outside), jax.random.key(0), observations(outside, dtype), None)


def env_key(key: Key) -> Key:
    """The key of a run's environments, of that with which its state is made."""
    return jax.random.fold_in(key, 1)


def check_outside(config: Any, made: bool = True, queue: bool = False) -> Outside:
    """What is left of the algorithm of ``config`` without its environments.

    Args:
        config: the ``Config`` of an algorithm.
        made: whether its environments are made of ``config``; otherwise they are the user's.
        queue: whether it may have a queue between actors and learner.

    Raises:
        InputError: for an algorithm or a setting that cannot be used here.
    """
    outside: Outside = build(config).outside
    if outside.refusal is not None and not (queue and outside.refusal[:2] == ("schedule", "queue")):
        reject(*outside.refusal)
    wrappers = envs.changed(config.env.wrappers)
    for name in ("action_repeat", "stagger_resets") if made else envs.AROUND_STEPS:
        if name in wrappers:
            whose = "outside of JAX" if made else "of one's own outside of JAX"
            reject(name, wrappers[name], f"{getattr(envs.Wrappers(), name)!r}, for environments {whose}")
    return outside


def check_no_statistics(config: Any) -> None:
    """Check that no wrapper has running statistics, for workers or actors that run at the same time.

    Raises:
        InputError: naming the wrapper.
    """
    for name in ("normalize_observations", "scale_rewards"):
        if getattr(config.env.wrappers, name):
            reject(name, True, "False: what runs at the same time shares no statistics")


def check_env(outside: Outside, env: HostEnv, count: int) -> None:
    """Check that these are as many environments as the run has, with the observations and actions that it expects.

    Raises:
        InputError: naming what differs.
    """
    if env.num_envs != count:
        reject("env", f"{env.num_envs} environments", f"{count} environments, as the config says")
    for name in ("observation_shape", "action_space"):
        expected = getattr(bare(outside), name)
        if getattr(env, name) != expected:
            reject("env", f"{name} {getattr(env, name)}", f"of {name} {expected}")
