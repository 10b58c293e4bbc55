"""Corrections of PPO's loss for steps of older parameters, as asynchronous training of large models uses them.

Three policies take part, of which each step has the log-probability of its action:

- ``mu`` acted;
- ``prox``, the *proximal policy*, is what the learner had when it took the rollout;
- ``theta`` learns, and only it has a gradient.

Without staleness ``mu`` and ``prox`` are the same policy, and most corrections are PPO's own loss.
"""

from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp

from purejaxrl_a3c.config import NonNegative, PositiveOrInf, configuration
from purejaxrl_a3c.objectives.returns import importance_weight

CorrectionName: TypeAlias = Literal[
    "none",
    "decoupled",
    "interpolated",
    "truncated",
    "masked",
    "masked_rollouts",
    "clipped_weight",
    "rollout_ratio",
    "two_sided",
    "second_moment",
    "vtrace",
    "effective_sample_size",
]
"""Names of the corrections."""


@configuration
class StaleConfig:
    """Settings of the correction for stale rollouts."""

    loss_correction: CorrectionName = "none"
    """How the loss is corrected for rollouts of older parameters: not at all; by PPO around the parameters that the
    learner had (decoupled, or interpolated between those and the ones that acted); by importance weights that are
    truncated, masked (masked_rollouts: by the rollout's mean), clipped (clipped_weight) or those of the whole rollout
    (rollout_ratio); by an upper bound where the advantage is negative (two_sided); by leaving out the steps whose
    policy has moved furthest (second_moment); by V-trace advantages; or by smaller steps (effective_sample_size)."""
    weight_limit: PositiveOrInf = 2.0
    """Upper bound of importance weights, where the correction has one (2 in the work on truncated importance sampling;
    4 for two_sided in INTELLECT-2)."""
    weight_floor: NonNegative = 0.5
    """Weight below which the masked corrections leave a step out."""
    second_moment_limit: NonNegative = 0.04
    """Mean squared logarithm of the probability ratio that second_moment allows (0.04 in Zheng et al. 2025, arXiv
    2510.01161)."""


class Steps(NamedTuple):
    """Steps that a policy is learned from, each ``[M, T]``."""

    log_mu: jax.Array  # log-probability of the action under the policy that acted
    log_theta: jax.Array  # under the policy that learns
    advantage: jax.Array
    log_prox: Any  # under the policy that the learner had; () where the correction does not ask for it
    staleness: Any  # int32: updates between mu and prox; () likewise
    counts: Any = ()  # bool: whether the step is learned from; (): all are


class Clip(NamedTuple):
    """Where probability ratios are clipped: between ``1 - below`` and ``1 + above``."""

    below: float | jax.Array
    above: float | jax.Array

    def __call__(self, ratio: jax.Array) -> jax.Array:
        """The ratio within these bounds."""
        return jnp.clip(ratio, 1 - self.below, 1 + self.above)


class StaleLoss(Protocol):
    """The loss of a policy, corrected for staleness."""

    def __call__(self, steps: Steps, clip: Clip, config: StaleConfig) -> jax.Array:
        """The loss of each step, float32 ``[M, T]``."""
        ...


class Correction(NamedTuple):
    """A correction, and what it needs."""

    loss: StaleLoss
    needs: tuple[str, ...] = ()
    """Those of ``log_prox`` and ``staleness`` that it reads."""
    whole_rollouts: bool = False
    """Whether a minibatch must hold whole rollouts."""
    vtrace: bool = False
    """Whether targets and advantages are V-trace's, not those of `returns.gae`; the loss weighs the advantages."""


def surrogate(ratio: jax.Array, advantage: jax.Array, clip: Clip) -> jax.Array:
    """PPO's loss (Schulman et al. 2017, arXiv 1707.06347, equation 7): ``-min(ratio A, clip(ratio) A)``."""
    return -jnp.minimum(ratio * advantage, clip(ratio) * advantage)


