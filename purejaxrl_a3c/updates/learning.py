"""What a learner does with one worker's rollouts, at the newest parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import optax

from purejaxrl_a3c.types import AxisName, Key, Objective, Params, Scalars, Trajectory
from purejaxrl_a3c.updates.gradient import apply_gradient, vector_gradient_at


class Learn(Protocol):
    """Learns from the rollouts of one worker."""

    def __call__(
        self,
        key: Key | None,
        objective: Objective,
        params: jax.Array,
        state: Any,
        rollouts: Trajectory,
        unravel: Callable[[jax.Array], Params],
        **told: Any,
    ) -> tuple[jax.Array, Any, Scalars]:
        """Learn from rollouts.

        Args:
            key: consumed; None if the learning does not draw.
            objective: the `Objective`.
            params: float32 ``[P]``, the newest parameters.
            state: as of `Learning`.
            rollouts: leaves ``[B, T, ...]``.
            unravel: ``[P]`` to parameters.
            **told: what the optimizer is told.

        Returns:
            ``(params [P], state, named vectors to report with an entry a gradient step)``.
        """
        ...


class Learning(NamedTuple):
    """How rollouts are learned from."""

    init: Callable[[jax.Array], Any]
    """parameters float32 [P] -> state: of the optimizer, and of all else that adapts."""
    learn: Learn
    draws: bool
    """Whether it needs random numbers."""


def one_step(optimizer: optax.GradientTransformation, axis_name: AxisName = None) -> Learning:
    """One gradient step on all of the rollouts, as IMPALA's learner does.

    Args:
        optimizer: an optax transformation of parameters ``[P]``.
        axis_name: the axis of the devices that share every worker's environments out, or None.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def learn(
        key: Key | None,
        objective: Objective,
        params: jax.Array,
        state: Any,
        rollouts: Trajectory,
        unravel: Callable[[jax.Array], Params],
        **told: Any,
    ) -> tuple[jax.Array, Any, Scalars]:
        del key
        gradient, reported = vector_gradient_at(objective, unravel(params), rollouts, axis_name)
        params, state = apply_gradient(optimizer, gradient, state, params, **told)
        return params, state, jax.tree.map(lambda x: x[None], reported)

    return Learning(optimizer.init, learn, draws=False)
