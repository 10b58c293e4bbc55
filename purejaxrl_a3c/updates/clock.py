"""A virtual clock: the exact discrete-event simulation of workers that take a random time for every task.

A *task* is one rollout and its gradient; its worker pushes when it ends, pulls, and starts the next one. Nothing in
this depends on what is learned, so the clock runs without learning as well (`simulate`).

The worker whose task ends first pushes next (ties: the lowest number), as in any event loop. But many events can be
computed at once: in order of their ends, a task belongs to the batch as long as it ends before every task that the
pushes before it let start. None of the batch's gradients then depends on another one's push.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

LAWS: dict[str, Callable] = {
    "constant": lambda key, shape, cv: jnp.ones(shape),
    "exponential": lambda key, shape, cv: jax.random.exponential(key, shape),
    "gamma": lambda key, shape, cv: jax.random.gamma(key, cv**-2, shape) * cv**2,
    "lognormal": lambda key, shape, cv: jnp.exp(
        jnp.sqrt(jnp.log1p(cv**2)) * jax.random.normal(key, shape) - 0.5 * jnp.log1p(cv**2)
    ),
}
"""Service times of mean 1, by name: (key, shape, coefficient of variation) -> float32."""


@dataclass(frozen=True)
class Service:
    """How long a worker takes for a task. Floats may be traced."""

    service_law: str = "gamma"
    """Of the time that a task takes: constant, exponential, gamma or lognormal; its mean is 1."""
    service_cv: float = 0.3
    """Standard deviation of a gamma or lognormal service time over its mean."""
    slowness: tuple[float, ...] = ()
    """What each worker's service times are multiplied by, to have stragglers; empty: 1 for all."""

    def draw(self, key, shape):
        """Service times float32 ``shape``, whose last axis is the workers."""
        times = LAWS[self.service_law](key, shape, self.service_cv)
        return times * jnp.broadcast_to(jnp.asarray(self.slowness), shape) if self.slowness else times


class Clock(NamedTuple):
    """What every worker is doing."""

    now: jax.Array  # float32 []: in mean service times
    remaining: jax.Array  # float32 [W]: of a worker's task; inf while it waits
    service: jax.Array  # float32 [W]: how long its next task will take
    lead: jax.Array  # int32 [W]: tasks done, less those of the worker with the fewest


class Turn(NamedTuple):
    """Which workers push next, none of whose gradients depends on another's push."""

    workers: jax.Array  # int32 [L]: in order of arrival
    active: jax.Array  # bool [L]: whether that push takes place in this turn; the rest is to be ignored
    pull: jax.Array  # int32 [W]: after which of these pushes a worker pulls; -1: it does not
    time: jax.Array  # float32 [L]: of each push, in mean service times


def start(key, service, num_workers):
    """The `Clock` at time 0, when all workers start their first tasks."""
    first, second = service.draw(key, (2, num_workers))
    return Clock(jnp.float32(0), first, second, jnp.zeros(num_workers, jnp.int32))


def next_turn(key, clock, service, *, lanes, room, max_lead=None):
    """As many of the next pushes as can be computed together.

    Args:
        key: for the service times of the tasks after next.
        clock: the `Clock`, of ``W`` workers.
        service: the `Service`.
        lanes: ``L``, pushes at most, an int.
        room: pushes at most; may be traced.
        max_lead: the bound of stale-synchronous parallel (Ho et al. 2013): a worker that is more than so many
            tasks ahead of the slowest waits before it pulls; 0 is lockstep. None: nobody waits.

    Returns:
        The `Clock` after them, and the `Turn`, of at least one push if there is room.
    """
    w = clock.remaining.shape[0]
    ids = jnp.arange(w)
    workers = jnp.argsort(clock.remaining, stable=True)
    times = clock.remaining[workers]
    rank = jnp.zeros(w, jnp.int32).at[workers].set(ids)
    running = jnp.isfinite(clock.remaining)
    # If pushes 0 .. k take place: who could have started again by then, and when did it? [k, worker]
    pushed = (rank[None] <= ids[:, None]) & running[None]
    free = pushed | ~running[None]
    if max_lead is not None:
        lead = clock.lead[None] + pushed
        free &= lead - lead.min(1, keepdims=True) <= max_lead
    starts, start_at = free.any(0), free.argmax(0)
    ends = times[start_at] + clock.service
    first_end = jnp.where(starts[None] & (start_at[None] == ids[:, None]), ends[None], jnp.inf).min(1)
    # A push belongs to the batch if it comes before the end of every task that one before it let start.
    before = jnp.concatenate([jnp.full(1, jnp.inf), jax.lax.cummin(first_end)[:-1]])
    active = jnp.cumprod((times < before) & (ids < jnp.minimum(lanes, room))).astype(bool)
    count = active.sum()

    pull = jnp.where(starts & (start_at < count), start_at, -1)
    pushed = running & (rank < count)
    lead = clock.lead + pushed
    passed = jnp.where(count > 0, times[count - 1], 0.0)
    remaining = jnp.where(pull >= 0, ends, jnp.where(pushed, jnp.inf, clock.remaining)) - passed
    service_times = jnp.where(pull >= 0, service.draw(key, (w,)), clock.service)
    turn = Turn(workers[:lanes], active[:lanes], pull, clock.now + times[:lanes])
    return Clock(clock.now + passed, remaining, service_times, lead - lead.min()), turn


def simulate(key, service, num_workers, turns, *, lanes=None, max_lead=None):
    """So many turns of the clock, without any learning.

    Args:
        key: the simulation's key.
        service: the `Service`.
        num_workers: ``W``.
        turns: how many.
        lanes: pushes a turn at most; None: ``W``.
        max_lead: as in `next_turn`.

    Returns:
        ``(turns, staleness)``: `Turn`, leaves ``[turns, ...]``, and int32 ``[turns, L]``, of active pushes only.
    """
    lanes = num_workers if lanes is None else lanes
    key_start, key_turns = jax.random.split(key)

    def step(state, key):
        clock, version, pulled = state
        clock, turn = next_turn(key, clock, service, lanes=lanes, room=lanes, max_lead=max_lead)
        staleness = version + jnp.arange(lanes) - pulled[turn.workers]
        pulled = jnp.where(turn.pull >= 0, version + turn.pull + 1, pulled)
        return (clock, version + turn.active.sum(), pulled), (turn, staleness)

    state = start(key_start, service, num_workers), jnp.int32(0), jnp.zeros(num_workers, jnp.int32)
    return jax.lax.scan(step, state, jax.random.split(key_turns, turns))[1]


def lockstep_times(key, service, num_workers, rounds):
    """When each of ``rounds`` rounds ends if everybody waits for the slowest, as in A2C: float32 ``[rounds]``."""
    return jnp.cumsum(service.draw(key, (rounds, num_workers)).max(1))
