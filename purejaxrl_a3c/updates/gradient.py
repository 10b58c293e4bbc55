"""The gradient that every rule takes."""

import jax
import jax.numpy as jnp
import optax

from purejaxrl_a3c import collectives


def gradient_at(objective, params, trajectories, axis_name=None):
    """The gradient of ``objective`` at ``params`` over trajectories ``[B, T]``, and what is reported of it.

    Staleness is 0 there: a rule that applies the gradient later has to count. With ``axis_name`` both are means over
    the devices, which all have as many environments.
    """
    batch = objective.prepare(params, trajectories)
    gradient, metrics = collectives.mean(jax.grad(objective.loss, has_aux=True)(params, batch), axis_name)
    none = {"staleness": jnp.int32(0), "staleness_within": jnp.int32(0)}
    return gradient, metrics | none | {"gradient_norm": optax.tree.norm(gradient)}
