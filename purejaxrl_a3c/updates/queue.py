"""A queue between actors and a learner, as in asynchronous training of large models: exact discrete-event simulation.

Workers act in *rollouts* with the parameters that they have pulled. Finished rollouts wait in a bounded queue. When the
learner is idle and there are enough of them, it takes a batch, learns from it for a while, and publishes the next
*version* of the parameters. Nothing in this depends on what is learned, so the queue also runs without learning
(`simulate`).

An event is that a worker ends a part of its rollout, or that the learner ends an update. The earliest one is next. Of
simultaneous ones the learner's comes first, then that of the worker with the lowest number. After an event, in this
order:

1. rollouts that are too old are discarded, whether they wait in the queue or for it;
2. rollouts for which there was no room enter the queue, those that ended first before others;
3. the learner takes a batch, if it is idle and there is one;
4. as 2.;
5. workers without a rollout start one if they are admitted, those that have waited longest before others.

A worker holds its rollout until that has entered the queue or is discarded. Of workers that have waited equally long
the one with the lowest number comes first.
"""

from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from purejaxrl_a3c import checks
from purejaxrl_a3c.config import Count, CountOrZero, NonNegative, configuration
from purejaxrl_a3c.types import Key
from purejaxrl_a3c.updates.service import Service, hidden, service_times

QueueOrder: TypeAlias = Literal["oldest", "newest"]
"""Names of the orders in which the learner takes rollouts."""

_NEVER = 2**31 - 1


@configuration
class Queue:
    """The queue between actors and learner; only if schedule is queue."""

    batch_rollouts: Count = 4
    """Rollouts that the learner learns from at once."""
    queue_capacity: Count = 16
    """Rollouts that can wait. A worker that finds no room holds its rollout until there is."""
    learner_time: NonNegative = 1.0
    """How long the learner takes for a batch, in mean service times of a rollout."""
    queue_order: QueueOrder = "oldest"
    """Which of the waiting rollouts the learner takes: those that ended first, or those that ended last."""
    admission_bound: CountOrZero | None = None
    """A rollout starts only while fewer than admission_bound + version + 1 batches of rollouts were started and not
    discarded (AReaL, arXiv 2505.24298), where version counts the updates done; None: always. With 0, actors and learner
    take turns. If versions are published seldom, it counts them: rollouts of publish_every updates may start at once,
    and with 0 this is periodic asynchrony (arXiv 2511.18871)."""
    discard_bound: CountOrZero | None = None
    """Rollouts whose first part was acted with parameters more than this many versions old are discarded; None: none
    are."""
    parts_per_rollout: Count = 1
    """Parts that a rollout consists of, each of rollout_length steps. A worker pulls before each of them, so with more
    than one the versions within a rollout are mixed."""
    publish_every: Count = 1
    """Updates between two versions that actors can pull."""
    schedule_seed: CountOrZero = 0
    """Seed of the service times. They do not depend on the key of the run, so that runs of many keys in one vmap share
    one schedule; otherwise each of them would do the work of every other's events."""


class Waiting(NamedTuple):
    """Finished rollouts, of which ``N = queue_capacity + W`` can exist: every worker may hold one."""

    ended: jax.Array  # int32 [N]: the number of the event that ended it; _NEVER: there is none
    entered: jax.Array  # bool [N]: whether it is in the queue, not held by its worker
    worker: jax.Array  # int32 [N]
    versions: jax.Array  # int32 [N, parts]: of the parameters that acted
    time: jax.Array  # float32 [N]: that it took to act


class QueueState(NamedTuple):
    """What workers and learner are doing. Times are in mean service times of a rollout."""

    seed: jax.Array  # int32 []: of the service times
    now: jax.Array  # float32 []
    event: jax.Array  # int32 []: events so far
    version: jax.Array  # int32 []: updates done
    admitted: jax.Array  # int32 []: rollouts started and not discarded since
    discarded: jax.Array  # int32 []: rollouts discarded
    learner_left: jax.Array  # float32 []: until the learner's update ends; inf: it is idle
    left: jax.Array  # float32 [W]: until the part of each worker's rollout ends; inf: the worker waits
    part: jax.Array  # int32 [W]: parts of its rollout that are done
    part_time: jax.Array  # float32 [W]: that each of them takes
    versions: jax.Array  # int32 [W, parts]
    free_since: jax.Array  # int32 [W]: the event since which it has no rollout; _NEVER: it has one
    waiting: Waiting
    busy_workers: jax.Array  # float32 []: time that workers have acted so far, of all together
    busy_learner: jax.Array  # float32 []


