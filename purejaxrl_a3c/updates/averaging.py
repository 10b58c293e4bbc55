"""Workers that learn on their own and are mixed now and then: local SGD, DiLoCo, gossip."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purejaxrl_a3c.backend import collectives, split
from purejaxrl_a3c.types import AxisName, Key, Objective, Params, Scalars, Trajectory, UpdateRule
from purejaxrl_a3c.updates.gradient import apply_gradient, gradient_at


class Learner(NamedTuple):
    """The common parameters as of the last mixing, and each worker's own."""

    params: Params
    workers: Params  # every leaf [W, ...]
    opt_state: Any  # every leaf [W, ...]
    mix_state: Any
    rounds: jax.Array  # int32 []


class Mix(NamedTuple):
    """How workers are mixed."""

    init: Callable[[Params], Any]
    """params -> state."""
    apply: Callable[[Any, Params, Params, AxisName], tuple[Any, Params, Params]]
    """(state, params, workers [W], axis_name) -> (state, params, workers [W]), where W are this device's."""


def mean(outer: optax.GradientTransformation | None = None) -> Mix:
    """All workers go on from one set of parameters: their mean, or what an outer optimizer makes of it.

    The difference between the last common parameters and the workers' mean is the gradient that ``outer`` gets:
    ``optax.sgd(0.7, momentum=0.9, nesterov=True)`` is DiLoCo (Douillard et al. 2023, arXiv 2311.08105).

    Args:
        outer: an optax transformation; None: ``optax.sgd(1.0)``, the mean itself (McMahan et al. 2017, 1602.05629).

    Returns:
        A `Mix`.
    """
    optimizer = outer or optax.sgd(1.0)

    def apply(state: Any, params: Params, workers: Params, axis_name: AxisName) -> tuple[Any, Params, Params]:
        average = collectives.mean(jax.tree.map(lambda x: x.mean(0), workers), axis_name)
        difference = jax.tree.map(jnp.subtract, params, average)
        params, state = apply_gradient(optimizer, difference, state, params)
        return state, params, jax.tree.map(lambda x, many: jnp.broadcast_to(x, many.shape), params, workers)

    return Mix(optimizer.init, apply)


def ring() -> Mix:
    """Gossip (Assran et al. 2019, arXiv 1906.04585): each worker takes the mean of itself and its two neighbours.

    Two workers are each other's neighbour on both sides. The common parameters are the mean of all.

    Returns:
        A `Mix`.
    """

    def init(params: Params) -> Any:
        del params
        return ()

    def apply(state: Any, params: Params, workers: Params, axis_name: AxisName) -> tuple[Any, Params, Params]:
        del params

        def mix(x: jax.Array) -> jax.Array:
            first, last = collectives.from_next(x[:1], axis_name), collectives.from_previous(x[-1:], axis_name)
            return (x + jnp.concatenate([last, x[:-1]]) + jnp.concatenate([x[1:], first])) / 3

        workers = jax.tree.map(mix, workers)
        return state, collectives.mean(jax.tree.map(lambda x: x.mean(0), workers), axis_name), workers

    return Mix(init, apply)


def averaging(
    optimizer: optax.GradientTransformation,
    num_workers: int,
    sync_every: int = 1,
    mix: Mix | None = None,
    axis_name: AxisName = None,
) -> UpdateRule:
    """Independent local updates; every ``sync_every`` rounds the workers' parameters are mixed.

    Each worker acts with, and takes the gradient at, its own parameters. It has an optimizer state of its own, which
    is not mixed. No gradient is ever stale: the distance between workers takes the place of staleness.

    Args:
        optimizer: the workers' optax transformation.
        num_workers: ``W``, of all devices.
        sync_every: rounds from one mixing to the next; with 1, a plain mean and SGD it is A2C.
        mix: `mean` or `ring`; None: ``mean()``.
        axis_name: the axis of the devices that share the workers out, or None.

    Returns:
        An `UpdateRule`; its learner's ``params`` are as of the last mixing.
    """
    mixing = mix or mean()
    workers_here = collectives.part("num_workers", num_workers, axis_name)

    def init(key: Key, params: Params) -> Learner:
        del key
        workers = jax.tree.map(lambda x: jnp.broadcast_to(x, (workers_here, *x.shape)), params)
        return Learner(params, workers, jax.vmap(optimizer.init)(workers), mixing.init(params), jnp.int32(0))

    def actor(learner: Learner) -> Params:
        return learner.workers

    def update_one(
        objective: Objective, params: Params, opt_state: Any, trajectories: Trajectory
    ) -> tuple[Params, Any, Scalars]:
        gradient, metrics = gradient_at(objective, params, trajectories)
        return *apply_gradient(optimizer, gradient, opt_state, params), metrics

    def update(key: Key, learner: Learner, objective: Objective, trajectories: Trajectory) -> tuple[Learner, Scalars]:
        del key
        workers, opt_state, metrics = jax.vmap(update_one, (None, 0, 0, 0))(
            objective, learner.workers, learner.opt_state, trajectories
        )
        rounds = learner.rounds + 1
        mix_state, params, workers = jax.lax.cond(
            rounds % sync_every == 0,
            lambda state, params, workers: mixing.apply(state, params, workers, axis_name),
            lambda *unmixed: unmixed,
            *(learner.mix_state, learner.params, workers),
        )
        return Learner(params, workers, opt_state, mix_state, rounds), collectives.gather(metrics, axis_name)

    def split_workers(learner: Learner) -> Learner:
        of_workers = {"workers": split.along(0, learner.workers), "opt_state": split.along(0, learner.opt_state)}
        return split.copied(learner)._replace(**of_workers)

    return UpdateRule(init, actor, update, split_workers)
