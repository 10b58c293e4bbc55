"""Builds every on-policy `Algorithm` from an environment, a network, an objective and an update rule."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c import envs, networks
from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.envs import normalize
from purejaxrl_a3c.loops import rollout
from purejaxrl_a3c.loops.layout import EnvLayout
from purejaxrl_a3c.loops.metrics import episode_sums, make_metrics
from purejaxrl_a3c.loops.origin import Origin, origin
from purejaxrl_a3c.objectives import extrinsic
from purejaxrl_a3c.types import (
    Algorithm,
    Bonus,
    Carry,
    ClockedRule,
    Env,
    EnvState,
    Key,
    Learner,
    MakeBonus,
    MakeObjective,
    Metrics,
    Network,
    Objective,
    Observation,
    Outputs,
    Params,
    Pretrained,
    Scalars,
    Trajectory,
    UpdateRule,
)


class State(NamedTuple):
    """Everything that a run carries from one iteration to the next. It holds no key: see `make_train`."""

    learner: Learner  # the update rule's; ``learner.params`` are the current parameters
    actor_state: rollout.ActorState  # every leaf [W, B, ...]
    iteration: jax.Array  # int32 []: iterations done
    bonus: Any  # the state of the `Bonus`; () without one
    origin: Origin  # the settings that it belongs to; no array


class Parts(NamedTuple):
    """The parts of an on-policy algorithm."""

    env: Env
    network: Network
    objective: Objective
    rule: UpdateRule | ClockedRule
    layout: EnvLayout
    bonus: Bonus | None
    origin: Origin


class Iteration(NamedTuple):
    """What an iteration of acting and learning leaves."""

    learner: Learner
    actor_state: rollout.ActorState
    bonus: Any
    reported: Scalars  # named vectors, an entry a push
    sums: Scalars  # see `episode_sums`


def on_policy(
    env: envs.Config,
    network: networks.Config,
    gamma: float | jax.Array,
    layout: EnvLayout,
    make_objective: MakeObjective,
    rule: UpdateRule | ClockedRule,
    *,
    weights_per_worker: bool = False,
    make_bonus: MakeBonus | None = None,
) -> Algorithm:
    """The algorithm that alternates rollouts of ``T`` steps in ``W * B`` environments with updates.

    Args:
        env: the environment's settings.
        network: the network's settings.
        gamma: discount factor of the environment's rewards.
        layout: the environments of the run; with an ``axis_name``, this and the functions of the result must be called
            where that name is bound.
        make_objective: makes the objective for the network.
        rule: how the objective's gradients are applied.
        weights_per_worker: whether every worker acts with parameters of its own, which only matters to the speed of
            convolutions.
        make_bonus: makes an intrinsic reward; None: the environment's rewards alone.

    Returns:
        An `Algorithm`, whose state is a `State`.

    Raises:
        InputError: naming the setting, its value and what is accepted.
    """
    made_env = envs.make(env, gamma)
    bonus = make_bonus(network, made_env, layout.axis_name) if make_bonus else None
    if bonus and isinstance(rule, ClockedRule):
        # The bonus of a rollout is computed once an iteration, but on the clock workers act after others have learned.
        reject("schedule", "clock", "random or round_robin, with a bonus")
    made = networks.make(network, made_env, weights_per_worker=weights_per_worker, num_values=2 if bonus else 1)
    estimator = bonus.estimator(made, gamma) if bonus else extrinsic(made, gamma)
    objective = make_objective(made, estimator=estimator)
    parts = Parts(made_env, made, objective, rule, layout, bonus, origin(env, network))
    return algorithm(parts, env)


def algorithm(parts: Parts, observed: envs.Config | None = None) -> Algorithm:
    """The `Algorithm` of these parts, as of `on_policy`; ``observed`` are the settings of its environment, if any."""
    env, network, _, rule, layout, bonus, _ = parts

    def step(key: Key, state: State) -> tuple[State, Metrics]:
        if isinstance(rule, ClockedRule):
            done = in_batches(key, parts, rule, state)
        else:
            done = at_once(key, parts, rule, state)
        # Only now: acting and learning must see the observations of a rollout through the same statistics.
        states = env.refresh(done.actor_state.env, layout.axis_name)
        iteration = state.iteration + 1
        metrics = make_metrics(layout, iteration, means_over_pushes(done.reported, iteration), done.sums)
        actor_state = done.actor_state._replace(env=states)
        return State(done.learner, actor_state, iteration, done.bonus, parts.origin), metrics

    def policy(state: State) -> Callable[[Carry, Observation, jax.Array], tuple[Carry, Outputs]]:
        return lambda carry, obs, first: network.step(state.learner.params, carry, obs, first)

    def eval_env(state: State) -> Env:
        assert env.freeze is not None
        return env.freeze(one_copy(state))

    def split(state: State) -> Any:
        axis = layout.split_axis
        axes: dict[str, Any] = {
            "learner": rule.split(state.learner),
            "actor_state": jax.tree.map(lambda _: axis, state.actor_state),
            "iteration": -1,
            "bonus": bonus.split(state.bonus, axis) if bonus else (),
        }
        return state._replace(**axes)

    return Algorithm(
        init=lambda key, pretrained=None: init(key, parts, pretrained),
        step=step,
        policy=policy,
        eval_env=eval_env,
        observer=lambda state: envs.make_observer(observed or envs.Config(env_id=env), one_copy(state)),
        split=split,
        env=env,
        network=network,
        frames_per_step=layout.frames,
        iterations=layout.iterations,
    )


def one_copy(state: State) -> EnvState:
    """The state of one copy of the environment; all have the same statistics."""
    return jax.tree.map(lambda x: x[0, 0], state.actor_state.env)


def init(key: Key, parts: Parts, pretrained: Pretrained | None = None) -> State:
    """The `State` at the start of a run."""
    env, network, _, rule, layout, bonus, _ = parts
    key_network, key_env, key_rule, key_bonus = jax.random.split(key, 4)
    keys = randomness.keys_at(key_env, layout.numbers(layout.own_workers()))
    actor_state = jax.vmap(jax.vmap(lambda key: rollout.start(env, network, key)))(keys)
    params = network.init(key_network)
    if pretrained is not None:
        params = pretrained.params
        if pretrained.observations is not None:
            seen = normalize.set_statistics(actor_state.env, pretrained.observations)
            actor_state = actor_state._replace(env=seen)
    learner = rule.init(key_rule, params)
    started: Any = ()
    if bonus is not None:
        assert isinstance(rule, UpdateRule)
        started = warm_up(key_bonus, parts, rule.actor(learner), bonus, actor_state)
    return State(learner, actor_state, jnp.int32(0), started, parts.origin)


def warm_up(key: Key, parts: Parts, params: Params, bonus: Bonus, actor_state: rollout.ActorState) -> Any:
    """The bonus's state after some rollouts of the untrained policy. The run itself does not continue from these."""
    layout = parts.layout
    key_init, key_act = jax.random.split(key)

    def observe(i: jax.Array, loop: tuple[rollout.ActorState, Any]) -> tuple[rollout.ActorState, Any]:
        actor_state, state = loop
        actor_state, rows = collect(jax.random.fold_in(key_act, i), parts, params, actor_state, layout.own_workers())
        return actor_state, bonus.observe(state, rows)

    started = actor_state, bonus.init(key_init, (layout.workers_here, layout.envs_here))
    return jax.lax.fori_loop(0, bonus.warm_up, observe, started)[1]


