"""Lockstep: everybody acts with the current parameters, and one update follows."""

from typing import Any, NamedTuple

import jax
import optax

from purejaxrl_a3c.types import Params, UpdateRule
from purejaxrl_a3c.updates.gradient import gradient_at


class Learner(NamedTuple):
    """The parameters and the optimizer's state."""

    params: Params
    opt_state: Any


def synchronous(optimizer, axis_name=None):
    """A2C's rule: the gradient of the whole batch, which is the mean of the workers' gradients, applied once.

    Args:
        optimizer: an optax transformation.
        axis_name: of the devices that share the environments out, or None.

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
        gradient, metrics = gradient_at(objective, params, environments, axis_name)
        step, opt_state = optimizer.update(gradient, opt_state, params)
        return Learner(optax.apply_updates(params, step), opt_state), jax.tree.map(lambda x: x[None], metrics)

    return UpdateRule(init, actor, update)