def none(steps: Steps, clip: Clip, config: StaleConfig) -> jax.Array:
    """PPO as it is: the clip is centred on the policy that acted, however old that is."""
    del config
    return surrogate(importance_weight(steps.log_theta - steps.log_mu), steps.advantage, clip)


def decoupled(steps: Steps, clip: Clip, config: StaleConfig) -> jax.Array:
    """The clip is centred on the proximal policy, and the step weighed by ``prox / mu``.

    Hilton et al. 2022 (arXiv 2110.00641); AReaL (arXiv 2505.24298).
    """
    del config
    weight = importance_weight(steps.log_prox - steps.log_mu)
    return weight * surrogate(importance_weight(steps.log_theta - steps.log_prox), steps.advantage, clip)


def interpolated(steps: Steps, clip: Clip, config: StaleConfig) -> jax.Array:
    """As `decoupled`, with a proximal policy between the one that acted and the one that learns (arXiv 2512.06547).

    ``log prox = log mu + a (log theta - log mu)`` with ``a = s / (s + 1)`` for a rollout that is ``s`` updates old: the
    learning policy is on its way to the next version. It needs no further pass of the network.
    """
    log_theta = jax.lax.stop_gradient(steps.log_theta)
    share = steps.staleness / (steps.staleness + 1.0)
    return decoupled(steps._replace(log_prox=steps.log_mu + share * (log_theta - steps.log_mu)), clip, config)


def truncated(steps: Steps, clip: Clip, config: StaleConfig) -> jax.Array:
    """The policy gradient with truncated importance weights: ``min(theta / mu, weight_limit) A grad log theta``."""
    del clip
    weight = jnp.minimum(importance_weight(steps.log_theta - steps.log_mu), config.weight_limit)
    return -jax.lax.stop_gradient(weight) * steps.log_theta * steps.advantage


def masked(steps: Steps, clip: Clip, config: StaleConfig) -> jax.Array:
    """The policy gradient with importance weights, without steps whose weight is out of bounds."""
    del clip
    weight = importance_weight(steps.log_theta - steps.log_mu)
    return -jnp.where(_within(weight, config), weight, 0.0) * steps.advantage


def masked_rollouts(steps: Steps, clip: Clip, config: StaleConfig) -> jax.Array:
    """As `masked`, without rollouts whose geometric mean of the weights is out of bounds."""
    del clip
    log_ratio = steps.log_theta - steps.log_mu
    mean = importance_weight(_rollout_mean(steps, log_ratio))
    return -jnp.where(_within(mean, config), importance_weight(log_ratio), 0.0) * steps.advantage


def clipped_weight(steps: Steps, clip: Clip, config: StaleConfig) -> jax.Array:
    """The policy gradient with clipped weights, which leaves no step out (CISPO, arXiv 2506.13585)."""
    del config
    weight = clip(importance_weight(steps.log_theta - steps.log_mu))
    return -jax.lax.stop_gradient(weight) * steps.log_theta * steps.advantage


def rollout_ratio(steps: Steps, clip: Clip, config: StaleConfig) -> jax.Array:
    """PPO with the geometric mean of a rollout's ratios in place of each (GSPO, arXiv 2507.18071)."""
    del config
    log_ratio = steps.log_theta - steps.log_mu
    mean = jnp.broadcast_to(_rollout_mean(steps, log_ratio), log_ratio.shape)
    return surrogate(importance_weight(mean), steps.advantage, clip)


def two_sided(steps: Steps, clip: Clip, config: StaleConfig) -> jax.Array:
    """PPO with an upper bound of the ratio where the advantage is negative (INTELLECT-2, arXiv 2505.07291)."""
    ratio = importance_weight(steps.log_theta - steps.log_mu)
    bounded = jnp.minimum(ratio, config.weight_limit)
    return -jnp.minimum(bounded * steps.advantage, clip(ratio) * steps.advantage)