def collect(
    key: Key, parts: Parts, params: Params, actor_state: rollout.ActorState, numbers: jax.Array
) -> tuple[rollout.ActorState, Trajectory]:
    """Rollouts of ``L`` workers.

    Args:
        key: consumed.
        parts: of the algorithm.
        params: the parameters of each worker, leaves ``[L, ...]``.
        actor_state: leaves ``[L, B, ...]``.
        numbers: int32 ``[L]``, by which each worker's random numbers are drawn.

    Returns:
        ``(actor_state, trajectories [L, B, T])``.
    """
    index = randomness.components(parts.layout.numbers(numbers), parts.layout.rollout_length)
    noise, keys = rollout.draw(parts.network, key, index)

    def act(params: Params, actor_state: rollout.ActorState, noise: Any, keys: Key) -> Any:
        return rollout.unroll(parts.env, parts.network, params, actor_state, noise, keys)

    return jax.vmap(jax.vmap(act, (None, 0, 0, 0)))(params, actor_state, noise, keys)


def at_once(key: Key, parts: Parts, rule: UpdateRule, state: State) -> Iteration:
    """An iteration in which all workers act and one update follows."""
    layout, bonus = parts.layout, parts.bonus
    key_act, key_update, key_bonus = jax.random.split(key, 3)
    params = rule.actor(state.learner)
    actor_state, trajectories = collect(key_act, parts, params, state.actor_state, layout.own_workers())
    bonus_state = state.bonus
    if bonus is not None:
        bonus_state, trajectories = bonus.update(key_bonus, bonus_state, trajectories)
    learner, reported = rule.update(key_update, state.learner, parts.objective, trajectories)
    return Iteration(learner, actor_state, bonus_state, reported, episode_sums(trajectories))


