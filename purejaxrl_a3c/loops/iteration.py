"""One iteration of acting and learning."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.loops import rollout
from purejaxrl_a3c.loops.acting import Acting, collect, levels
from purejaxrl_a3c.loops.exploration import Exploration, no_exploration
from purejaxrl_a3c.loops.layout import EnvLayout
from purejaxrl_a3c.loops.metrics import episode_sums
from purejaxrl_a3c.loops.opponents import Opponents, no_opponents
from purejaxrl_a3c.loops.origin import Origin
from purejaxrl_a3c.objectives import no_target_network
from purejaxrl_a3c.types import (
    Bonus,
    ClockedRule,
    Env,
    Key,
    Learner,
    Network,
    Objective,
    Params,
    Scalars,
    TargetNetwork,
    Trajectory,
    UpdateRule,
)


class State(NamedTuple):
    """Everything that a run carries from one iteration to the next. It holds no key: see `make_train`."""

    learner: Learner  # the update rule's; ``learner.params`` are the current parameters
    actor_state: rollout.ActorState  # every leaf [W, B, ...]
    iteration: jax.Array  # int32 []: iterations done
    bonus: Any  # the state of the `Bonus`; () without one
    target: Any  # the state of the `TargetNetwork`; () without one
    opponents: Any  # the `Pool` of self-play; () without
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
    exploration: Exploration = no_exploration()
    target: TargetNetwork = no_target_network()
    opponents: Opponents = no_opponents()

    @property
    def acting(self) -> Acting:
        """What acts."""
        return Acting(self.env, self.network, self.exploration, self.layout)


class Iteration(NamedTuple):
    """What an iteration of acting and learning leaves."""

    learner: Learner
    actor_state: rollout.ActorState
    bonus: Any
    reported: Scalars  # named vectors, an entry a push
    sums: Scalars  # see `episode_sums`


class Keys(NamedTuple):
    """The keys of an iteration in which all workers act and one update follows."""

    act: Key
    update: Key
    bonus: Key


def keys_of(key: Key) -> Keys:
    """The `Keys` of an iteration, of its key."""
    return Keys(*jax.random.split(key, 3))


def at_once(key: Key, parts: Parts, rule: UpdateRule, state: State) -> Iteration:
    """An iteration in which all workers act and one update follows."""
    keys, workers = keys_of(key), parts.layout.own_workers()
    params, level = rule.actor(state.learner), levels(parts.acting, state.iteration, workers)
    actor_state, trajectories = collect(
        keys.act, parts.acting, params, state.actor_state, workers, level, state.opponents
    )
    return learn_from(keys, parts, rule, state, params, level, actor_state, trajectories)


def learn_from(
    keys: Keys,
    parts: Parts,
    rule: UpdateRule,
    state: State,
    params: Params,
    level: Any,
    actor_state: rollout.ActorState,
    trajectories: Trajectory,
) -> Iteration:
    """The part of `at_once` that comes after acting.

    Args:
        keys: of the iteration.
        parts: those of the algorithm.
        rule: its update rule.
        state: at the start of the iteration.
        params: the parameters that acted, leaves ``[W, ...]``.
        level: how much each environment explored, leaves ``[W, B]``.
        actor_state: the environments after acting, leaves ``[W, B, ...]``.
        trajectories: ``[W, B, T]``.
    """
    trajectories = parts.target.annotate(state.target, params, level, trajectories)
    bonus_state = state.bonus
    if parts.bonus is not None:
        bonus_state, trajectories = parts.bonus.update(keys.bonus, bonus_state, trajectories)
    learner, reported = rule.update(keys.update, state.learner, parts.objective, trajectories)
    return Iteration(learner, actor_state, bonus_state, reported, episode_sums(trajectories))


def in_batches(key: Key, parts: Parts, rule: ClockedRule, state: State) -> Iteration:
    """An iteration of as many batches of pushes as it takes until ``W`` pushes are made."""
    workers, own_workers = parts.layout.workers, parts.layout.own_workers()

    def take_batch(learner: Learner, actor_state: rollout.ActorState, done: jax.Array) -> tuple[Any, ...]:
        key_batch, key_act, key_update = jax.random.split(jax.random.fold_in(key, done), 3)
        learner, batch = rule.next_batch(key_batch, learner, workers - done)
        acting = jax.tree.map(lambda x: x[batch.workers], actor_state)
        params, level = rule.actor(learner, batch), levels(parts.acting, state.iteration, own_workers[batch.workers])
        acting, trajectories = collect(key_act, parts.acting, params, acting, batch.number, level, state.opponents)
        trajectories = parts.target.annotate(state.target, params, level, trajectories)
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
