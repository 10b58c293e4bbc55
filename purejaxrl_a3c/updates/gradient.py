"""The gradient that every rule takes."""

import jax
import jax.numpy as jnp
import optax

from purejaxrl_a3c.backend import collectives


def gradient_at(objective, params, trajectories, axis_name=None):
    """The gradient of ``objective`` at ``params`` over trajectories ``[B, T]``, and what is reported of it.

    Staleness is 0 there: a rule that applies the gradient later has to count. With ``axis_name`` both are means over
    the devices, which all have as many environments.
    """
    return gradient_of(objective, params, objective.prepare(params, trajectories), axis_name=axis_name)


def gradient_of(objective, params, batch, *adapted, axis_name=None):
    """As `gradient_at`, over a batch that is prepared, or a part of it."""
    found = jax.grad(objective.loss, has_aux=True)(params, batch, *adapted)
    gradient, metrics = collectives.mean(found, axis_name)
    none = {"staleness": jnp.int32(0), "staleness_within": jnp.int32(0)}
    return gradient, metrics | none | {"gradient_norm": optax.tree.norm(gradient)}
