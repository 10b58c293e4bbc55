"""Optimizers, from optax, as the papers use them."""

from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import optax

from purejaxrl_a3c import checks
from purejaxrl_a3c.backend.vectors import pack, pack_and_back
from purejaxrl_a3c.config import NonNegative, Positive, PositiveOrInf, UnitInterval, configuration
from purejaxrl_a3c.types import ClockedRule, Learner, Scalars, UpdateRule

Rule = TypeVar("Rule", UpdateRule, ClockedRule, UpdateRule | ClockedRule)


@configuration
class RMSProp:
    """RMSProp without momentum behind a clip of the global norm (Mnih et al. 2016, arXiv 1602.01783, section 4).

    ``g <- decay g + (1 - decay) grad^2``, ``params <- params - learning_rate grad / sqrt(g + epsilon)``, with epsilon
    inside the root. A3C's update rule shares ``g`` and the count of updates between all workers.
    """

    learning_rate: NonNegative = 7e-4
    """Initial learning rate of RMSProp (7e-4 in OpenAI Baselines)."""
    anneal_learning_rate: bool = True
    """Whether the learning rate falls linearly to 0 over the updates of the run (it does in Mnih et al. 2016)."""
    max_gradient_norm: PositiveOrInf = 0.5
    """Global norm to which a gradient is clipped (0.5 in OpenAI Baselines); inf turns clipping off."""
    rmsprop_decay: UnitInterval = 0.99
    """Decay of RMSProp's running mean of squared gradients (0.99 in Mnih et al. 2016)."""
    rmsprop_epsilon: Positive = 1e-5
    """Added to RMSProp's mean of squared gradients, inside the root (1e-5 in OpenAI Baselines)."""


@configuration
class Adam:
    """Adam behind a clip of the global norm, as PPO uses it.

    Numbers in brackets are those of "The 37 implementation details of PPO" (Huang et al. 2022, ICLR blog track).
    """

    learning_rate: NonNegative = 2.5e-4
    """Initial learning rate of Adam (2.5e-4 in Schulman et al. 2017, Atari)."""
    anneal_learning_rate: bool = True
    """Whether the learning rate falls linearly to 0 over the updates of the run [4]."""
    max_gradient_norm: PositiveOrInf = 0.5
    """Global norm to which a gradient is clipped (0.5 in OpenAI Baselines) [11]; inf turns clipping off."""
    adam_epsilon: Positive = 1e-5
    """Added to the root of Adam's mean of squared gradients (1e-5 in OpenAI Baselines) [3]."""


@configuration
class RAdam:
    """Rectified Adam (Liu et al. 2020, arXiv 1908.03265) behind a clip of the global norm, as PQN uses it.

    Defaults without another source are those of the code of Gallici et al. 2024 for CartPole.
    """

    learning_rate: NonNegative = 1e-4
    """Initial learning rate of RAdam (1e-4 for CartPole in the code of Gallici et al. 2024)."""
    anneal_learning_rate: bool = True
    """Whether the learning rate falls linearly to 0 over the updates of the run (it does for CartPole in the code of
    Gallici et al. 2024)."""
    max_gradient_norm: PositiveOrInf = 10.0
    """Global norm to which a gradient is clipped (10 in Gallici et al. 2024); inf turns clipping off."""
    adam_epsilon: Positive = 1e-8
    """Added to the root of RAdam's mean of squared gradients (1e-8 in optax)."""


Optimizer: TypeAlias = RMSProp | Adam | RAdam | optax.GradientTransformation
"""What `make` accepts."""


def make(optimizer: Optimizer, num_updates: int) -> optax.GradientTransformation:
    """The optax transformation that a config describes.

    Args:
        optimizer: an `RMSProp`, an `Adam`, an `RAdam`, or any optax transformation, which is returned as it is. Most
            rules show it parameters and gradients as one vector, or as one vector and a few large ones, so it must not
            treat leaves of the parameters differently.
        num_updates: updates of the whole run, over which the learning rate falls to 0 if it is annealed.

    Returns:
        An optax transformation.

    Raises:
        InputError: for anything else.
    """
    if isinstance(optimizer, RMSProp):
        return _rmsprop(optimizer, num_updates)
    if isinstance(optimizer, Adam):
        return _adam(optimizer, num_updates)
    if isinstance(optimizer, RAdam):
        return _radam(optimizer, num_updates)
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    checks.reject("optimizer", optimizer, "one of optimizers.RMSProp, Adam and RAdam, or an optax transformation")


