"""The gradient that every rule takes."""

import jax
import jax.numpy as jnp
import optax


def gradient_at(objective, params, trajectories):
    """The gradient of ``objective`` at ``params`` over trajectories ``[B, T]``, and what is reported of it.

    Staleness is 0 there: a rule that applies the gradient later has to count.
    """
    return gradient_of(objective, params, objective.prepare(params, trajectories))


def gradient_of(objective, params, batch, *adapted):
    """As `gradient_at`, over a batch that is prepared, or a part of it."""
    gradient, metrics = jax.grad(objective.loss, has_aux=True)(params, batch, *adapted)
    return gradient, metrics | {"gradient_norm": optax.tree.norm(gradient), "staleness": jnp.int32(0)}
