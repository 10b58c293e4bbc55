"""PPO's objectives (Schulman et al. 2017, arXiv 1707.06347), to make several passes over a rollout."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.backend import collectives
from purejaxrl_a3c.objectives import returns
from purejaxrl_a3c.objectives.policy_gradient import sum_of_values, weighted
from purejaxrl_a3c.objectives.targets import extrinsic
from purejaxrl_a3c.types import Carry, Objective, Observation, Targets


class Pieces(NamedTuple):
    """What PPO learns from, fixed for the passes over a rollout: ``M`` pieces that a minibatch does not cut.

    A piece is one environment's whole rollout, ``[M, T]`` with ``M = B``, of which a recurrent network needs every
    step in order; without memory it is a single step, ``[M, 1]`` with ``M = B T``.
    """

    carry: Carry  # [M, ...]
    obs: Observation
    first: jax.Array
    action: jax.Array
    log_prob: jax.Array  # under the policy that acted
    policy: Any  # the distributions as they were before the first pass
    value: jax.Array  # likewise
    targets: Targets


def _pieces(network, config, make_credit):
    """PPO's ``prepare``."""
    credit = make_credit(network, config)
    has_memory = bool(jax.tree.leaves(network.carry()))

    def estimate(**block):
        return returns.gae(**block, lambda_=config.lambda_)

    def prepare(params, trajectories):
        _, outputs = network.unroll(params, trajectories.carry, trajectories.obs, trajectories.first)

        def targets_of_one(value, trajectory):
            return credit.targets(estimate, value, credit.bootstrap(params, trajectory), trajectory)

        pieces = Pieces(
            carry=trajectories.carry,
            obs=trajectories.obs,
            first=trajectories.first,
            action=trajectories.action,
            log_prob=trajectories.log_prob,
            policy=outputs.policy,
            value=outputs.value,
            targets=jax.vmap(targets_of_one)(outputs.value, trajectories),
        )
        return pieces if has_memory else jax.tree.map(lambda x: x.reshape(-1, 1, *x.shape[2:]), pieces)

    return prepare


def _ppo(network, config, make_credit, axis_name, policy_loss):
    """PPO with ``policy_loss(ratio, advantage, kl, *adapted)``, each of them ``[M, T]``, for the policy's part."""

    def loss(params, pieces, *adapted):
        _, outputs = network.unroll(params, pieces.carry, pieces.obs, pieces.first)
        ratio = jnp.exp(outputs.policy.log_prob(pieces.action) - pieces.log_prob)
        kl = pieces.policy.kl(outputs.policy)
        advantage = pieces.targets.advantage
        if config.normalize_advantages:
            advantage = standardised(advantage, axis_name)
        error = jnp.square(outputs.value - pieces.targets.value)
        if config.clip_values:
            change = jnp.clip(outputs.value - pieces.value, -config.clip_range, config.clip_range)
            error = jnp.maximum(error, jnp.square(pieces.value + change - pieces.targets.value))
        terms = {
            "policy_loss": policy_loss(ratio, advantage, kl, *adapted).mean(),
            "value_loss": sum_of_values(error, ratio).mean(),
            "entropy": outputs.policy.entropy().mean(),
            "value_mean": outputs.value.mean(),
            "kl": kl.mean(),
        }
        return weighted(terms, config), terms

    return Objective(_pieces(network, config, make_credit), loss)


def standardised(advantage, axis_name=None):
    """Mean 0 and deviation 1 over a minibatch, of all devices together."""
    difference = advantage - collectives.mean(advantage.mean(), axis_name)
    deviation = jnp.sqrt(collectives.mean(jnp.square(difference).mean(), axis_name))
    return difference / (deviation + 1e-8)


def ppo_clip(network, config, make_credit=extrinsic, axis_name=None):
    """PPO's clipped surrogate (Schulman et al. 2017, arXiv 1707.06347, equation 7), for `updates.minibatches`.

    ``mean over steps of: - min(rho A, clip(rho, 1 - clip_range, 1 + clip_range) A) - ...``, the rest as in
    `objectives.policy_gradient`, with ``rho = pi(a|s) / pi_old(a|s)``; at ``rho = 1`` the gradients are the same.

    Args:
        network: the `Network`.
        config: any object with what `objectives.policy_gradient` needs; ``clip_range``; ``normalize_advantages``, a
            bool: over each minibatch; and ``clip_values``, a bool: no gain from moving a value by more than that range.
        make_credit: (network, config) -> `Credit`.
        axis_name: of the devices that share the environments out, or None.
    """

    def policy_loss(ratio, advantage, kl):
        del kl
        clipped = jnp.clip(ratio, 1 - config.clip_range, 1 + config.clip_range)
        return -jnp.minimum(ratio * advantage, clipped * advantage)

    return _ppo(network, config, make_credit, axis_name, policy_loss)


def ppo_kl(network, config, make_credit=extrinsic, axis_name=None):
    """PPO's penalised surrogate (Schulman et al. 2017, arXiv 1707.06347, equation 8), for `updates.minibatches`.

    ``mean over steps of: - rho A + coefficient KL(pi_old || pi) - ...``; the loss's third argument is the coefficient,
    which the update rule keeps and adapts. Arguments as of `ppo_clip`.
    """
    return _ppo(
        network, config, make_credit, axis_name, lambda ratio, advantage, kl, beta: beta * kl - ratio * advantage
    )
