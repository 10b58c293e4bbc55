"""What a learner does with one worker's rollouts, at the newest parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import optax

from purejaxrl_a3c.backend.vectors import Packed, pack, ravel
from purejaxrl_a3c.types import AxisName, Key, Objective, Params, Scalars, Trajectory
from purejaxrl_a3c.updates.gradient import apply_gradient, gradient_at


class Learn(Protocol):
    """Learns from the rollouts of one worker."""

    def __call__(
        self,
        key: Key | None,
        objective: Objective,
        params: Params,
        state: Any,
        rollouts: Trajectory,
        back: Callable[[Any], Params],
        **told: Any,
    ) -> tuple[Params, Any, Scalars]:
        """Learn from rollouts.

        Args:
            key: consumed; None if the learning does not draw.
            objective: the `Objective`.
            params: the newest parameters: a vector, float32 ``[P]``, or a `Packed`.
            state: as of `Learning`.
            rollouts: leaves ``[B, T, ...]``.
            back: from such a vector or `Packed` to a tree of parameters.
            **told: what the optimizer is told.

        Returns:
            ``(params, state, named vectors to report with an entry a gradient step)``.
        """
        ...


class Learning(NamedTuple):
    """How rollouts are learned from."""

    init: Callable[[Params], Any]
    """parameters, as of `Learn` -> state: of the optimizer, and of all else that adapts."""
    learn: Learn
    draws: bool
    """Whether it needs random numbers."""


def one_step(optimizer: optax.GradientTransformation, axis_name: AxisName = None) -> Learning:
    """One gradient step on all of the rollouts, as IMPALA's learner does.

    Args:
        optimizer: an optax transformation. It sees parameters and gradients as a vector or a `Packed`.
        axis_name: the axis of the devices that share every worker's environments out, or None.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def learn(
        key: Key | None,
        objective: Objective,
        params: Params,
        state: Any,
        rollouts: Trajectory,
        back: Callable[[Any], Params],
        **told: Any,
    ) -> tuple[Params, Any, Scalars]:
        del key
        found, reported = gradient_at(objective, back(params), rollouts, axis_name)
        gradient = pack(found) if isinstance(params, Packed) else ravel(found)
        params, state = apply_gradient(optimizer, gradient, state, params, **told)
        return params, state, jax.tree.map(lambda x: x[None], reported)

    return Learning(optimizer.init, learn, draws=False)
