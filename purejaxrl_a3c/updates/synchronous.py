"""Lockstep: everybody acts with the current parameters, and one update follows."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purejaxrl_a3c.types import Params, UpdateRule


class Learner(NamedTuple):
    """The parameters and the optimizer's state."""

    params: Params
    opt_state: Any


def synchronous(optimizer):
    """A2C's rule: the gradient of the whole batch, which is the mean of the workers' gradients, applied once.

    Args:
        optimizer: an optax transformation.

    Returns:
        An `UpdateRule` with one worker.
    """

    def init(key, params):
        del key
        return Learner(params, optimizer.init(params))

    def actor(learner):
        return jax.tree.map(lambda x: x[None], learner.params)

    def update(key, learner, objective, trajectories, turn=None):
        del key, turn
        params, opt_state = learner
        environments = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectories)
        batch = objective.prepare(params, environments)
        gradient, metrics = jax.grad(objective.loss, has_aux=True)(params, batch)
        step, opt_state = optimizer.update(gradient, opt_state, params)
        metrics |= {"gradient_norm": optax.tree.norm(gradient), "staleness": jnp.int32(0)}
        return Learner(optax.apply_updates(params, step), opt_state), jax.tree.map(lambda x: x[None], metrics)

    return UpdateRule(init, actor, update)
