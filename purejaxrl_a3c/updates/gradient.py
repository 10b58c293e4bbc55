"""How every rule takes a gradient."""

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from purejaxrl_a3c.backend import collectives
from purejaxrl_a3c.types import AxisName, Objective, Params, Scalars, Trajectory


def gradient_at(
    objective: Objective, params: Params, trajectories: Trajectory, axis_name: AxisName = None
) -> tuple[Params, Scalars]:
    """The gradient of an objective over one worker's trajectories.

    Args:
        objective: the `Objective`.
        params: where the gradient is taken.
        trajectories: leaves ``[B, T, ...]``.
        axis_name: of the devices that share the environments out, or None. All of them have as many environments, and
            the results are means over the devices.

    Returns:
        The gradient, and the scalars to report: the objective's, ``gradient_norm`` (the global norm before any
        clipping), and ``staleness`` and ``staleness_within``, which are 0 here: a rule that applies the gradient later
        counts them.
    """
    return gradient_of(objective, params, objective.prepare(params, trajectories), axis_name=axis_name)


def gradient_of(
    objective: Objective, params: Params, batch: Params, *adapted: jax.Array, axis_name: AxisName = None
) -> tuple[Params, Scalars]:
    """As `gradient_at`, over a batch that ``objective.prepare`` made, or over a minibatch of it."""
    found = jax.grad(objective.loss, has_aux=True)(params, batch, *adapted)
    gradient, metrics = collectives.mean(found, axis_name)
    none = {"staleness": jnp.int32(0), "staleness_within": jnp.int32(0)}
    return gradient, metrics | none | {"gradient_norm": optax.tree.norm(gradient)}


def ravel(tree: Params) -> jax.Array:
    """All leaves as one vector ``[P]``."""
    return ravel_pytree(tree)[0]