def second_moment(steps: Steps, clip: Clip, config: StaleConfig) -> jax.Array:
    """The importance-weighted loss without the steps whose policy has moved furthest (Zheng et al. 2025, M2PO).

    As many steps are left out as it takes until the mean of ``(log theta - log mu)^2`` over the others is at most
    ``second_moment_limit``.
    """
    del clip
    log_ratio = steps.log_theta - steps.log_mu
    squares = jax.lax.stop_gradient(jnp.square(log_ratio))
    if not isinstance(steps.counts, tuple):
        squares = jnp.where(steps.counts, squares, jnp.inf)
    ascending = jnp.sort(squares.ravel())
    means = jnp.cumsum(ascending) / (1 + jnp.arange(ascending.size))
    # The means rise, so what may stay is a first part of the ascending squares.
    largest = jnp.max(jnp.where(means <= config.second_moment_limit, ascending, -1.0))
    return -jnp.where(squares <= largest, importance_weight(log_ratio), 0.0) * steps.advantage


def around_prox(steps: Steps, clip: Clip, config: StaleConfig) -> jax.Array:
    """PPO around the proximal policy, with V-trace's advantages and their weights ``min(1, prox / mu)``.

    arXiv 2603.01365. The weight is here and not in the advantage, which is normalized over a minibatch first.
    """
    del config
    weight = jnp.minimum(importance_weight(steps.log_prox - steps.log_mu), 1.0)
    return weight * surrogate(importance_weight(steps.log_theta - steps.log_prox), steps.advantage, clip)


def _rollout_mean(steps: Steps, values: jax.Array) -> jax.Array:
    """The mean of each rollout over the steps that are learned from: ``[M, T]`` to ``[M, 1]``."""
    if isinstance(steps.counts, tuple):
        return values.mean(axis=1, keepdims=True)
    number = jnp.maximum(steps.counts.sum(axis=1, keepdims=True), 1)
    return jnp.where(steps.counts, values, 0).sum(axis=1, keepdims=True) / number


def _within(weight: jax.Array, config: StaleConfig) -> jax.Array:
    return (weight >= config.weight_floor) & (weight <= config.weight_limit)


CORRECTIONS: dict[CorrectionName, Correction] = {
    "none": Correction(none),
    "decoupled": Correction(decoupled, ("log_prox",)),
    "interpolated": Correction(interpolated, ("staleness",)),
    "truncated": Correction(truncated),
    "masked": Correction(masked),
    "masked_rollouts": Correction(masked_rollouts, whole_rollouts=True),
    "clipped_weight": Correction(clipped_weight),
    "rollout_ratio": Correction(rollout_ratio, whole_rollouts=True),
    "two_sided": Correction(two_sided),
    "second_moment": Correction(second_moment),
    "vtrace": Correction(around_prox, ("log_prox",), vtrace=True),
    # What is corrected is the size of the steps, see `updates.corrections.scale_by_effective_sample_size`.
    "effective_sample_size": Correction(truncated),
}
"""The corrections by name."""


def effective_sample_size(log_ratio: jax.Array, counts: jax.Array | None = None) -> jax.Array:
    """The share of steps that weighted ones are worth: ``(sum w)^2 / (n sum w^2)``, float32 ``[]``.

    It is 1 if all weights are equal, or there are none.

    Args:
        log_ratio: ``[...]``, logarithms of the weights ``w``.
        counts: bool ``[...]``, which of them count; None: all do.
    """
    log_ratio = jax.lax.stop_gradient(log_ratio)
    if counts is not None:
        log_ratio = jnp.where(counts, log_ratio, -jnp.inf)
    # Relative to the largest one, so that they neither overflow nor all vanish.
    largest = log_ratio.max()
    weight = jnp.exp(log_ratio - jnp.where(jnp.isneginf(largest), 0, largest))
    total = (weight.size if counts is None else counts.sum()) * jnp.square(weight).sum()
    return jnp.where(total == 0, 1.0, jnp.square(weight.sum()) / jnp.where(total == 0, 1.0, total))
