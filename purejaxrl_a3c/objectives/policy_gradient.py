"""The actor-critic loss of A2C and A3C, and what other losses share with it."""

from functools import partial

import jax
import jax.numpy as jnp

from purejaxrl_a3c.objectives import returns
from purejaxrl_a3c.objectives.targets import extrinsic
from purejaxrl_a3c.types import Objective


def policy_gradient(network, config, make_credit=extrinsic):
    """The advantage actor-critic loss (Mnih et al. 2016, arXiv 1602.01783, algorithm S3).

    ``mean over steps of: - log pi(a|s) A - entropy_coefficient H + value_coefficient (V - R)^2``

    The paper sums over the steps of a rollout; this is the mean, so that the size of a gradient depends on
    neither the length of the rollout nor the number of environments. With RMSProp that matters little, except
    beside its epsilon and the clip.

    Args:
        network: the `Network`.
        config: any object with ``gamma``, the discount factor a step; ``lambda_``, the trace decay of the advantages,
            of which 1 gives the paper's n-step return; ``entropy_coefficient``, the weight of the entropy in nats; and
            ``value_coefficient``, the weight of the squared error of the value.
        make_credit: (network, config) -> `Credit`.
    """

    def estimate(log_rho, **block):
        del log_rho  # on-policy: 0
        return returns.gae(**block, lambda_=config.lambda_)

    return actor_critic(network, config, make_credit, estimate, lambda log_prob: log_prob)


def actor_critic(network, config, make_credit, estimate, logarithm, counts=None):
    """As `policy_gradient`, with another estimator.

    ``estimate(log_rho, **block)`` gives the targets, ``logarithm(log_prob)`` stands for ``log pi(a|s)``, and only where
    ``counts(trajectory)`` is true do policy and value learn.
    """
    credit = make_credit(network, config)

    def prepare(params, trajectories):
        return trajectories, jax.vmap(lambda trajectory: credit.bootstrap(params, trajectory))(trajectories)

    def terms_of_one(outputs, trajectory, bootstrap):
        log_prob = outputs.policy.log_prob(trajectory.action)
        estimator = partial(estimate, jax.lax.stop_gradient(log_prob) - trajectory.log_prob)
        targets = credit.targets(estimator, outputs.value, bootstrap, trajectory)
        terms = {
            "policy_loss": -logarithm(log_prob) * targets.advantage,
            "value_loss": sum_of_values(jnp.square(outputs.value - targets.value), trajectory.reward),
            "entropy": outputs.policy.entropy(),
            "value_mean": outputs.value,
        }
        if counts is None:
            return terms
        # Still divided by the number of all steps: a count that is random itself would bias the mean.
        learned = {name: terms[name] * counts(trajectory) for name in ("policy_loss", "value_loss")}
        return terms | learned

    def loss(params, batch):
        trajectories, bootstrap = batch
        _, outputs = network.unroll(params, trajectories.carry, trajectories.obs, trajectories.first)
        terms = jax.vmap(terms_of_one)(outputs, trajectories, bootstrap)
        terms = {name: term.mean() for name, term in terms.items()}
        return weighted(terms, config), terms

    return Objective(prepare, loss)


def sum_of_values(error, like):
    """Where observations have several values, ``error [..., values]``, their sum, of the shape of ``like [...]``."""
    return error if error.ndim == like.ndim else error.sum(-1)


def weighted(terms, config):
    """The loss: means ``policy_loss``, ``value_loss`` and ``entropy`` with the weights of ``config``."""
    return (
        terms["policy_loss"]
        + config.value_coefficient * terms["value_loss"]
        - config.entropy_coefficient * terms["entropy"]
    )