def with_momentum(
    optimizer: optax.GradientTransformation, momentum: float | jax.Array | None
) -> optax.GradientTransformation:
    """Heavy ball on the steps of another optimizer: ``step <- momentum * step + optimizer's``.

    Args:
        optimizer: an optax transformation.
        momentum: in (-1, 1), may be traced; None: no momentum. Asynchrony itself acts as momentum (Mitliagkas et al.
            2016, arXiv 1605.09774), which a negative one counters.

    Returns:
        An optax transformation; without momentum ``optimizer`` itself.
    """
    return optimizer if momentum is None else optax.chain(optimizer, optax.trace(momentum))


def report_clipping(rule: Rule, optimizer: Optimizer) -> Rule:
    """Let a rule report ``gradient_clipped``: 1.0 for a finite gradient that the optimizer clips, otherwise 0.0.

    Args:
        rule: any rule.
        optimizer: its optimizer's config; of an optax transformation it is not known whether it clips.

    Returns:
        The rule that also reports it; for an optax transformation ``rule`` itself.
    """
    limit = clip_limit(optimizer)
    if limit is None:
        return rule

    def update(*args: Any) -> tuple[Learner, Scalars]:
        learner, reported = rule.update(*args)
        return learner, reported | {"gradient_clipped": is_clipped(reported["gradient_norm"], limit)}

    return rule._replace(update=update)


def clip_limit(optimizer: Optimizer) -> float | jax.Array | None:
    """The norm to which an optimizer's config clips; None for an optax transformation, of which it is not known."""
    return None if isinstance(optimizer, optax.GradientTransformation) else optimizer.max_gradient_norm


def is_clipped(norm: jax.Array, limit: float | jax.Array) -> jax.Array:
    """1.0 where the norm of a gradient is finite and above the limit, otherwise 0.0."""
    return ((norm > limit) & jnp.isfinite(norm)).astype(jnp.float32)


def _rmsprop(config: RMSProp, num_updates: int) -> optax.GradientTransformation:
    return optax.chain(
        _clip(config.max_gradient_norm),
        optax.scale_by_rms(config.rmsprop_decay, config.rmsprop_epsilon, eps_in_sqrt=True),
        optax.scale_by_learning_rate(_learning_rate(config, num_updates)),
    )


def _adam(config: Adam, num_updates: int) -> optax.GradientTransformation:
    # Leaf by leaf Adam is many small kernels.
    return _on_packed(
        optax.chain(
            _clip(config.max_gradient_norm),
            optax.scale_by_adam(eps=config.adam_epsilon),
            optax.scale_by_learning_rate(_learning_rate(config, num_updates)),
        )
    )


def _radam(config: RAdam, num_updates: int) -> optax.GradientTransformation:
    return _on_packed(
        optax.chain(
            _clip(config.max_gradient_norm),
            optax.scale_by_radam(eps=config.adam_epsilon),
            optax.scale_by_learning_rate(_learning_rate(config, num_updates)),
        )
    )


def _on_packed(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimizer that sees parameters and gradients as a `Packed`, which it may be given, too."""

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        packed, back = pack_and_back(gradient)
        step, state = optimizer.update(packed, state, None if params is None else pack(params))
        return back(step), state

    return optax.GradientTransformation(lambda params: optimizer.init(pack(params)), update)


def _clip(limit: float | jax.Array) -> optax.GradientTransformation:
    # Without a limit XLA's CPU backend would still compute the norm, and divide by it.
    is_off = isinstance(limit, float) and limit == float("inf")
    return optax.identity() if is_off else optax.clip_by_global_norm(limit)


def _learning_rate(config: RMSProp | Adam | RAdam, num_updates: int) -> Any:
    rate = config.learning_rate
    return optax.linear_schedule(rate, 0.0, num_updates) if config.anneal_learning_rate else rate
