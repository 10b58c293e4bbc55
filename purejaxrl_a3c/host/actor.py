"""What actors and the learner of `host.train_actors` compute, and the thread of an actor."""

import queue
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.host.programs import (
    Draws,
    Place,
    Rollouts,
    act,
    collect,
    compile_show,
    draw_at,
    end_of,
    start_place,
    to_trajectories,
    types_of_rollouts,
)
from purejaxrl_a3c.host.vector import HostEnv
from purejaxrl_a3c.loops.metrics import episode_sums
from purejaxrl_a3c.loops.outside import Outside
from purejaxrl_a3c.types import Key, Params, Scalars, TimeStep
from purejaxrl_a3c.updates.queue import QueueEvent, QueueState, happen
from purejaxrl_a3c.updates.queued import Learner, usage

_SUMMED = ("terminated", "truncated", "episode_return", "episode_length")


class Part(NamedTuple):
    """A part of a rollout that an actor has ended."""

    worker: int
    rollouts: Rollouts
    carry: Any  # of the network at its start, leaves [1, B, ...]


class Task(NamedTuple):
    """What an actor is to do."""

    params: Params
    push: int  # the number of the part among all, by which random numbers are drawn


class Failure(NamedTuple):
    """What ended an actor."""

    worker: int
    step: int  # of its rollout
    error: Exception


class Programs(NamedTuple):
    """The compiled parts of a run; ``W`` is 1 in them, as each actor acts for itself."""

    start: Callable[[Any], Place]
    """first observations [1, B, ...] -> where the actor is then."""
    draw: Callable[..., Draws]
    """(key of the run, number of the push, worker int32 [1]) -> `Draws`."""
    act: Callable[..., Any]
    """(params, draws, step, carry, obs, first) -> as of `programs.act`."""
    show: Callable[[Any, TimeStep], tuple[Any, TimeStep]] | None
    """As `programs.show`; None without wrappers."""
    sums: Callable[[Any], Scalars]
    """rows that `episode_sums` needs, of a rollout -> its sums."""
    learn: Callable[..., tuple[Params, Any, Scalars]]
    """(key of the run, number of the last push, number of the event, learner, rollouts and carries at their start, R
    lists of parts, staleness int32 [R, parts]) -> as of `ClockedRule.learn_batch`."""
    happen: Callable[..., tuple[QueueState, QueueEvent, Scalars]]
    """(state, of_learner, worker, time) -> as of `queue.happen`, and what `queued.usage` reports."""


def rows_to_sum(rollouts: Rollouts) -> dict[str, Any]:
    """The argument of ``sums``."""
    return {name: rollouts.rows[name] for name in _SUMMED}


