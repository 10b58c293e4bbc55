"""PPO's objectives (Schulman et al. 2017, arXiv 1707.06347), which allow several passes over a rollout."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from purejaxrl_a3c.backend import collectives
from purejaxrl_a3c.objectives import returns
from purejaxrl_a3c.objectives.config import Config
from purejaxrl_a3c.objectives.items import split_steps
from purejaxrl_a3c.objectives.policy_gradient import sum_of_values, weighted
from purejaxrl_a3c.objectives.reports import explained_variance
from purejaxrl_a3c.types import (
    Action,
    AxisName,
    Carry,
    Network,
    Objective,
    Observation,
    Params,
    Scalars,
    TargetEstimator,
    Targets,
    Trajectory,
)


class MinibatchItems(NamedTuple):
    """What PPO learns from, fixed for all passes over a rollout: ``M`` items that a minibatch never cuts.

    See `split_steps` for what an item is.
    """

    carry: Carry  # [M, ...]: before the first step of the item
    obs: Observation
    first: jax.Array
    action: Action
    log_prob: jax.Array  # under the policy that acted
    policy: Any  # the action distributions before the first pass
    value: jax.Array  # before the first pass
    targets: Targets


class PolicyLoss(Protocol):
    """PPO's loss of a policy, for every step."""

    def __call__(self, ratio: jax.Array, advantage: jax.Array, kl: jax.Array, *adapted: jax.Array) -> jax.Array:
        """The loss ``[M, T]``.

        Args:
            ratio: ``[M, T]``, the action's probability now over its probability when it was sampled.
            advantage: ``[M, T]``.
            kl: ``[M, T]``, divergence from the policy before the first pass, in nats.
            *adapted: coefficients that the update rule keeps.
        """
        ...


def ppo_clip(
    network: Network,
    config: Config,
    estimator: TargetEstimator,
    *,
    clip_range: float | jax.Array,
    clip_values: bool,
    normalize_advantages: bool,
    axis_name: AxisName,
) -> Objective:
    """PPO's clipped surrogate (Schulman et al. 2017, arXiv 1707.06347, equation 7), for `updates.minibatches`.

    ``mean over steps of: - min(rho A, clip(rho, 1 - clip_range, 1 + clip_range) A) - ...``, with the other terms of
    `objectives.policy_gradient` and ``rho = pi(a|s) / pi_old(a|s)``. At ``rho = 1`` the gradients are those of
    `objectives.policy_gradient`.

    Args:
        network: the `Network`.
        config: settings of the returns and of the weights in the loss.
        estimator: turns rewards into targets: `extrinsic`, or a bonus's.
        clip_range: distance from 1 to which the probability ratio is clipped.
        clip_values: whether moving a value by more than ``clip_range`` gains nothing.
        normalize_advantages: whether advantages are normalized over each minibatch, see `normalized`.
        axis_name: name of the axis of devices that share the environments, or None.
    """

    def policy_loss(ratio: jax.Array, advantage: jax.Array, kl: jax.Array, *adapted: jax.Array) -> jax.Array:
        del kl, adapted
        clipped = jnp.clip(ratio, 1 - clip_range, 1 + clip_range)
        return -jnp.minimum(ratio * advantage, clipped * advantage)

    return _ppo(
        network,
        config,
        estimator,
        policy_loss,
        clip_range=clip_range,
        clip_values=clip_values,
        normalize_advantages=normalize_advantages,
        axis_name=axis_name,
    )


def ppo_kl(
    network: Network,
    config: Config,
    estimator: TargetEstimator,
    *,
    clip_range: float | jax.Array,
    clip_values: bool,
    normalize_advantages: bool,
    axis_name: AxisName,
) -> Objective:
    """PPO's penalised surrogate (Schulman et al. 2017, arXiv 1707.06347, equation 8), for `updates.minibatches`.

    ``mean over steps of: - rho A + coefficient KL(pi_old || pi) - ...``. The coefficient is the third argument of the
    loss; the update rule keeps and adapts it. Arguments are those of `ppo_clip`; ``clip_range`` only matters to the
    values, and to the reported ``clip_fraction``.
    """

    def policy_loss(ratio: jax.Array, advantage: jax.Array, kl: jax.Array, *adapted: jax.Array) -> jax.Array:
        (coefficient,) = adapted
        return coefficient * kl - ratio * advantage

    return _ppo(
        network,
        config,
        estimator,
        policy_loss,
        clip_range=clip_range,
        clip_values=clip_values,
        normalize_advantages=normalize_advantages,
        axis_name=axis_name,
    )


