"""How every rule takes a gradient and applies it."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from purejaxrl_a3c.backend import collectives
from purejaxrl_a3c.backend.vectors import ravel
from purejaxrl_a3c.types import AxisName, Objective, Params, Scalars, Trajectory


def gradient_at(
    objective: Objective, params: Params, trajectories: Trajectory, axis_name: AxisName = None
) -> tuple[Params, Scalars]:
    """The gradient of an objective over one worker's trajectories.

    Args:
        objective: the `Objective`.
        params: where the gradient is taken.
        trajectories: leaves ``[B, T, ...]``.
        axis_name: the axis of the devices that share the environments out, or None. All of them have as many
            environments, and the results are means over the devices.

    Returns:
        The gradient, and the scalars to report. These are the objective's; ``gradient_norm``, the global norm before
        any clipping; ``skipped_updates``, 1.0 if the gradient is not finite, so that `apply_gradient` skips it, else
        0.0; and ``staleness`` and ``staleness_within``, which are 0 here: a rule that applies gradients later counts.
    """
    return gradient_of(objective, params, objective.prepare(params, trajectories), axis_name=axis_name)


def vector_gradient_at(
    objective: Objective, params: Params, trajectories: Trajectory, axis_name: AxisName = None
) -> tuple[jax.Array, Scalars]:
    """As `gradient_at`, raveled into one vector ``[P]``.

    Applying it takes a few kernels, not a few for every leaf: rules that apply many gradients in turn do it this way.
    """
    gradient, metrics = gradient_at(objective, params, trajectories, axis_name)
    return ravel(gradient), metrics


def gradient_of(
    objective: Objective, params: Params, batch: Params, *adapted: jax.Array, axis_name: AxisName = None
) -> tuple[Params, Scalars]:
    """As `gradient_at`, over a batch that ``objective.prepare`` made, or over a minibatch of it."""
    found = jax.grad(objective.loss, has_aux=True)(params, batch, *adapted)
    gradient, metrics = collectives.mean(found, axis_name)
    norm = optax.tree.norm(gradient)
    skipped = jnp.where(jnp.isfinite(norm), jnp.float32(0), jnp.float32(1))
    none = {"staleness": jnp.int32(0), "staleness_within": jnp.int32(0)}
    return gradient, metrics | none | {"gradient_norm": norm, "skipped_updates": skipped}


def apply_gradient(
    optimizer: optax.GradientTransformation,
    gradient: Params,
    opt_state: Any,
    params: Params,
    where: jax.Array | None = None,
    **extra: Any,
) -> tuple[Params, Any]:
    """One step of an optimizer, unless the gradient is not finite: a single NaN would end all learning.

    Args:
        optimizer: an optax transformation.
        gradient: that of the parameters.
        opt_state: the optimizer's state.
        params: the parameters.
        where: bool ``[]``, whether the step takes place; None: it does.
        **extra: what else the optimizer is told.

    Returns:
        ``(params, opt_state)`` after the step; unchanged if it does not take place or if the norm of the gradient is
        NaN or infinite.
    """
    # An optimizer that clips computes the same norm, so the compiler computes it once.
    takes_place = jnp.isfinite(optax.tree.norm(gradient))
    if where is not None:
        takes_place &= where
    step, new_state = optimizer.update(gradient, opt_state, params, **extra)
    after = optax.apply_updates(params, step), new_state
    return jax.tree.map(lambda new, old: jnp.where(takes_place, new, old), after, (params, opt_state))
