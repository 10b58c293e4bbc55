"""A3C between devices that do not wait for each other's gradients."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purejaxrl_a3c.backend import collectives, split
from purejaxrl_a3c.backend.vectors import ravel, ravel_and_back
from purejaxrl_a3c.types import AxisName, Key, Objective, Params, Scalars, Trajectory, UpdateRule
from purejaxrl_a3c.updates.asynchrony import ORDERS, Asynchrony, Schedule, check_asynchrony
from purejaxrl_a3c.updates.gradient import apply_gradient, vector_gradient_at
from purejaxrl_a3c.updates.staleness import add_to_histogram, count_within


class Learner(NamedTuple):
    """What every device knows, and what only this one knows. A *version* counts pushes that every one has made."""

    params: Params  # k rounds late
    opt_state: Any  # likewise; of the parameters raveled into one vector [P]
    rounds: jax.Array  # int32 []: since the start
    waiting: jax.Array  # float32 [k, W, P]: gradients of the last rounds, oldest first, that other devices have not got
    orders: jax.Array  # int32 [k, W]: in which they arrived
    snapshots: Params  # every leaf [W, ...]
    pulled_version: jax.Array  # int32 [W]: pushes in the snapshot
    missed_here: jax.Array  # int32 [W]: pushes from the worker's own device since it pulled
    staleness: jax.Array  # int32 [8 (k + 1) W]: how many pushes so far had each staleness; the last one: that or more


class _Setup(NamedTuple):
    optimizer: optax.GradientTransformation
    schedule: Schedule
    delay: int  # k, rounds
    num_workers: int  # W, of all devices
    workers_here: int  # of this device
    axis_name: AxisName


class _Shared(NamedTuple):
    """What pushes change; parameters as a vector."""

    params: jax.Array  # float32 [P]
    opt_state: Any


def overlapped(
    optimizer: optax.GradientTransformation,
    num_workers: int,
    asynchrony: Asynchrony,
    axis_name: AxisName = None,
) -> UpdateRule:
    """A3C whose devices make their own workers' pushes at once, and the others' ``k`` rounds later.

    Gradients of a round have the next ``k`` rounds to travel in. Then every device makes all pushes of that round in
    the same order, so the parameters that all have in common stay the same on each, to the last bit. Every round each
    device makes its own workers' pushes since then on top of them; its workers pull the result right after their own
    push. With ``k = 0`` nothing would be on top: that is `asynchronous`.

    The staleness of a push counts what comes before it in the common order and is not in its worker's snapshot. In
    random order its mean on ``D`` devices is ``W / D - 1`` within a device and ``(k + 1/2) (W - W / D)`` between them.

    Args:
        optimizer: an optax transformation of vectors ``[P]``.
        num_workers: ``W``, of all devices.
        asynchrony: an `Asynchrony` whose ``device_delay`` is ``k >= 1``.
        axis_name: the axis of the devices that share the workers out, or None.

    Returns:
        An `UpdateRule`; its learner's ``params`` are those that all devices have in common.

    Raises:
        InputError: if the settings do not go together.
    """
    check_asynchrony(asynchrony, num_workers)
    workers_here = collectives.part("num_workers", num_workers, axis_name)
    setup = _Setup(optimizer, asynchrony.schedule, asynchrony.device_delay, num_workers, workers_here, axis_name)

    def init(key: Key, params: Params) -> Learner:
        del key
        return _start(setup, params)

    def actor(learner: Learner) -> Params:
        return learner.snapshots

    def update(key: Key, learner: Learner, objective: Objective, trajectories: Trajectory) -> tuple[Learner, Scalars]:
        return _update(setup, key, learner, objective, trajectories)

    def split_learner(learner: Learner) -> Learner:
        return split.copied(learner)._replace(snapshots=split.along(0, learner.snapshots), waiting=1)

    return UpdateRule(init, actor, update, split_learner)


def _start(setup: _Setup, params: Params) -> Learner:
    delay, num_workers, here = setup.delay, setup.num_workers, setup.workers_here
    vector = ravel(params)
    return Learner(
        params=params,
        opt_state=setup.optimizer.init(vector),
        rounds=jnp.int32(0),
        waiting=jnp.zeros((delay, here, vector.size), jnp.float32),
        orders=jnp.zeros((delay, num_workers), jnp.int32),
        snapshots=jax.tree.map(lambda x: jnp.broadcast_to(x, (here, *x.shape)), params),
        pulled_version=jnp.zeros(num_workers, jnp.int32),
        missed_here=jnp.zeros(num_workers, jnp.int32),
        staleness=jnp.zeros(8 * (delay + 1) * num_workers, jnp.int32),
    )


def _update(
    setup: _Setup, key: Key, learner: Learner, objective: Objective, trajectories: Trajectory
) -> tuple[Learner, Scalars]:
    # The oldest gradients depend on nothing that is computed in this round, so they may travel all the while.
    arrived = collectives.gather(learner.waiting[0], setup.axis_name)[learner.orders[0]]
    gradients, metrics = jax.vmap(partial(vector_gradient_at, objective))(learner.snapshots, trajectories)
    params, unravel = ravel_and_back(learner.params)
    shared = _push_arrived(setup, learner.rounds, _Shared(params, learner.opt_state), arrived)
    workers = ORDERS[setup.schedule](key, setup.num_workers)
    waiting = jnp.concatenate([learner.waiting[1:], gradients[None]])
    orders = jnp.concatenate([learner.orders[1:], workers[None]])
    snapshots = _push_on_top(setup, learner.rounds, shared, waiting, orders, jax.vmap(ravel)(learner.snapshots))
    learner, counted = _count(setup, learner, workers)
    learner = learner._replace(
        params=unravel(shared.params),
        opt_state=shared.opt_state,
        rounds=learner.rounds + 1,
        waiting=waiting,
        orders=orders,
        snapshots=jax.vmap(unravel)(snapshots),
    )
    return learner, collectives.gather(metrics, setup.axis_name) | counted


def _push(setup: _Setup, shared: _Shared, gradient: jax.Array, where: jax.Array | None = None) -> _Shared:
    return _Shared(*apply_gradient(setup.optimizer, gradient, shared.opt_state, shared.params, where))


def _push_arrived(setup: _Setup, rounds: jax.Array, shared: _Shared, gradients: jax.Array) -> _Shared:
    """Make all devices' pushes of the oldest round, ``gradients [W, P]`` in order of arrival, once there is one."""

    def push_all(shared: _Shared) -> _Shared:
        return jax.lax.scan(lambda shared, one: (_push(setup, shared, one), None), shared, gradients)[0]

    return jax.lax.cond(rounds >= setup.delay, push_all, lambda shared: shared, shared)


