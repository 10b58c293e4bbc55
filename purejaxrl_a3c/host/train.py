"""Training in environments outside of JAX: acting and learning are compiled, and a loop of Python lies between them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.envs import Wrappers
from purejaxrl_a3c.host.programs import Draws, Rollouts, act, collect, draw, start_carry, to_trajectories
from purejaxrl_a3c.host.vector import HostEnv, make
from purejaxrl_a3c.loops import iteration, rollout
from purejaxrl_a3c.loops.iteration import Parts, State
from purejaxrl_a3c.loops.on_policy import finish, start_learning
from purejaxrl_a3c.run.train import AlgorithmConfig, Result, build
from purejaxrl_a3c.types import ClockedRule, Key, Metrics, Params, UpdateRule


class Programs(NamedTuple):
    """The compiled parts of an iteration."""

    begin: Callable[[Key, State], tuple[Params, Draws]]
    """(key of the run, state) -> (parameters that act, leaves [W, ...], `Draws`) of the next iteration."""
    act: Callable[..., Any]
    """As `programs.act`, without the parts of the algorithm."""
    learn: Callable[..., tuple[State, Metrics, tuple[Params, Draws]]]
    """(key of the run, state, what acted, `Rollouts`) -> (state, metrics, what acts in the next iteration)."""


def train(
    config: AlgorithmConfig,
    key: Key,
    env: HostEnv | None = None,
    on_iteration: Callable[[State, Metrics], None] | None = None,
) -> Result:
    """A run of an on-policy algorithm in environments outside of JAX.

    The algorithm is the same as in `make_train`: the network, the objective, the update rule and its schedule of
    workers, whose staleness is simulated here as there. With the same observations it learns the same parameters. The
    environments of all workers step together. Their states are not part of the result, so a run cannot be resumed; it
    repeats if the environments do.

    Args:
        config: the ``Config`` of an on-policy algorithm whose ``env_id`` begins with ``gym/`` or ``ale/``.
        key: consumed; also the environments' seed is made of it.
        env: environments of one's own, as many as ``config`` has; None: those of ``env_id``. They are not closed.
        on_iteration: called after every iteration with the state and the metrics of that iteration.

    Returns:
        A `Result`; the metrics are arrays of NumPy ``[I]``.

    Raises:
        InputError: naming the setting, its value and what is accepted.
    """
    algorithm = build(config)
    parts = check_parts(config, algorithm.parts)
    count = parts.layout.workers * parts.layout.envs
    own = make(config.env.env_id, count) if env is None else env  # type: ignore[attr-defined]
    try:
        check_env(parts, own, count)
        reports = []
        for state, metrics in iterations(parts, own, randomness.as_key(key)):
            reports.append(jax.device_get(metrics))
            if on_iteration is not None:
                on_iteration(state, metrics)
    finally:
        if env is None:
            own.close()
    return Result(state, jax.tree.map(lambda *rows: np.stack(rows), *reports))


def iterations(parts: Parts, env: HostEnv, key: Key) -> Any:
    """The states and the metrics of a run, one after the other."""
    programs = compile_parts(parts)
    key_init, key_run = jax.random.split(key)
    key_network, key_env, key_rule, key_bonus = jax.random.split(key_init, 4)
    shape = parts.layout.workers, parts.layout.envs
    obs = env.reset(int(jax.random.randint(key_env, (), 0, 2**31 - 1))).reshape(*shape, *env.observation_shape)
    first, carry = np.ones(shape, bool), start_carry(parts, shape)
    actor_state = rollout.ActorState((), jnp.asarray(obs), jnp.asarray(first), carry)
    state = start_learning(key_rule, key_bonus, parts, parts.network.init(key_network), actor_state)
    steps = [jnp.int32(t) for t in range(parts.layout.rollout_length)]
    acts = programs.begin(key_run, state)
    for _ in range(parts.layout.iterations):

        def act_at(t: int, *seen: Any, acts: tuple[Params, Draws] = acts) -> Any:
            return programs.act(*acts, steps[t], *seen)

        rollouts = collect(act_at, env, parts.layout.rollout_length, carry, obs, first)
        state, metrics, acts = programs.learn(key_run, state, acts, rollouts)
        obs, first, carry = rollouts.end_obs, rollouts.first, rollouts.carries[-1]
        yield state, metrics


def compile_parts(parts: Parts) -> Programs:
    """The `Programs` of an algorithm; they are compiled when they are first called."""
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

    return Programs(jax.jit(begin), jax.jit(act_now), jax.jit(learn))


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
