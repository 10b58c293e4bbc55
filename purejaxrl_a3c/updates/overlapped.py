"""A3C between devices that do not wait for each other's gradients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from purejaxrl_a3c.backend import collectives
from purejaxrl_a3c.types import Params, UpdateRule
from purejaxrl_a3c.updates.asynchronous import ORDERS, check_asynchrony, count_within
from purejaxrl_a3c.updates.gradient import gradient_at


class Learner(NamedTuple):
    """What every device knows, and what this one knows besides. A *version* counts pushes that every one has made."""

    params: Params  # k rounds late
    opt_state: Any  # likewise; of the parameters raveled into one vector [P]
    rounds: jax.Array  # int32 []: since the start
    waiting: (
        jax.Array
    )  # float32 [k, W, P]: gradients of the last rounds, the oldest first, which others do not have yet
    orders: jax.Array  # int32 [k, W]: in which they arrived
    snapshots: Params  # every leaf [W, ...]
    pulled_version: jax.Array  # int32 [W]: pushes in the snapshot
    missed_here: jax.Array  # int32 [W]: pushes from the worker's own device since it pulled
    staleness: jax.Array  # int32 [8 (k + 1) W]: how many pushes so far had each staleness; the last one: that or more


def overlapped(optimizer, num_workers, asynchrony, axis_name=None):
    """A3C whose devices make their own workers' pushes at once, and the others' ``k`` rounds later.

    Gradients of a round have the next ``k`` rounds to travel in. Then every device makes all pushes of that round in
    the same order, so the parameters that all have in common stay the same on each, to the last bit. What its own
    workers have pushed since then a device makes on top of them, anew every round; its workers pull the result right
    after their own push. With ``k = 0`` nothing would be on top: that is `asynchronous`.

    The staleness of a push counts what comes before it in the common order and is not in its worker's snapshot. In
    random order its mean on ``D`` devices is ``W / D - 1`` within a device and ``(k + 1/2) (W - W / D)`` between them.

    Args:
        optimizer: an optax transformation of vectors ``[P]``.
        num_workers: ``W``, of all devices.
        asynchrony: an `Asynchrony` whose ``device_delay`` is ``k >= 1``.
        axis_name: of the devices that share the workers out, or None.

    Returns:
        An `UpdateRule`; its learner's ``params`` are those that all devices have in common.
    """
    check_asynchrony(asynchrony, num_workers)
    delay = asynchrony.device_delay
    here = collectives.part("num_workers", num_workers, axis_name)

    def init(key, params):
        del key
        vector = ravel_pytree(params)[0]
        return Learner(
            params=params,
            opt_state=optimizer.init(vector),
            rounds=jnp.int32(0),
            waiting=jnp.zeros((delay, here, vector.size)),
            orders=jnp.zeros((delay, num_workers), jnp.int32),
            snapshots=jax.tree.map(lambda x: jnp.broadcast_to(x, (here, *x.shape)), params),
            pulled_version=jnp.zeros(num_workers, jnp.int32),
            missed_here=jnp.zeros(num_workers, jnp.int32),
            staleness=jnp.zeros(8 * (delay + 1) * num_workers, jnp.int32),
        )

    def push(shared, gradient):
        params, opt_state = shared
        step, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, step), opt_state

    def push_on_top(shared, gradients, orders, rounds, snapshots):
        """Make this device's pushes of the waiting rounds: what its workers pull after those of the last one."""
        ranks = jax.vmap(jnp.argsort)(orders)[:, collectives.index(axis_name) * here + jnp.arange(here)]
        own = jnp.argsort(ranks, axis=1)  # [k, W]: this device's workers by order of arrival
        takes_place = rounds - delay + 1 + jnp.arange(delay) >= 0

        def one(loop, arrival):
            shared, snapshots = loop
            gradient, worker, active = arrival
            shared = jax.tree.map(lambda new, old: jnp.where(active, new, old), push(shared, gradient), shared)
            return (shared, snapshots.at[worker].set(shared[0])), None

        gradients = jnp.take_along_axis(gradients, own[..., None], axis=1)
        arrivals = gradients.reshape(delay * here, -1), own.reshape(-1), jnp.repeat(takes_place, here)
        return jax.lax.scan(one, (shared, snapshots), arrivals)[0][1]

    def update(key, learner, objective, trajectories):
        # The oldest gradients depend on nothing that is computed in this round, so they may travel all the while.
        arrived = collectives.gather(learner.waiting[0], axis_name)[learner.orders[0]]
        gradients, metrics = jax.vmap(gradient_at, (None, 0, 0))(objective, learner.snapshots, trajectories)
        ravel = jax.vmap(lambda tree: ravel_pytree(tree)[0])
        params, unravel = ravel_pytree(learner.params)
        shared = jax.lax.cond(
            learner.rounds >= delay,
            lambda shared: jax.lax.scan(lambda *x: (push(*x), None), shared, arrived)[0],
            lambda shared: shared,
            (params, learner.opt_state),
        )
        workers = ORDERS[asynchrony.schedule](key, num_workers)
        waiting = jnp.concatenate([learner.waiting[1:], ravel(gradients)[None]])
        orders = jnp.concatenate([learner.orders[1:], workers[None]])
        snapshots = push_on_top(shared, waiting, orders, learner.rounds, ravel(learner.snapshots))

        rank = jnp.argsort(workers)
        staleness = learner.rounds * num_workers + jnp.arange(num_workers) - learner.pulled_version[workers]
        missed_here, within, own_rank = count_within(learner.missed_here, workers, None, rank, here)
        known = num_workers * jnp.maximum(learner.rounds - delay + 1, 0)
        on_top = here * (jnp.minimum(delay, learner.rounds + 1) - 1) + own_rank[rank] + 1
        bins = jnp.minimum(staleness, learner.staleness.size - 1)
        learner = Learner(
            params=unravel(shared[0]),
            opt_state=shared[1],
            rounds=learner.rounds + 1,
            waiting=waiting,
            orders=orders,
            snapshots=jax.vmap(unravel)(snapshots),
            pulled_version=known + on_top,
            missed_here=missed_here,
            staleness=learner.staleness.at[bins].add(1),
        )
        metrics = collectives.gather(metrics, axis_name)
        return learner, metrics | {"staleness": staleness, "staleness_within": within}

    return UpdateRule(init, lambda learner: learner.snapshots, update)
