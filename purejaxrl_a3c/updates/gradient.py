"""The gradient that every rule takes."""

import jax
import jax.numpy as jnp
import optax


def gradient_at(objective, params, trajectories):
    """The gradient of ``objective`` at ``params`` over trajectories ``[B, T]``, and what is reported of it.

    Staleness is 0 there: a rule that applies the gradient later has to count.
    """
    batch = objective.prepare(params, trajectories)
    gradient, metrics = jax.grad(objective.loss, has_aux=True)(params, batch)
    return gradient, metrics | {"gradient_norm": optax.tree.norm(gradient), "staleness": jnp.int32(0)}
