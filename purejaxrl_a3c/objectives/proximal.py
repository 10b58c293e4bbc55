"""PPO's objectives (Schulman et al. 2017, arXiv 1707.06347), which allow several passes over a rollout."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from purejaxrl_a3c.backend import collectives
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.objectives import returns, stale
from purejaxrl_a3c.objectives.config import Config
from purejaxrl_a3c.objectives.groups import GroupConfig, first_return, group_advantages, in_first_episode
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

    See `split_steps` for what an item is; some corrections need whole rollouts.
    """

    carry: Carry  # [M, ...]: before the first step of the item
    obs: Observation
    first: jax.Array
    action: Action
    log_prob: jax.Array  # under the policy that acted
    policy: Any  # the action distributions before the first pass
    value: jax.Array  # before the first pass
    targets: Targets
    log_prox: Any = ()  # log-probability of the action before the first pass, where the loss needs it
    staleness: Any = ()  # int32: that of the policy that acted, where the loss needs it
    weight: Any = ()  # float32: 0 for steps that are not learned from, of mean 1; (): all are


class PolicyLoss(Protocol):
    """PPO's loss of a policy, for every step."""

    def __call__(self, steps: stale.Steps, kl: jax.Array, *adapted: jax.Array) -> jax.Array:
        """The loss ``[M, T]``.

        Args:
            steps: the `stale.Steps`.
            kl: ``[M, T]``, divergence from the policy before the first pass, in nats.
            *adapted: coefficients that the update rule keeps.
        """
        ...


class Settings(NamedTuple):
    """What both of PPO's losses share."""

    clip: stale.Clip  # of the probability ratio
    clip_values: bool  # whether moving a value by more than ``clip.below`` gains nothing
    normalize_advantages: bool  # over each minibatch, see `normalized`
    axis_name: AxisName = None  # of the devices that share the environments, or None
    correcting: stale.StaleConfig = stale.StaleConfig()  # for stale rollouts; only of the clipped surrogate
    group: GroupConfig = GroupConfig()  # of episodes whose returns are the baseline


def ppo_clip(network: Network, config: Config, estimator: TargetEstimator, *, settings: Settings) -> Objective:
    """PPO's clipped surrogate (Schulman et al. 2017, arXiv 1707.06347, equation 7), for `updates.in_passes`.

    ``mean over steps of: - min(rho A, clip(rho, 1 - clip_range, 1 + clip_range) A) - ...``, with the other terms of
    `objectives.policy_gradient` and ``rho = pi(a|s) / pi_old(a|s)``. At ``rho = 1`` the gradients are those of
    `objectives.policy_gradient`. A correction for stale rollouts replaces the first term, see `stale`.

    Args:
        network: the `Network`.
        config: settings of the returns and of the weights in the loss.
        estimator: turns rewards into targets: `extrinsic`, or a bonus's.
        settings: the `Settings`.
    """
    correcting = settings.correcting
    correction = stale.CORRECTIONS[correcting.loss_correction]

    def policy_loss(steps: stale.Steps, kl: jax.Array, *adapted: jax.Array) -> jax.Array:
        del kl, adapted
        return correction.loss(steps, settings.clip, correcting)

    return _ppo(network, config, estimator, policy_loss, settings, correction)