def normalized(advantage: jax.Array, axis_name: AxisName = None) -> jax.Array:
    """Advantages shifted and scaled to mean 0 and standard deviation 1 over a minibatch, of all devices together.

    Equal advantages, and so the only one of a minibatch of a single step, become 0, from which the policy learns
    nothing: a minibatch needs at least two steps. Equal up to rounding is not enough: what is left of their differences
    is scaled up like any other.
    """
    difference = advantage - collectives.mean(advantage.mean(), axis_name)
    deviation = jnp.sqrt(collectives.mean(jnp.square(difference).mean(), axis_name))
    return difference / (deviation + 1e-8)


def _ppo(
    network: Network,
    config: Config,
    estimator: TargetEstimator,
    policy_loss: PolicyLoss,
    *,
    clip_range: float | jax.Array,
    clip_values: bool,
    normalize_advantages: bool,
    axis_name: AxisName,
) -> Objective:
    """PPO with this loss of the policy.

    It reports what `objectives.policy_gradient` does, ``kl`` (divergence from the policy before the first pass, nats)
    and ``clip_fraction`` (share of the steps whose probability ratio lies outside of the clip range).
    """

    def loss(params: Params, batch: MinibatchItems, *adapted: jax.Array) -> tuple[jax.Array, Scalars]:
        _, outputs = network.unroll(params, batch.carry, batch.obs, batch.first)
        ratio = returns.importance_weight(outputs.policy.log_prob(batch.action) - batch.log_prob)
        kl = batch.policy.kl(outputs.policy)
        advantage = batch.targets.advantage
        if normalize_advantages:
            advantage = normalized(advantage, axis_name)
        error = jnp.square(outputs.value - batch.targets.value)
        if clip_values:
            change = jnp.clip(outputs.value - batch.value, -clip_range, clip_range)
            error = jnp.maximum(error, jnp.square(batch.value + change - batch.targets.value))
        terms = {
            "policy_loss": policy_loss(ratio, advantage, kl, *adapted).mean(),
            "value_loss": sum_of_values(error, ratio).mean(),
            "entropy": outputs.policy.entropy().mean(),
            "value_mean": outputs.value.mean(),
            "kl": kl.mean(),
            "clip_fraction": (jnp.abs(ratio - 1) > clip_range).mean(dtype=jnp.float32),
        }
        fit = explained_variance(outputs.value, batch.targets.value, jnp.ones_like(ratio))
        return weighted(terms, config), terms | {"explained_variance": fit}

    def prepare(params: Params, trajectories: Trajectory) -> MinibatchItems:
        return make_items(network, config, estimator, params, trajectories)

    return Objective(prepare, loss)


def make_items(
    network: Network, config: Config, estimator: TargetEstimator, params: Params, trajectories: Trajectory
) -> MinibatchItems:
    """The items of the minibatches of trajectories ``[B, T]``, with targets at ``params``."""
    _, outputs = network.unroll(params, trajectories.carry, trajectories.obs, trajectories.first)

    def estimate(**block: jax.Array) -> Targets:
        return returns.gae(**block, gae_lambda=config.gae_lambda)

    def targets_of_one(value: jax.Array, trajectory: Trajectory) -> Targets:
        return estimator.targets(estimate, value, estimator.bootstrap(params, trajectory), trajectory)

    items = MinibatchItems(
        carry=trajectories.carry,
        obs=trajectories.obs,
        first=trajectories.first,
        action=trajectories.action,
        log_prob=trajectories.log_prob,
        policy=outputs.policy,
        value=outputs.value,
        targets=jax.vmap(targets_of_one)(outputs.value, trajectories),
    )
    return split_steps(network, items)