def _push_on_top(
    setup: _Setup,
    rounds: jax.Array,
    shared: _Shared,
    waiting: jax.Array,
    orders: jax.Array,
    snapshots: jax.Array,
) -> jax.Array:
    """Make this device's pushes of the waiting rounds on top of what all devices have in common.

    Returns:
        What its workers pull after those of the last round, float32 ``[W, P]``.
    """
    delay, here = setup.delay, setup.workers_here
    own_workers = collectives.index(setup.axis_name) * here + jnp.arange(here, dtype=jnp.int32)
    ranks = jax.vmap(jnp.argsort)(orders)[:, own_workers]
    own = jnp.argsort(ranks, axis=1).astype(jnp.int32)  # [k, W]: this device's workers by order of arrival
    takes_place = rounds - delay + 1 + jnp.arange(delay, dtype=jnp.int32) >= 0

    def push_and_pull(
        loop: tuple[_Shared, jax.Array], arrival: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[tuple[_Shared, jax.Array], None]:
        shared, snapshots = loop
        gradient, worker, active = arrival
        shared = _push(setup, shared, gradient, where=active)
        return (shared, snapshots.at[worker].set(shared.params)), None

    gradients = jnp.take_along_axis(waiting, own[..., None], axis=1)
    arrivals = gradients.reshape(delay * here, -1), own.reshape(-1), jnp.repeat(takes_place, here)
    (_, snapshots), _ = jax.lax.scan(push_and_pull, (shared, snapshots), arrivals)
    return snapshots


def _count(setup: _Setup, learner: Learner, workers: jax.Array) -> tuple[Learner, Scalars]:
    """Count the staleness of this round's pushes, and the pushes in what their workers pull.

    Args:
        setup: the settings.
        learner: the `Learner` before this round.
        workers: int32 ``[W]``, by order of arrival.

    Returns:
        The `Learner` with its counts after this round, and vectors ``[W]`` to report.
    """
    num_workers, rounds = setup.num_workers, learner.rounds
    rank = jnp.argsort(workers).astype(jnp.int32)
    staleness = rounds * num_workers + jnp.arange(num_workers, dtype=jnp.int32) - learner.pulled_version[workers]
    missed_here, within, own_rank = count_within(learner.missed_here, workers, None, rank, setup.workers_here)
    known = num_workers * jnp.maximum(rounds - setup.delay + 1, 0)
    on_top = setup.workers_here * (jnp.minimum(setup.delay, rounds + 1) - 1) + own_rank[rank] + 1
    learner = learner._replace(
        pulled_version=known + on_top,
        missed_here=missed_here,
        staleness=add_to_histogram(learner.staleness, staleness),
    )
    return learner, {"staleness": staleness, "staleness_within": within}
