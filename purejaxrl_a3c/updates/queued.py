"""Training through a queue: workers act, finished rollouts wait, and a learner learns from batches of them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.backend import split
from purejaxrl_a3c.backend.vectors import ravel, ravel_and_back
from purejaxrl_a3c.types import ClockedRule, Key, Objective, Params, Scalars, Trajectory
from purejaxrl_a3c.updates import queue
from purejaxrl_a3c.updates.learning import Learning
from purejaxrl_a3c.updates.queue import Queue, QueueEvent, QueueState
from purejaxrl_a3c.updates.service import Service
from purejaxrl_a3c.updates.staleness import add_to_histogram


class Learner(NamedTuple):
    """The parameters, what workers and actors see of them, and the finished rollouts."""

    params: Params  # the newest ones: until the learner ends its update, no worker can pull them
    opt_state: Any  # of the parameters raveled into one vector [P]
    published: Params  # what a pull sees
    snapshots: Params  # every leaf [W, ...]
    queue: QueueState
    rollouts: Trajectory | None  # finished and unfinished ones, leaves [N + W, parts, B, ...]; None before `hold`
    reported: Scalars  # float32 []: of the last batch; 0 before the first one
    staleness: jax.Array  # int32 [64]: how many of the learned steps' parts had each staleness; the last: that or more


class QueueBatch(NamedTuple):
    """The next event, as a batch with one push of one worker at most, see `clock.PushBatch`."""

    event: QueueEvent
    workers: jax.Array  # int32 [1]: who acts
    number: jax.Array  # int32 [1]: 0, by which random numbers are drawn
    active: jax.Array  # bool [1]: whether a worker has ended a part of its rollout; otherwise it acts for nothing
    pushed: jax.Array  # bool [1]: likewise


def queued(learning: Learning, settings: Queue, service: Service, num_workers: int) -> ClockedRule:
    """The rule of a queue, in which a push is a part of a rollout; see `queue`.

    The learner's updates are made when it takes their batches, and are seen when they end. It reports what the learning
    does of the last batch, and

    - ``staleness``: of the last batch, the mean number of versions that the parameters that acted were old, and
      ``staleness_max``;
    - ``queue_length``;
    - ``busy_workers`` and ``busy_learner``: the share of the time in which they acted and learned, so far;
    - ``discarded``: the share of the finished rollouts that was discarded, so far.

    Args:
        learning: how a batch is learned from. Several devices share every worker's environments out, as it is told.
        settings: the `Queue`.
        service: how long rollouts take.
        num_workers: ``W``.
    """

    def init(key: Key, params: Params) -> Learner:
        del key
        return Learner(
            params=params,
            opt_state=learning.init(ravel(params)),
            published=params,
            snapshots=jax.tree.map(lambda x: jnp.broadcast_to(x, (num_workers, *x.shape)), params),
            queue=queue.start(settings, service, num_workers),
            rollouts=None,
            reported={},
            staleness=jnp.zeros(64, jnp.int32),
        )

    def hold(learner: Learner, objective: Objective, trajectories: Trajectory) -> Learner:
        places = queue.place_count(learner.queue) + num_workers
        shape = (places, settings.parts_per_rollout)
        rollouts = jax.tree.map(lambda x: jnp.zeros((*shape, *x.shape[1:]), x.dtype), trajectories)
        learner = learner._replace(rollouts=rollouts)
        taken = jnp.zeros(settings.batch_rollouts, jnp.int32)

        def learn() -> Scalars:
            batch = jax.tree.map(lambda x: x[taken], rollouts)
            return learn_batch(jax.random.key(0), learner, objective, batch, taken[:, None])[2]

        reported = jax.eval_shape(learn)
        return learner._replace(reported={name: jnp.float32(0) for name in reported})

    def next_batch(key: Key, learner: Learner, remaining: int | jax.Array) -> tuple[Learner, QueueBatch]:
        del key, remaining
        state, event = queue.next_event(settings, service, learner.queue)
        acts, number = ~event.of_learner[None], jnp.zeros(1, jnp.int32)
        return learner._replace(queue=state), QueueBatch(event, event.worker[None], number, acts, acts)

    def actor(learner: Learner, batch: QueueBatch) -> Params:
        return jax.tree.map(lambda x: x[batch.workers], learner.snapshots)

    def learn_batch(
        key: Key, learner: Learner, objective: Objective, rollouts: Trajectory, staleness: jax.Array
    ) -> tuple[Params, Any, Scalars]:
        vector, unravel = ravel_and_back(learner.params)
        told = {"staleness": staleness.max(), "pulled": vector}
        batch = joined(rollouts, staleness)
        new, state, reported = learning.learn(key, objective, vector, learner.opt_state, batch, unravel, **told)
        reported = jax.tree.map(lambda x: x.astype(jnp.float32).mean(), reported)
        mean, largest = staleness.astype(jnp.float32).mean(), staleness.max().astype(jnp.float32)
        reported |= {"staleness": mean, "staleness_within": mean, "staleness_max": largest}
        return unravel(new), state, reported

    def update(
        key: Key, learner: Learner, objective: Objective, trajectories: Trajectory, batch: QueueBatch
    ) -> tuple[Learner, Scalars]:
        event = batch.event
        learner = _store(learner, trajectories, event)
        publishes = event.of_learner & (event.version % settings.publish_every == 0)
        learner = learner._replace(published=_where(publishes, learner.params, learner.published))
        staleness = event.version - event.taken_versions

        def take() -> tuple[Any, ...]:
            # Two events of the learner can follow one push, and then have the same key.
            key_learn = jax.random.fold_in(key, event.number)
            rollouts = jax.tree.map(lambda x: x[event.taken], learner.rollouts)
            params, state, reported = learn_batch(key_learn, learner, objective, rollouts, staleness)
            counts = add_to_histogram(learner.staleness, staleness.ravel())
            return params, state, reported, counts

        kept = learner.params, learner.opt_state, learner.reported, learner.staleness
        params, opt_state, reported, counts = jax.lax.cond(event.takes, take, lambda: kept)
        snapshots = jax.tree.map(
            lambda old, new: jnp.where(event.pulls.reshape(-1, *[1] * new.ndim), new[None], old),
            learner.snapshots,
            learner.published,
        )
        learner = learner._replace(
            params=params, opt_state=opt_state, reported=reported, staleness=counts, snapshots=snapshots
        )
        return learner, {name: x[None] for name, x in (reported | usage(learner.queue, event)).items()}

    def split_learner(learner: Learner) -> Any:
        return split.copied(learner)._replace(rollouts=split.along(2, learner.rollouts))

    return ClockedRule(init, next_batch, actor, update, split_learner, hold, learn_batch)


def usage(state: QueueState, event: QueueEvent) -> Scalars:
    """Scalars to report of the queue."""
    finished = state.admitted + state.discarded - jnp.isfinite(state.left).sum()
    return {
        "virtual_time": event.time,
        "queue_length": event.queue_length.astype(jnp.float32),
        "busy_workers": state.busy_workers / (state.left.size * state.now),
        "busy_learner": state.busy_learner / state.now,
        "discarded": state.discarded / jnp.maximum(finished, 1),
    }


def _store(learner: Learner, trajectories: Trajectory, event: QueueEvent) -> Learner:
    """Keep a part of a rollout, if a worker has ended one, and the rollout where the queue has it if it is whole."""
    assert learner.rollouts is not None
    places = queue.place_count(learner.queue)
    # The last W places are for the rollouts that are not at their end.
    own = places + event.worker
    row = jnp.where(event.of_learner, places + learner.queue.left.size, own)
    rollouts = jax.tree.map(
        lambda x, new: x.at[row, event.part].set(new[0], mode="drop"), learner.rollouts, trajectories
    )
    at = jnp.where(event.of_learner | (event.place == places), places + learner.queue.left.size, event.place)
    return learner._replace(rollouts=jax.tree.map(lambda x: x.at[at].set(x[own], mode="drop"), rollouts))


def joined(rollouts: Trajectory, staleness: jax.Array) -> Trajectory:
    """Rollouts in parts, leaves ``[R, parts, B, T, ...]``, as whole ones ``[R * B, parts * T, ...]``.

    Args:
        rollouts: the rollouts.
        staleness: int32 ``[R, parts]``.
    """

    def by_step(x: jax.Array) -> jax.Array:
        x = jnp.moveaxis(x, 1, 2)  # [R, B, parts, T, ...]
        return x.reshape(-1, x.shape[2] * x.shape[3], *x.shape[4:])

    def at_part(tree: Any, part: int) -> Any:
        return jax.tree.map(lambda x: x[:, part].reshape(-1, *x.shape[3:]), tree)

    whole = jax.tree.map(by_step, rollouts._replace(carry=(), end_obs=None))
    old = jnp.broadcast_to(staleness[:, :, None, None], rollouts.reward.shape)
    return whole._replace(
        carry=at_part(rollouts.carry, 0), end_obs=at_part(rollouts.end_obs, -1), staleness=by_step(old)
    )


def _where(condition: jax.Array, one: Any, other: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), one, other)