def in_batches(key: Key, parts: Parts, rule: ClockedRule, state: State) -> Iteration:
    """An iteration of as many batches of pushes as it takes until ``W`` pushes are made."""
    workers = parts.layout.workers

    def take_batch(learner: Learner, actor_state: rollout.ActorState, done: jax.Array) -> tuple[Any, ...]:
        key_batch, key_act, key_update = jax.random.split(jax.random.fold_in(key, done), 3)
        learner, batch = rule.next_batch(key_batch, learner, workers - done)
        acting = jax.tree.map(lambda x: x[batch.workers], actor_state)
        acting, trajectories = collect(key_act, parts, rule.actor(learner, batch), acting, batch.number)
        learner, reported = rule.update(key_update, learner, parts.objective, trajectories, batch)
        # Rollouts of workers that do not push in this batch are discarded; they are redone from the same snapshot.
        places = jnp.where(batch.active, batch.workers, workers)
        actor_state = jax.tree.map(lambda x, new: x.at[places].set(new, mode="drop"), actor_state, acting)
        return learner, actor_state, batch.pushed, reported, episode_sums(trajectories, batch.active[:, None, None])

    def body(loop: tuple[Any, ...]) -> tuple[Any, ...]:
        learner, actor_state, done, metrics_buffer, sums = loop
        learner, actor_state, pushed, reported, more = take_batch(learner, actor_state, done)
        at = jnp.where(pushed, done + jnp.arange(pushed.size, dtype=jnp.int32), workers)
        metrics_buffer = jax.tree.map(lambda buffer, x: buffer.at[at].set(x, mode="drop"), metrics_buffer, reported)
        done = done + pushed.sum(dtype=jnp.int32)
        return learner, actor_state, done, metrics_buffer, jax.tree.map(jnp.add, sums, more)

    *_, reported, sums = jax.eval_shape(take_batch, state.learner, state.actor_state, jnp.int32(0))
    metrics_buffer = jax.tree.map(lambda x: jnp.zeros(workers, x.dtype), reported)
    sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), sums)
    loop = state.learner, state.actor_state, jnp.int32(0), metrics_buffer, sums
    learner, actor_state, _, reported, sums = jax.lax.while_loop(lambda loop: loop[2] < workers, body, loop)
    return Iteration(learner, actor_state, state.bonus, reported, sums)


def means_over_pushes(reported: Scalars, iteration: jax.Array) -> Scalars:
    """What an iteration reports, from named vectors with an entry a push."""
    reported = dict(reported)
    staleness = reported.pop("staleness")
    losses = {name: values.astype(jnp.float32).mean() for name, values in reported.items()}
    return losses | {
        "staleness_mean": staleness.astype(jnp.float32).mean(),
        "staleness_max": staleness.max(),
        "virtual_time": reported.get("virtual_time", iteration.astype(jnp.float32)).max(),
    }