def ppo_kl(network: Network, config: Config, estimator: TargetEstimator, *, settings: Settings) -> Objective:
    """PPO's penalised surrogate (Schulman et al. 2017, arXiv 1707.06347, equation 8), for `updates.in_passes`.

    ``mean over steps of: - rho A + coefficient KL(pi_old || pi) - ...``. The coefficient is the third argument of the
    loss; the update rule keeps and adapts it. Arguments are those of `ppo_clip`; the clip only matters to the values,
    and to the reported ``clip_fraction``.
    """

    def policy_loss(steps: stale.Steps, kl: jax.Array, *adapted: jax.Array) -> jax.Array:
        (coefficient,) = adapted
        return coefficient * kl - returns.importance_weight(steps.log_theta - steps.log_mu) * steps.advantage

    return _ppo(network, config, estimator, policy_loss, settings, stale.CORRECTIONS["none"])


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
    settings: Settings,
    correction: stale.Correction,
) -> Objective:
    """PPO with this loss of the policy.

    It reports what `objectives.policy_gradient` does, ``kl`` (divergence from the policy before the first pass, nats),
    ``clip_fraction`` (share of the steps whose probability ratio lies outside of the clip range), ``log_ratio_square``
    (mean square of the ratio's logarithm) and `stale.effective_sample_size`.
    """
    grouped = settings.group.group_size > 0
    # Without a value function to learn.
    config = replace(config, value_coefficient=0.0) if grouped else config

    def loss(params: Params, batch: MinibatchItems, *adapted: jax.Array) -> tuple[jax.Array, Scalars]:
        def mean(x: jax.Array) -> jax.Array:
            return (batch.weight * x).mean() if grouped else x.mean(dtype=jnp.float32)

        _, outputs = network.unroll(params, batch.carry, batch.obs, batch.first)
        log_theta = outputs.policy.log_prob(batch.action)
        log_ratio = log_theta - batch.log_prob
        ratio = returns.importance_weight(log_ratio)
        kl = batch.policy.kl(outputs.policy)
        advantage = batch.targets.advantage
        if settings.normalize_advantages and not grouped:
            advantage = normalized(advantage, settings.axis_name)
        error = jnp.square(outputs.value - batch.targets.value)
        if settings.clip_values:
            change = jnp.clip(outputs.value - batch.value, -settings.clip.below, settings.clip.below)
            error = jnp.maximum(error, jnp.square(batch.value + change - batch.targets.value))
        counts: Any = batch.weight > 0 if grouped else ()
        steps = stale.Steps(batch.log_prob, log_theta, advantage, batch.log_prox, batch.staleness, counts)
        terms = {
            "policy_loss": mean(policy_loss(steps, kl, *adapted)),
            "value_loss": mean(sum_of_values(error, ratio)),
            "entropy": mean(outputs.policy.entropy()),
            "value_mean": mean(outputs.value),
            "kl": mean(kl),
            "clip_fraction": mean(settings.clip(ratio) != ratio),
            "log_ratio_square": mean(jnp.square(log_ratio)),
            "effective_sample_size": stale.effective_sample_size(log_ratio, counts if grouped else None),
        }
        weight = counts.astype(jnp.float32) if grouped else jnp.ones_like(ratio)
        fit = explained_variance(outputs.value, batch.targets.value, weight)
        return weighted(terms, config), terms | {"explained_variance": fit}

    def prepare(params: Params, trajectories: Trajectory) -> MinibatchItems:
        items = make_items(network, config, estimator, params, trajectories, correction.vtrace)
        if grouped:
            items = compare_in_groups(items, config, settings, trajectories)
        if "log_prox" not in correction.needs:
            items = items._replace(log_prox=())
        if "staleness" not in correction.needs:
            items = items._replace(staleness=())
        return items if correction.whole_rollouts else split_steps(network, items)

    return Objective(prepare, loss)


def compare_in_groups(
    items: MinibatchItems, config: Config, settings: Settings, trajectories: Trajectory
) -> MinibatchItems:
    """Items of trajectories ``[B, T]`` whose advantages are those over their groups, see `GroupConfig`."""
    found = jax.vmap(lambda trajectory: first_return(trajectory, config.gamma))(trajectories)
    advantage = group_advantages(found, settings.group.group_size, settings.group.group_baseline)
    shape = items.log_prob.shape
    targets = Targets(*(jnp.broadcast_to(x[:, None], shape) for x in (found, advantage)))
    counts = jax.vmap(in_first_episode)(trajectories).astype(jnp.float32)
    return items._replace(targets=targets, weight=counts / collectives.mean(counts.mean(), settings.axis_name))


def make_items(
    network: Network,
    config: Config,
    estimator: TargetEstimator,
    params: Params,
    trajectories: Trajectory,
    uses_vtrace: bool,
) -> MinibatchItems:
    """Everything about trajectories ``[B, T]`` that is fixed for all passes, with targets at ``params``."""
    _, outputs = network.unroll(params, trajectories.carry, trajectories.obs, trajectories.first)
    log_prox = outputs.policy.log_prob(trajectories.action)

    def targets_of_one(value: jax.Array, log_rho: jax.Array, trajectory: Trajectory) -> Targets:
        def estimate(**block: jax.Array) -> Targets:
            if uses_vtrace:
                return returns.unweighted_vtrace(**block, log_rho=log_rho, gae_lambda=config.gae_lambda)
            return returns.gae(**block, gae_lambda=config.gae_lambda)

        return estimator.targets(estimate, value, estimator.bootstrap(params, trajectory), trajectory)

    return MinibatchItems(
        carry=trajectories.carry,
        obs=trajectories.obs,
        first=trajectories.first,
        action=trajectories.action,
        log_prob=trajectories.log_prob,
        policy=outputs.policy,
        value=outputs.value,
        targets=jax.vmap(targets_of_one)(outputs.value, log_prox - trajectories.log_prob, trajectories),
        log_prox=log_prox,
        staleness=jnp.zeros(log_prox.shape, jnp.int32) if trajectories.staleness is None else trajectories.staleness,
    )
