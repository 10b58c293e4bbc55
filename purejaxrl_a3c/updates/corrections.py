"""What can be done about a stale gradient: optax transformations that `updates.asynchronous` tells of the staleness.

They are links of a chain::

    optax.chain(compensate_delay(0.04), optax.sgd(0.1))
    optax.chain(optax.sgd(0.1), scale_by_staleness())
"""

from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import optax

from purejaxrl_a3c.types import Params

_DECAY, _EPSILON = 0.95, 1e-7  # of the mean of squares in DC-ASGD-a (0.95 in Zheng et al. 2017)

Correction: TypeAlias = Literal["none", "staleness", "delay", "adaptive_delay"]
"""Names of the corrections: none, division of the step by its staleness, and the two compensations of delay."""


def scale_by_staleness() -> optax.GradientTransformationExtraArgs:
    """Divide the step by ``max(staleness, 1)`` (Zhang et al. 2016, arXiv 1511.05950, equation 8).

    It belongs behind the optimizer: a normalisation by squared gradients would undo a division that comes before it.

    Returns:
        An optax transformation that takes ``staleness``.
    """

    def init(params: Params) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(
        updates: Params, state: Any, params: Params = None, *, staleness: jax.Array, **rest: Any
    ) -> tuple[Params, Any]:
        del params, rest
        scale = 1 / jnp.maximum(staleness, 1).astype(jnp.float32)
        return jax.tree.map(lambda x: x * scale.astype(x.dtype), updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def scale_by_effective_sample_size() -> optax.GradientTransformationExtraArgs:
    """Multiply the step by the root of the effective sample size, as a share (arXiv 2602.17616).

    It belongs behind the optimizer, for the reason that `scale_by_staleness` has.

    Returns:
        An optax transformation that takes ``effective_sample_size``, see `objectives.stale`.
    """

    def init(params: Params) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(
        updates: Params, state: Any, params: Params = None, *, effective_sample_size: jax.Array, **rest: Any
    ) -> tuple[Params, Any]:
        del params, rest
        scale = jnp.sqrt(effective_sample_size)
        return jax.tree.map(lambda x: x * scale.astype(x.dtype), updates), state

    return optax.GradientTransformationExtraArgs(init, update)


class _MeanSquare(NamedTuple):
    value: Params


def compensate_delay(strength: float | jax.Array, adaptive: bool = False) -> optax.GradientTransformationExtraArgs:
    """Estimate the gradient at the newest parameters (Zheng et al. 2017, arXiv 1609.08326, DC-ASGD).

    ``g + strength * g * g * (newest - pulled)``: a first-order step, with the squares in place of the Hessian's
    diagonal. It belongs before the optimizer.

    Args:
        strength: lambda in the paper; may be traced.
        adaptive: divide it, element by element, by the root of the running mean of squared gradients (DC-ASGD-a).

    Returns:
        An optax transformation that takes ``pulled`` and needs the parameters.
    """

    def init(params: Params) -> Any:
        return _MeanSquare(jax.tree.map(jnp.zeros_like, params)) if adaptive else optax.EmptyState()

    def update(
        updates: Params, state: Any, params: Params = None, *, pulled: Params, **rest: Any
    ) -> tuple[Params, Any]:
        del rest
        factor = jax.tree.map(lambda g: strength, updates)
        if adaptive:
            state = _MeanSquare(jax.tree.map(lambda m, g: _DECAY * m + (1 - _DECAY) * g * g, state.value, updates))
            factor = jax.tree.map(lambda m: strength * jax.lax.rsqrt(m + _EPSILON), state.value)
        updates = jax.tree.map(lambda g, f, w, old: g + f * g * g * (w - old), updates, factor, params, pulled)
        return updates, state

    return optax.GradientTransformationExtraArgs(init, update)


class Correct(Protocol):
    """Puts a correction around an optimizer."""

    def __call__(
        self, optimizer: optax.GradientTransformation, strength: float | jax.Array
    ) -> optax.GradientTransformation:
        """The corrected optimizer; ``strength`` is that of the compensations."""
        ...


CORRECTIONS: dict[Correction, Correct] = {
    "none": lambda optimizer, strength: optimizer,
    "staleness": lambda optimizer, strength: optax.chain(optimizer, scale_by_staleness()),
    "delay": lambda optimizer, strength: optax.chain(compensate_delay(strength), optimizer),
    "adaptive_delay": lambda optimizer, strength: optax.chain(compensate_delay(strength, adaptive=True), optimizer),
}
"""The corrections by name."""