class QueueEvent(NamedTuple):
    """An event and all that follows from it at the same time."""

    number: jax.Array  # int32 []
    time: jax.Array  # float32 []
    version: jax.Array  # int32 []: after it
    of_learner: jax.Array  # bool []: whether the learner has ended an update; otherwise a worker has ended a part
    worker: jax.Array  # int32 []: which, if a worker has
    part: jax.Array  # int32 []: the number of that part
    place: jax.Array  # int32 []: where the rollout is kept if that was its last part; N: it was not
    takes: jax.Array  # bool []: whether the learner takes a batch
    taken: jax.Array  # int32 [batch]: where its rollouts are, in the order in which they are taken
    taken_workers: jax.Array  # int32 [batch]: whose they are
    taken_versions: jax.Array  # int32 [batch, parts]
    taken_time: jax.Array  # float32 [batch]: that each took to act
    discarded: jax.Array  # int32 []: rollouts that are discarded
    discarded_time: jax.Array  # float32 []: that they took to act, in sum
    pulls: jax.Array  # bool [W]: which workers pull, as they start a rollout or its next part
    queue_length: jax.Array  # int32 []: after it


def check_queue(queue: Queue) -> None:
    """Check that the fields of a `Queue` go together.

    Raises:
        InputError: naming the field, its value and what is accepted.
    """
    if queue.queue_capacity < queue.batch_rollouts:
        checks.reject("queue_capacity", queue.queue_capacity, f"at least batch_rollouts, {queue.batch_rollouts}")
    if queue.discard_bound is not None and queue.discard_bound < queue.publish_every - 1:
        # Between two versions that can be pulled, all rollouts would be too old, and no batch would come together.
        checks.reject(
            "discard_bound", queue.discard_bound, f"None or at least publish_every - 1, {queue.publish_every - 1}"
        )


def start(queue: Queue, service: Service, num_workers: int, seed: int | jax.Array | None = None) -> QueueState:
    """The `QueueState` at time 0, when all workers that are admitted start their first rollouts; see `simulate`."""
    places, parts = queue.queue_capacity + num_workers, queue.parts_per_rollout
    workers, none = jnp.zeros(num_workers, jnp.int32), jnp.full(places, _NEVER, jnp.int32)
    waiting = Waiting(
        none, jnp.zeros(places, bool), none, jnp.zeros((places, parts), jnp.int32), jnp.zeros(places, jnp.float32)
    )
    state = QueueState(
        seed=jnp.asarray(queue.schedule_seed if seed is None else seed, jnp.int32),
        now=jnp.float32(0),
        event=jnp.int32(0),
        version=jnp.int32(0),
        admitted=jnp.int32(0),
        discarded=jnp.int32(0),
        learner_left=jnp.float32(jnp.inf),
        left=jnp.full(num_workers, jnp.inf, jnp.float32),
        part=workers,
        part_time=jnp.zeros(num_workers, jnp.float32),
        versions=jnp.zeros((num_workers, parts), jnp.int32),
        free_since=workers,
        waiting=waiting,
        busy_workers=jnp.float32(0),
        busy_learner=jnp.float32(0),
    )
    return _start_rollouts(queue, service, state)[0]


def next_event(queue: Queue, service: Service, state: QueueState) -> tuple[QueueState, QueueEvent]:
    """The next event.

    Args:
        queue: the `Queue`.
        service: how long rollouts take.
        state: the `QueueState`.

    Returns:
        The `QueueState` after it, and the `QueueEvent`.
    """
    worker = state.left.argmin().astype(jnp.int32)
    of_learner = state.learner_left <= state.left[worker]
    return happen(queue, service, state, of_learner, worker, jnp.minimum(state.learner_left, state.left[worker]))


