"""Workers that share cores: each has one for a time slice, then the next one in the queue gets it.

With fewer cores than workers, tasks wait for a core, and it depends on all the others how long one takes. This is
round-robin scheduling, a plain model of what an operating system does with threads and processes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Turns(NamedTuple):
    """Who has a core."""

    place: jax.Array  # int32 [W]: of each worker in the queue; those with the first places have the cores
    left: jax.Array  # float32 [W]: of its time slice


class Events(NamedTuple):
    """Pushes in order of their time, and the workers after them."""

    made: jax.Array  # int32 []: how many pushes
    pushers: jax.Array  # int32 [W]: who pushed, as far as `made`
    times: jax.Array  # float32 [W]: when, from the start
    number: jax.Array  # int32 [W]: which of the pushes is the worker's; -1: none
    passed: jax.Array  # float32 []: time since the start
    remaining: jax.Array  # float32 [W]: of each worker's task
    turns: Turns


def start(num_workers: int, time_slice: jax.Array) -> Turns:
    """The first workers have the cores."""
    return Turns(jnp.arange(num_workers, dtype=jnp.int32), jnp.full(num_workers, time_slice, jnp.float32))


def until_a_second_push(
    remaining: jax.Array,
    service: jax.Array,
    turns: Turns,
    num_cores: int,
    time_slice: jax.Array,
    most: int | jax.Array,
) -> Events:
    """All events until ``most`` pushes have happened or a worker would push for the second time.

    Args:
        remaining: float32 ``[W]``, of each worker's task.
        service: float32 ``[W]``, of the task that each worker starts after its push. It keeps its core.
        turns: the `Turns`.
        num_cores: how many workers compute at a time.
        time_slice: float32 ``[]``.
        most: pushes at most.
    """
    size = remaining.shape[0]
    none = jnp.zeros(size, jnp.int32)
    begin = Events(jnp.int32(0), none, jnp.zeros(size, jnp.float32), none - 1, jnp.float32(0), remaining, turns)

    def next_event(now: Events) -> tuple[jax.Array, jax.Array, jax.Array]:
        """``(worker, in what time, whether it pushes)``; at the same time pushes come first, then the lowest number."""
        on_core = now.turns.place < num_cores
        pushes_in = jnp.where(on_core, now.remaining, jnp.inf)
        yields_in = jnp.where(on_core, now.turns.left, jnp.inf)
        pushes = pushes_in.min() <= yields_in.min()
        worker = jnp.where(pushes, pushes_in.argmin(), yields_in.argmin()).astype(jnp.int32)
        return worker, jnp.minimum(pushes_in.min(), yields_in.min()), pushes

    def goes_on(now: Events) -> jax.Array:
        worker, _, pushes = next_event(now)
        return (now.made < most) & ~(pushes & (now.number[worker] >= 0))

    def step(now: Events) -> Events:
        worker, time, pushes = next_event(now)
        on_core = now.turns.place < num_cores
        passed = now.passed + time
        remaining = jnp.where(on_core, now.remaining - time, now.remaining)
        left = jnp.where(on_core, now.turns.left - time, now.turns.left)
        place = now.turns.place
        behind = jnp.where(place > place[worker], place - 1, place).at[worker].set(size - 1)
        turns = Turns(
            place=jnp.where(pushes, place, behind),
            left=jnp.where(pushes, left, left.at[worker].set(time_slice)),
        )
        at = jnp.where(pushes, now.made, size)  # out of range: not written
        return Events(
            made=now.made + pushes,
            pushers=now.pushers.at[at].set(worker, mode="drop"),
            times=now.times.at[at].set(passed, mode="drop"),
            number=now.number.at[worker].set(jnp.where(pushes, now.made, now.number[worker])),
            passed=passed,
            remaining=remaining.at[worker].set(jnp.where(pushes, service[worker], remaining[worker])),
            turns=turns,
        )

    return jax.lax.while_loop(goes_on, step, begin)