def compile_programs(
    outside: Outside, asynchrony: Any, learner: Learner, state: QueueState, obs: Any
) -> tuple[Programs, list[str], list[str]]:
    """The `Programs` of a run, and the names of what the learner and what the queue reports.

    Args:
        outside: an algorithm with a queue, without its environments.
        asynchrony: its `Asynchrony`.
        learner: at the start.
        state: of the queue at the start.
        obs: first observations of one actor's environments, ``[1, B, ...]``.
    """
    acting, settings = outside.acting, asynchrony.queue
    rule: Any = outside.rule
    objective: Any = outside.objective
    length, workers = acting.layout.rollout_length, acting.layout.workers

    def keys(key: Key, push: Any) -> Any:
        """Those of a push, as `loops.iteration.in_batches` makes them: of the batch, for acting, and to learn."""
        return jax.random.split(jax.random.fold_in(jax.random.fold_in(key, push // workers), push % workers), 3)

    def draw(key: Key, push: Any, worker: Any) -> Draws:
        return draw_at(acting, keys(key, push)[1], push // workers, worker, jnp.zeros(1, jnp.int32))

    def act_one(params: Params, draws: Draws, step: Any, carry: Any, obs: Any, first: Any) -> Any:
        return act(acting, jax.tree.map(lambda x: x[None], params), draws, step, carry, obs, first)

    def sums(rows: dict[str, Any]) -> Scalars:
        return episode_sums(_Rows(**rows))  # type: ignore[arg-type]

    def learn(key: Key, push: Any, event: Any, learner: Learner, parts: Any, staleness: Any) -> Any:
        trajectories = [[to_trajectories(*part) for part in rollout] for rollout in parts]
        leaves = [jax.tree.map(lambda *x: jnp.concatenate(x), *rollout) for rollout in trajectories]
        batch = jax.tree.map(lambda *x: jnp.stack(x), *leaves)
        key_learn = jax.random.fold_in(keys(key, push)[2], event)
        return rule.learn_batch(key_learn, learner, objective, batch, staleness)

    def happens(state: QueueState, of_learner: Any, worker: Any, time: Any) -> Any:
        state, event = happen(settings, asynchrony.service, state, of_learner, worker, time)
        return state, event, usage(state, event)

    key, number, worker = jax.random.key(0), jnp.int32(0), jnp.zeros(1, jnp.int32)
    start = jax.jit(lambda obs: start_place(acting, obs))
    place = jax.eval_shape(start, obs)
    draws = jax.eval_shape(draw, key, number, worker)
    to_act = learner.params, draws, number, place.carry, place.obs, place.first
    answer = jax.eval_shape(act_one, *to_act)
    rollouts = types_of_rollouts(length, answer, place.obs, place.first, place.wrappers)
    parts = [[(rollouts, place.carry)] * settings.parts_per_rollout] * settings.batch_rollouts
    staleness = jax.ShapeDtypeStruct((settings.batch_rollouts, settings.parts_per_rollout), jnp.int32)
    to_learn = key, number, number, learner, parts, staleness
    programs = Programs(
        start=start.lower(obs).compile(),
        draw=jax.jit(draw).lower(key, number, worker).compile(),
        act=jax.jit(act_one).lower(*to_act).compile(),
        show=compile_show(acting.env.told, place.wrappers, obs),
        sums=jax.jit(sums).lower(rows_to_sum(rollouts)).compile(),
        learn=jax.jit(learn).lower(*to_learn).compile(),
        happen=jax.jit(happens).lower(state, jnp.bool_(False), number, jnp.float32(0)).compile(),
    )
    used = jax.eval_shape(happens, state, jnp.bool_(False), number, jnp.float32(0))[2]
    return programs, sorted(jax.eval_shape(learn, *to_learn)[2]), sorted(used)


class _Rows(NamedTuple):
    """The fields of a `Trajectory` that `episode_sums` reads."""

    terminated: Any
    truncated: Any
    episode_return: Any
    episode_length: Any


def work(
    worker: int,
    key: Key,
    programs: Programs,
    make_env: Callable[[], HostEnv],
    seed: int,
    length: int,
    tasks: "queue.Queue[Task | None]",
    done: "queue.Queue[Any]",
) -> None:
    """Act until there is no further task. Parts of rollouts and an error are put into ``done``."""
    step, me = 0, jnp.full(1, worker, jnp.int32)
    steps = [jnp.int32(t) for t in range(length)]
    try:
        env = make_env()
        try:
            place = programs.start(env.reset(seed)[None])
            while (task := tasks.get()) is not None:
                params, draws = task.params, programs.draw(key, jnp.int32(task.push), me)

                def act_at(t: int, *seen: Any, params: Params = params, draws: Draws = draws) -> Any:
                    nonlocal step
                    step = t
                    return programs.act(params, draws, steps[t], *seen)

                rollouts = collect(act_at, env, length, place._replace(first=np.asarray(place.first)), programs.show)
                done.put(Part(worker, rollouts, place.carry))
                place = end_of(rollouts)
        finally:
            env.close()
    except Exception as error:  # whatever an environment may raise
        done.put(Failure(worker, step, error))
