"""Lockstep: all environments act with the current parameters, and one update follows."""

from typing import Any, NamedTuple

import jax
import optax

from purejaxrl_a3c.backend import split
from purejaxrl_a3c.types import AxisName, Key, Objective, Params, Scalars, Trajectory, UpdateRule
from purejaxrl_a3c.updates.gradient import apply_gradient, gradient_at


class Learner(NamedTuple):
    """The parameters and the optimizer's state."""

    params: Params
    opt_state: Any


def synchronous(optimizer: optax.GradientTransformation, axis_name: AxisName = None) -> UpdateRule:
    """A2C's rule: the gradient of the whole batch, which is the mean of the workers' gradients, applied once.

    Args:
        optimizer: an optax transformation.
        axis_name: the axis of the devices that share the environments out, or None.

    Returns:
        An `UpdateRule` with one worker.
    """

    def init(key: Key, params: Params) -> Learner:
        del key
        return Learner(params, optimizer.init(params))

    def actor(learner: Learner) -> Params:
        return jax.tree.map(lambda x: x[None], learner.params)

    def update(key: Key, learner: Learner, objective: Objective, trajectories: Trajectory) -> tuple[Learner, Scalars]:
        del key
        params, opt_state = learner
        environments = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectories)
        gradient, metrics = gradient_at(objective, params, environments, axis_name)
        learner = Learner(*apply_gradient(optimizer, gradient, opt_state, params))
        return learner, jax.tree.map(lambda x: x[None], metrics)

    return UpdateRule(init, actor, update, split.copied)
