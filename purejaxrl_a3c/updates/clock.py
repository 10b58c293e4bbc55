"""A virtual clock: the exact discrete-event simulation of workers that take a random time for every task.

A *task* is one rollout and its gradient. When it ends, its worker pushes, pulls, and starts the next one. Nothing in
this depends on what is learned, so the clock also runs without learning (`simulate`).

The worker whose task ends first pushes next (ties: the lowest number), as in any event loop. But many events can be
computed at once: in order of their ends, a task belongs to the batch as long as it ends before every task that the
pushes before it let start. Then no gradient of the batch depends on another push of the batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.types import Key
from purejaxrl_a3c.updates import cores
from purejaxrl_a3c.updates.cores import Turns
from purejaxrl_a3c.updates.service import Service, hidden, service_times


class Clock(NamedTuple):
    """What every worker is doing. Times are in mean service times."""

    now: jax.Array  # float32 []
    remaining: jax.Array  # float32 [W]: of the worker's task, on a core; inf while it waits for others
    service: jax.Array  # float32 [W]: how long its next task will take
    lead: jax.Array  # int32 [W]: tasks done, less those of the worker with the fewest
    turns: Turns | None  # of the workers at the cores; None: each has its own


class PushBatch(NamedTuple):
    """The next pushes, none of whose gradients depends on another one, and which workers act for them on this device.

    On one device the workers that act are those that push. Of several devices each lets all ``H`` of its workers act.
    """

    pushers: jax.Array  # int32 [L]: which worker pushes, in order of arrival
    pushed: jax.Array  # bool [L]: whether that push takes place in this batch; the others are to be ignored
    pull_after: jax.Array  # int32 [W]: after which of these pushes a worker pulls; -1: it does not
    time: jax.Array  # float32 [L]: of each push, in mean service times
    workers: jax.Array  # int32 [H]: the workers that act, by their numbers on this device
    number: jax.Array  # int32 [H]: which push of the batch is theirs, by which random numbers are drawn; L: none
    active: jax.Array  # bool [H]: whether that push takes place
    row: jax.Array  # int32 [L]: where each push's gradient stands among those of all devices


def start(key: Key, service: Service, num_workers: int) -> Clock:
    """The `Clock` at time 0, when all workers start their first tasks."""
    first, second = service_times(key, service, (2, num_workers))
    turns = cores.start(num_workers, hidden(service.time_slice)) if service.num_cores else None
    return Clock(jnp.float32(0), first, second, jnp.zeros(num_workers, jnp.int32), turns)


def next_batch(
    key: Key,
    clock: Clock,
    service: Service,
    *,
    max_pushes: int,
    remaining: int | jax.Array,
    max_lead: int | None = None,
) -> tuple[Clock, PushBatch]:
    """As many of the next pushes as can be computed together.

    Args:
        key: for the service times of the tasks after next.
        clock: the `Clock`, of ``W`` workers.
        service: the `Service`.
        max_pushes: ``L``, pushes at most, an int of at most ``W``.
        remaining: pushes at most; may be traced.
        max_lead: the bound of stale-synchronous parallel (Ho et al. 2013): a worker that is more than so many
            tasks ahead of the slowest waits before it pulls; 0 is lockstep. None: nobody waits.

    Returns:
        The `Clock` after these pushes, and the `PushBatch` of a single device, with at least one push unless
        ``remaining`` is 0.
    """
    if clock.turns is None:
        after, pushes = _on_own_cores(clock, max_lead, jnp.minimum(max_pushes, remaining))
    else:
        after, pushes = _on_shared_cores(clock, service, jnp.minimum(max_pushes, remaining))
    drawn = service_times(key, service, after.service.shape)
    after = after._replace(service=jnp.where(pushes.pull_after >= 0, drawn, clock.service))
    pushers, pushed = pushes.pushers[:max_pushes], pushes.pushed[:max_pushes]
    number = jnp.arange(max_pushes, dtype=jnp.int32)
    time = clock.now + pushes.times[:max_pushes]
    return after, PushBatch(pushers, pushed, pushes.pull_after, time, pushers, number, pushed, number)


class _Pushes(NamedTuple):
    """The pushes of a batch in order of their ends; of meaning only as far as ``pushed``."""

    pushers: jax.Array  # int32 [W]
    times: jax.Array  # float32 [W]: from now
    pushed: jax.Array  # bool [W]
    pull_after: jax.Array  # int32 [W]: as of `PushBatch`


def _on_own_cores(clock: Clock, max_lead: int | None, most: jax.Array) -> tuple[Clock, _Pushes]:
    ids = jnp.arange(clock.remaining.shape[0], dtype=jnp.int32)
    pushers = jnp.argsort(clock.remaining, stable=True).astype(jnp.int32)
    times = clock.remaining[pushers]
    rank = jnp.zeros_like(ids).at[pushers].set(ids)
    running = jnp.isfinite(clock.remaining)
    starts, start_at = _next_starts(clock, rank, running, max_lead)
    ends = times[start_at] + clock.service
    first_end = jnp.where(starts[None] & (start_at[None] == ids[:, None]), ends[None], jnp.inf).min(1)
    # A push belongs to the batch if it comes before the end of every task that one before it let start.
    before = jnp.concatenate([jnp.full(1, jnp.inf, jnp.float32), jax.lax.cummin(first_end)[:-1]])
    pushed = jnp.cumprod((times < before) & (ids < most)).astype(bool)
    count = pushed.sum(dtype=jnp.int32)

    pull_after = jnp.where(starts & (start_at < count), start_at, -1)
    has_pushed = running & (rank < count)
    lead = clock.lead + has_pushed
    passed = jnp.where(count > 0, times[count - 1], 0.0)
    left = jnp.where(pull_after >= 0, ends, jnp.where(has_pushed, jnp.inf, clock.remaining)) - passed
    after = clock._replace(now=clock.now + passed, remaining=left, lead=lead - lead.min())
    return after, _Pushes(pushers, times, pushed, pull_after)


def _on_shared_cores(clock: Clock, service: Service, most: jax.Array) -> tuple[Clock, _Pushes]:
    assert clock.turns is not None
    found = cores.until_a_second_push(
        clock.remaining, clock.service, clock.turns, service.num_cores, hidden(service.time_slice), most
    )
    pushed = jnp.arange(found.pushers.size) < found.made
    lead = clock.lead + (found.number >= 0)
    now = clock.now + found.passed
    after = clock._replace(now=now, remaining=found.remaining, lead=lead - lead.min(), turns=found.turns)
    return after, _Pushes(found.pushers, found.times, pushed, found.number)


def _next_starts(
    clock: Clock, rank: jax.Array, running: jax.Array, max_lead: int | None
) -> tuple[jax.Array, jax.Array]:
    """Which workers could start their next task if all running ones pushed in order of ``rank``, and after which push.

    Returns:
        bool ``[W]``, and int32 ``[W]``, of meaning only where the former is true.
    """
    ids = jnp.arange(rank.shape[0], dtype=jnp.int32)
    # If pushes 0 .. k take place, which workers could have started again? [k, worker]
    pushed = (rank[None] <= ids[:, None]) & running[None]
    free = pushed | ~running[None]
    if max_lead is not None:
        lead = clock.lead[None] + pushed
        free &= lead - lead.min(1, keepdims=True) <= max_lead
    return free.any(0), free.argmax(0).astype(jnp.int32)


def simulate(
    key: Key,
    service: Service,
    num_workers: int,
    num_batches: int,
    *,
    max_pushes: int | None = None,
    max_lead: int | None = None,
) -> tuple[PushBatch, jax.Array]:
    """So many batches of pushes, without any learning.

    Args:
        key: the simulation's key.
        service: the `Service`.
        num_workers: ``W``.
        num_batches: how many.
        max_pushes: ``L``, pushes of a batch at most; None: ``W``.
        max_lead: as in `next_batch`.

    Returns:
        ``(batches, staleness)``: `PushBatch`, leaves ``[num_batches, ...]``, and int32 ``[num_batches, L]``, of meaning
        only where ``batches.pushed`` is true.
    """
    most = num_workers if max_pushes is None else max_pushes
    key_start, key_batches = jax.random.split(key)

    def step(
        state: tuple[Clock, jax.Array, jax.Array], key: Key
    ) -> tuple[tuple[Clock, jax.Array, jax.Array], tuple[PushBatch, jax.Array]]:
        clock, version, pulled = state
        clock, batch = next_batch(key, clock, service, max_pushes=most, remaining=most, max_lead=max_lead)
        staleness = version + jnp.arange(most, dtype=jnp.int32) - pulled[batch.pushers]
        pulled = jnp.where(batch.pull_after >= 0, version + batch.pull_after + 1, pulled)
        return (clock, version + batch.pushed.sum(dtype=jnp.int32), pulled), (batch, staleness)

    state = start(key_start, service, num_workers), jnp.int32(0), jnp.zeros(num_workers, jnp.int32)
    return jax.lax.scan(step, state, jax.random.split(key_batches, num_batches))[1]


def lockstep_times(key: Key, service: Service, num_workers: int, num_rounds: int) -> jax.Array:
    """When each round ends if all workers wait for the slowest, as in A2C: float32 ``[num_rounds]``."""
    return jnp.cumsum(service_times(key, service, (num_rounds, num_workers)).max(1))