def happen(
    queue: Queue, service: Service, state: QueueState, of_learner: jax.Array, worker: jax.Array, time: jax.Array
) -> tuple[QueueState, QueueEvent]:
    """The event that is told, whichever was to be the next.

    Args:
        queue: the `Queue`.
        service: how long rollouts take.
        state: the `QueueState`.
        of_learner: bool ``[]``, whether the learner ends an update; otherwise the worker ends a part.
        worker: int32 ``[]``.
        time: float32 ``[]``, since the last event.

    Returns:
        The `QueueState` after it, and the `QueueEvent`.
    """
    state = _pass(state, time)
    state = state._replace(
        event=state.event + 1,
        version=state.version + of_learner,
        learner_left=jnp.where(of_learner, jnp.inf, state.learner_left),
    )
    part = state.part[worker]
    state, place, goes_on = _end_part(queue, state, worker, ~of_learner)
    state, discarded = _discard(queue, state)
    state = _enter(queue, state)
    state, takes, taken = _take(queue, state)
    batch = jax.tree.map(lambda x: x[taken], state.waiting)
    state = _enter(queue, _remove(state, jnp.zeros(place_count(state), bool).at[taken].set(takes)))
    state, starts = _start_rollouts(queue, service, state)
    return state, QueueEvent(
        number=state.event,
        time=state.now,
        version=state.version,
        of_learner=of_learner,
        worker=worker,
        part=part,
        place=place,
        takes=takes,
        taken=taken,
        taken_workers=batch.worker,
        taken_versions=batch.versions,
        taken_time=batch.time,
        discarded=discarded.sum(dtype=jnp.int32),
        discarded_time=jnp.where(discarded, state.waiting.time, 0).sum(),
        pulls=starts | goes_on,
        queue_length=state.waiting.entered.sum(dtype=jnp.int32),
    )


def simulate(
    queue: Queue, service: Service, num_workers: int, num_events: int, seed: int | jax.Array | None = None
) -> tuple[QueueState, QueueEvent]:
    """So many events, without any learning.

    Args:
        queue: the `Queue`.
        service: how long rollouts take.
        num_workers: ``W``.
        num_events: how many.
        seed: of the service times; may be traced. None: ``schedule_seed``.

    Returns:
        The `QueueState` after them, and the `QueueEvent`, leaves ``[num_events, ...]``.
    """
    check_queue(queue)

    def step(state: QueueState, _: None) -> tuple[QueueState, QueueEvent]:
        return next_event(queue, service, state)

    return jax.lax.scan(step, start(queue, service, num_workers, seed), length=num_events)


def place_count(state: QueueState) -> int:
    """``N``, the number of finished rollouts that can exist."""
    return state.waiting.ended.shape[0]


def rollout_times(seed: int | jax.Array, service: Service, event: int | jax.Array, num_workers: int) -> jax.Array:
    """How long rollouts take that start after this event: float32 ``[W]``."""
    key: Key = jax.random.fold_in(jax.random.key(seed), event)
    return service_times(key, service, (num_workers,))


def _pass(state: QueueState, time: jax.Array) -> QueueState:
    """The state after ``time`` without an event."""
    return state._replace(
        now=state.now + time,
        learner_left=state.learner_left - time,
        left=state.left - time,
        busy_workers=state.busy_workers + time * jnp.isfinite(state.left).sum(),
        busy_learner=state.busy_learner + time * jnp.isfinite(state.learner_left),
    )


def _end_part(
    queue: Queue, state: QueueState, worker: jax.Array, happens: jax.Array
) -> tuple[QueueState, jax.Array, jax.Array]:
    """A worker ends a part of its rollout, if that ``happens``.

    Returns:
        The state; where the rollout is kept, or ``N`` if it is not at its end; bool ``[W]``, who goes on with a part.
    """
    waiting, workers = state.waiting, jnp.arange(state.left.size)
    done = state.part[worker] + 1
    at_end = happens & (done == queue.parts_per_rollout)
    one = workers == worker
    goes_on = one & happens & ~at_end
    # There is room, as no other worker can hold this one's rollout.
    place = jnp.where(at_end, waiting.ended.argmax().astype(jnp.int32), place_count(state))
    waiting = Waiting(
        ended=waiting.ended.at[place].set(state.event, mode="drop"),
        entered=waiting.entered.at[place].set(False, mode="drop"),
        worker=waiting.worker.at[place].set(worker, mode="drop"),
        versions=waiting.versions.at[place].set(state.versions[worker], mode="drop"),
        time=waiting.time.at[place].set(state.part_time[worker] * queue.parts_per_rollout, mode="drop"),
    )
    # A rollout in which no part is left keeps its worker until the queue has it.
    left = jnp.where(one & happens, jnp.where(at_end, jnp.inf, state.part_time), state.left)
    versions = _with_pull(queue, state, goes_on, done)
    part = jnp.where(one & happens, done, state.part)
    return state._replace(waiting=waiting, left=left, versions=versions, part=part), place, goes_on


