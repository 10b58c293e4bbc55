"""The compiled parts of a run in environments outside of JAX that step together."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c import envs
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import flat, parts
from purejaxrl_a3c.envs import normalize
from purejaxrl_a3c.envs.observations import map_shape
from purejaxrl_a3c.host import reports
from purejaxrl_a3c.host.placing import Placing
from purejaxrl_a3c.host.programs import (
    Draws,
    Place,
    Rollouts,
    act,
    draw,
    end_of,
    show,
    start_carry,
    start_place,
    to_actor_state,
    to_trajectories,
    types_of_answer,
    types_of_rollouts,
)
from purejaxrl_a3c.host.vector import HostEnv
from purejaxrl_a3c.loops.outside import Outside
from purejaxrl_a3c.run.devices import AXIS, EVERYWHERE, Devices
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
    learn: Callable[..., tuple[State, Any, tuple[Params, Draws]]]
    """(key of the run, state, which is consumed, level of exploration, `Rollouts`) -> (state, metrics as of
    `reports.pack`, what acts in the next iteration)."""


def programs_of(outside: Outside) -> Programs:
    """The `Programs` of an algorithm, not compiled yet."""

    def begin(key: Key, state: Any) -> tuple[Params, Draws]:
        return outside.actor(state), draw(outside, key, state.iteration, outside.workers)

    def learn(key: Key, state: Any, level: Any, rollouts: Rollouts) -> Any:
        state, metrics = learn_from(outside, key, state, level, rollouts)
        return state, reports.pack(metrics), begin(key, state)

    told = outside.acting.env.told
    return Programs(
        init=make_init(outside),
        restart=make_restart(outside),
        begin=begin,
        act=partial(act, outside.acting),
        show=None if told is None else show(told),
        learn=learn,
    )


def learn_from(outside: Outside, key: Key, state: Any, level: Any, rollouts: Rollouts) -> tuple[State, Metrics]:
    """The state after an iteration, and its metrics; arguments are those of ``learn`` in `Programs`."""
    trajectories = to_trajectories(rollouts, state.actor_state.carry)
    key_now = jax.random.fold_in(key, state.iteration)
    return outside.learn(key_now, state, level, to_actor_state(end_of(rollouts)), trajectories)


def compile_programs(
    config: AlgorithmConfig, outside: Outside, observation_dtype: Any, pretrained: Pretrained | None, on: Devices | None
) -> tuple[Programs, Placing, State, Metrics]:
    """The compiled `Programs` of an algorithm, how they place arrays, and types of its states and metrics.

    Args:
        config: the ``Config`` of the algorithm.
        outside: what is left of it.
        observation_dtype: of the environments.
        pretrained: what the run begins with; None: parameters of its own.
        on: the devices that share the run; None: one.
    """
    # Types are those of all devices together, which are those of one.
    whole, placing = programs_of(outside), Placing(on, outside.acting.layout)
    key, obs, number = jax.random.key(0), observations(outside, observation_dtype), jnp.int32(0)
    state = jax.eval_shape(whole.init, key, obs, pretrained)
    acts, seen = jax.eval_shape(whole.begin, key, state), state.actor_state
    acting = *acts, number, seen.carry, seen.obs, seen.first
    acted = jax.eval_shape(whole.act, *acting)
    rollouts = types_of_rollouts(outside.acting.layout.rollout_length, acted, seen.obs, seen.first, seen.env)
    learning = key, state, acts[1].level, rollouts
    metrics = jax.eval_shape(partial(learn_from, outside), *learning)[1]

    same, pairs, own = EVERYWHERE, placing.pairs, None if on is None else on.state
    of_acts = placing.workers, Draws(noise=placing.later, level=pairs)
    of_rollouts: Any = Rollouts(*(placing.later, pairs, pairs, pairs, pairs))  # type: ignore[arg-type]

    def compile_one(name: str, in_specs: Any, out_specs: Any, types: Any, **options: Any) -> Any:
        def on_device(*arguments: Any) -> Any:
            here = whole if on is None else programs_of(build(config, AXIS).outside)
            return getattr(here, name)(*arguments)

        return placing.compile(on_device, in_specs, out_specs, types, **options)

    init = compile_one("init", (same, pairs, same), own, (key, obs, pretrained))
    begin = compile_one("begin", (same, own), of_acts, (key, state))
    act_now = compile_one("act", (*of_acts, same, pairs, pairs, pairs), pairs, acting)
    shown = types_of_answer(obs)
    show_now = compile_one("show", (pairs, pairs), pairs, (seen.env, shown)) if whole.show else None
    # A replay buffer is not to be copied.
    in_learning = same, own, pairs, of_rollouts
    learn = compile_one("learn", in_learning, (own, same, of_acts), learning, donate=(1,))

    def act_local(params: Params, draws: Draws, step: Any, carry: Any, *seen: Any) -> Any:
        carry, *found = act_now(params, draws, step, carry, *placing.spread((pairs, pairs), seen))
        return carry, *placing.local(found)

    def show_local(wrappers: Any, answer: TimeStep) -> tuple[Any, TimeStep]:
        assert show_now is not None
        wrappers, shown = show_now(wrappers, placing.spread(pairs, answer))
        return wrappers, placing.local(shown)

    def restart(state: Any, obs: Any) -> Any:
        return compile_one("restart", (own, pairs), own, (state, obs))(state, placing.spread(pairs, obs))

    programs = Programs(
        init=lambda key, obs, pretrained: init(
            placing.put(key), placing.spread(pairs, obs), jax.tree.map(placing.put, pretrained)
        ),
        restart=restart,
        begin=lambda key, state: begin(placing.put(key), state),
        act=act_local,
        show=show_local if show_now else None,
        learn=lambda key, state, level, rollouts: learn(
            placing.put(key), state, level, placing.spread(of_rollouts, rollouts)
        ),
    )
    return programs, placing, state if on is None else on.place(state), metrics


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
        first = jnp.ones(jax.tree.leaves(obs)[0].shape[:2], bool)
        if told is not None:
            # Wrappers that remember more than an episode are told that it was cut off.
            zeros = jnp.zeros(first.shape, jnp.float32)
            wrappers, shown = show(told)(wrappers, TimeStep(obs, zeros, ~first, first, obs))
            obs = shown.obs
        place = Place(obs, first, start_carry(outside.acting, first.shape), wrappers)
        return state._replace(actor_state=to_actor_state(place))

    return restart


def observations(outside: Outside, dtype: Any) -> Any:
    """Types of the observations of all environments, leaves ``[W, B, ...]``, before wrappers."""
    layout = outside.acting.layout

    def of_all(shape: tuple[int, ...], dtype: Any) -> Any:
        return jax.ShapeDtypeStruct((layout.workers, layout.envs, *shape), dtype)

    return map_shape(of_all, bare(outside).observation_shape, dtype)


def bare(outside: Outside) -> Env:
    """The environment without wrappers, which cannot step."""
    env = outside.acting.env
    return env if env.told is None else env.told.env


def state_types(config: AlgorithmConfig, on: Devices | None = None) -> State:
    """Shapes, dtypes and, on several devices, shardings of the state of a run.

    Raises:
        InputError: as `check_outside`.
    """
    types = jax.eval_shape(blank_init(check_outside(config, queue=True)), jax.random.key(0))
    return types if on is None else on.place(types)


def blank_init(outside: Outside) -> Callable[[Key], Any]:
    """Key -> the state at the start of a run whose observations are zeros, as a device has it."""
    layout, env = outside.acting.layout, bare(outside)
    types = jax.eval_shape(env.reset, jax.random.key(0))[1]

    def of_all(x: Any) -> jax.Array:
        return jnp.zeros((layout.workers_here, layout.envs_here, *x.shape), x.dtype)

    return lambda key: make_init(outside)(key, jax.tree.map(of_all, types), None)


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
    wrappers = envs.changed(parts(config)["env"].wrappers)
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
        if flat(config)[name]:
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
