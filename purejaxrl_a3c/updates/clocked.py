"""A3C's rule on the virtual clock, where a worker pushes when its simulated task ends."""

import jax
import jax.numpy as jnp

from purejaxrl_a3c.types import ClockedRule, Key, Objective, Params, Scalars, Trajectory
from purejaxrl_a3c.updates import clock, pushes
from purejaxrl_a3c.updates.clock import PushBatch
from purejaxrl_a3c.updates.pushes import Arrivals, Learner, Setup


def clocked(setup: Setup) -> ClockedRule:
    """The rule whose order of arrival is that of the clock; see `asynchronous`."""
    settings = setup.asynchrony

    def init(key: Key, params: Params) -> Learner:
        return pushes.start(setup, params, clock.start(key, settings.service, setup.num_workers))

    def next_batch(key: Key, learner: Learner, remaining: int | jax.Array) -> tuple[Learner, PushBatch]:
        assert learner.clock is not None
        now, batch = clock.next_batch(
            key,
            learner.clock,
            settings.service,
            max_pushes=setup.max_pushes,
            remaining=remaining,
            max_lead=settings.max_lead,
        )
        return learner._replace(clock=now), _on_this_device(setup, batch)

    def actor(learner: Learner, batch: PushBatch) -> Params:
        return jax.tree.map(lambda x: x[batch.workers], learner.snapshots)

    def update(
        key: Key, learner: Learner, objective: Objective, trajectories: Trajectory, batch: PushBatch
    ) -> tuple[Learner, Scalars]:
        arrivals = Arrivals(batch.pushers, batch.pushed, batch.row, batch.pull_after)
        acting = actor(learner, batch)
        key, push_keys = pushes.split_key(setup, key, setup.max_pushes)
        learner, metrics, reported = pushes.push_all(
            setup, key, push_keys, learner, objective, acting, trajectories, arrivals
        )
        metrics = jax.tree.map(lambda x: x[batch.row], metrics)
        return learner, metrics | reported | {"virtual_time": batch.time}

    return ClockedRule(init, next_batch, actor, update, lambda learner: pushes.split_learner(setup, learner))


def _on_this_device(setup: Setup, batch: PushBatch) -> PushBatch:
    """The batch with the workers that act on this one of several devices."""
    if setup.axis_name is None:
        return batch
    # How many of the pushing workers are here is known only when the program runs, so all that are here act.
    own = batch.pushers[None] == pushes.own_workers(setup)[:, None]
    return batch._replace(
        workers=jnp.arange(setup.workers_here, dtype=jnp.int32),
        number=jnp.where(own.any(1), own.argmax(1).astype(jnp.int32), setup.max_pushes),
        active=(own & batch.pushed[None]).any(1),
        row=batch.pushers,
    )