def _published(queue: Queue, state: QueueState) -> jax.Array:
    """The newest version that can be pulled."""
    return state.version // queue.publish_every * queue.publish_every


def _with_pull(queue: Queue, state: QueueState, pulls: jax.Array, part: jax.Array) -> jax.Array:
    """The versions of rollouts, int32 ``[W, parts]``, once the workers that pull have done so before this part."""
    now = jnp.arange(queue.parts_per_rollout) == part
    return jnp.where(pulls[:, None] & now[None], _published(queue, state), state.versions)


def _discard(queue: Queue, state: QueueState) -> tuple[QueueState, jax.Array]:
    """Without rollouts that are too old; and which these are, bool ``[N]``."""
    waiting = state.waiting
    if queue.discard_bound is None:
        return state, jnp.zeros(place_count(state), bool)
    old = (waiting.ended != _NEVER) & (state.version - waiting.versions[:, 0] > queue.discard_bound)
    state = _free(state, old & ~waiting.entered)
    count = old.sum(dtype=jnp.int32)
    state = state._replace(admitted=state.admitted - count, discarded=state.discarded + count)
    return _remove(state, old), old


def _remove(state: QueueState, which: jax.Array) -> QueueState:
    """Without these rollouts, bool ``[N]``."""
    waiting = state.waiting
    return state._replace(
        waiting=waiting._replace(
            ended=jnp.where(which, _NEVER, waiting.ended), entered=jnp.where(which, False, waiting.entered)
        )
    )


def _free(state: QueueState, which: jax.Array) -> QueueState:
    """The workers that hold these rollouts, bool ``[N]``, have none any more."""
    workers = jnp.where(which, state.waiting.worker, state.left.size)
    return state._replace(free_since=state.free_since.at[workers].set(state.event, mode="drop"))


def _enter(queue: Queue, state: QueueState) -> QueueState:
    """As many of the held rollouts as there is room for enter the queue."""
    waiting = state.waiting
    held = (waiting.ended != _NEVER) & ~waiting.entered
    room = queue.queue_capacity - waiting.entered.sum()
    enters = held & (_rank(jnp.where(held, waiting.ended, _NEVER)) < room)
    state = _free(state, enters)
    return state._replace(waiting=waiting._replace(entered=waiting.entered | enters))


def _take(queue: Queue, state: QueueState) -> tuple[QueueState, jax.Array, jax.Array]:
    """The learner takes a batch if it can: the state, whether it does, and where that is, int32 ``[batch]``."""
    waiting = state.waiting
    takes = jnp.isinf(state.learner_left) & (waiting.entered.sum() >= queue.batch_rollouts)
    by = waiting.ended if queue.queue_order == "oldest" else -waiting.ended
    order = jnp.argsort(jnp.where(waiting.entered, by, _NEVER), stable=True)
    time = jnp.where(takes, hidden(queue.learner_time), state.learner_left)
    return state._replace(learner_left=time), takes, order[: queue.batch_rollouts].astype(jnp.int32)


def _start_rollouts(queue: Queue, service: Service, state: QueueState) -> tuple[QueueState, jax.Array]:
    """Workers without a rollout start one, if they are admitted; and which they are, bool ``[W]``."""
    free = state.free_since != _NEVER
    starts = free
    if queue.admission_bound is not None:
        most = (queue.admission_bound + 1) * queue.publish_every + _published(queue, state)
        most *= queue.batch_rollouts
        starts = free & (_rank(state.free_since) < most - state.admitted)
    time = rollout_times(state.seed, service, state.event, free.size) / queue.parts_per_rollout
    return state._replace(
        admitted=state.admitted + starts.sum(dtype=jnp.int32),
        left=jnp.where(starts, time, state.left),
        part=jnp.where(starts, 0, state.part),
        part_time=jnp.where(starts, time, state.part_time),
        versions=_with_pull(queue, state, starts, jnp.int32(0)),
        free_since=jnp.where(starts, _NEVER, state.free_since),
    ), starts


def _rank(values: jax.Array) -> jax.Array:
    """The place of each value among all in ascending order, equal ones by their index: int32 ``[...]``."""
    return jnp.argsort(jnp.argsort(values, stable=True), stable=True)
