"""The actor-critic loss of A2C and A3C, and what other losses share with it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from purejaxrl_a3c.objectives import returns
from purejaxrl_a3c.objectives.config import Config
from purejaxrl_a3c.objectives.reports import explained_variance
from purejaxrl_a3c.types import Network, Objective, Outputs, Params, Scalars, TargetEstimator, Targets, Trajectory


class OffPolicyEstimator(Protocol):
    """A `ReturnEstimator` that is told how far the policy has moved since it acted."""

    def __call__(
        self,
        log_rho: jax.Array,
        *,
        value: jax.Array,
        next_value: jax.Array,
        reward: jax.Array,
        discount: jax.Array,
        last: jax.Array,
    ) -> Targets:
        """Targets ``[T]``; ``log_rho [T]`` is the log of the importance weights, the others are as in `returns`."""
        ...


class Fit(NamedTuple):
    """The arguments of `explained_variance`, of one trajectory."""

    value: jax.Array  # [T], or [T, values]
    target: jax.Array
    weight: jax.Array  # [T]


class LearnedSteps(NamedTuple):
    """From which steps of a trajectory policy and value function learn."""

    policy: jax.Array  # bool [T]
    value: jax.Array  # bool [T]


def policy_gradient(network: Network, config: Config, estimator: TargetEstimator) -> Objective:
    """The advantage actor-critic loss (Mnih et al. 2016, arXiv 1602.01783, algorithm S3).

    ``mean over steps of: - log pi(a|s) A - entropy_coefficient H + value_coefficient (V - R)^2``

    The paper sums over the steps of a rollout. This is the mean, so that the size of a gradient depends neither on the
    length of the rollout nor on the number of environments. Only RMSProp's epsilon and the clip of the gradient's norm
    make a difference between the two.

    Args:
        network: the `Network`.
        config: settings of the returns and of the weights in the loss.
        estimator: turns rewards into targets: `extrinsic`, or a bonus's.
    """

    def estimate(log_rho: jax.Array, **block: jax.Array) -> Targets:
        del log_rho  # on-policy: 0
        return returns.gae(**block, gae_lambda=config.gae_lambda)

    return actor_critic(network, config, estimator, estimate)


def actor_critic(
    network: Network,
    config: Config,
    estimator: TargetEstimator,
    estimate: OffPolicyEstimator,
    *,
    bound: Callable[[jax.Array], jax.Array] = lambda log_prob: log_prob,
    learned: Callable[[Trajectory], LearnedSteps] | None = None,
) -> Objective:
    """The loss of `policy_gradient` with other targets.

    It reports the means over all steps of ``policy_loss``, ``value_loss``, ``entropy`` (nats) and the value
    (``value_mean``), and `explained_variance`.

    Args:
        network: the `Network`.
        config: settings of the weights in the loss.
        estimator: turns rewards into targets.
        estimate: the returns.
        bound: log-probabilities ``[T]`` of the actions to what stands for them in the loss ``[T]``.
        learned: the steps of a trajectory that are learned from; None: all of them.
    """

    def prepare(params: Params, trajectories: Trajectory) -> tuple[Trajectory, Any]:
        return trajectories, jax.vmap(lambda trajectory: estimator.bootstrap(params, trajectory))(trajectories)

    def terms_of_one(outputs: Outputs, trajectory: Trajectory, bootstrap: Any) -> tuple[Scalars, Fit]:
        log_prob = outputs.policy.log_prob(trajectory.action)
        log_rho = jax.lax.stop_gradient(log_prob) - trajectory.log_prob
        targets = estimator.targets(partial(estimate, log_rho), outputs.value, bootstrap, trajectory)
        terms = {
            "policy_loss": -bound(log_prob) * targets.advantage,
            "value_loss": sum_of_values(jnp.square(outputs.value - targets.value), trajectory.reward),
            "entropy": outputs.policy.entropy(),
            "value_mean": outputs.value,
        }
        if learned is None:
            return terms, Fit(outputs.value, targets.value, jnp.ones_like(trajectory.reward))
        # Still divided by the number of all steps: dividing by a number that is random itself would bias the mean.
        steps = learned(trajectory)
        terms["policy_loss"] *= steps.policy
        terms["value_loss"] *= steps.value
        terms["learned_steps"] = steps.policy.astype(jnp.float32)  # the share of steps that the policy learns from
        return terms, Fit(outputs.value, targets.value, steps.value.astype(jnp.float32))

    def loss(params: Params, batch: tuple[Trajectory, Any], *adapted: jax.Array) -> tuple[jax.Array, Scalars]:
        del adapted  # there are none
        trajectories, bootstrap = batch
        _, outputs = network.unroll(params, trajectories.carry, trajectories.obs, trajectories.first)
        terms, fit = jax.vmap(terms_of_one)(outputs, trajectories, bootstrap)
        terms = {name: term.mean() for name, term in terms.items()}
        return weighted(terms, config), terms | {"explained_variance": explained_variance(*fit)}

    return Objective(prepare, loss)


def sum_of_values(error: jax.Array, like: jax.Array) -> jax.Array:
    """``error``, summed over its last axis where an observation has several values.

    Args:
        error: ``[...]``, or ``[..., values]``.
        like: any array ``[...]``.
    """
    return error if error.ndim == like.ndim else error.sum(-1)


def weighted(terms: Scalars, config: Config) -> jax.Array:
    """The loss: the means ``policy_loss``, ``value_loss`` and ``entropy`` with the weights of ``config``."""
    return (
        terms["policy_loss"]
        + config.value_coefficient * terms["value_loss"]
        - config.entropy_coefficient * terms["entropy"]
    )
