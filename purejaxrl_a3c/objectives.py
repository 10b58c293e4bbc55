"""What to minimise. Each function returns an `Objective` over the trajectories of ``B`` environments.

Their last argument, ``make_credit``, says which rewards count and how: `extrinsic`, or what a bonus makes of it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c import returns
from purejaxrl_a3c.types import Objective, Targets


class Credit(NamedTuple):
    """How the rewards of one trajectory become targets, by any estimator of `returns`."""

    bootstrap: Callable[..., Any]
    """(params, trajectory) -> the values that ``targets`` needs and the block does not hold."""
    targets: Callable[..., Targets]
    """(estimate, value [T], bootstrap, trajectory) -> `Targets`; ``estimate`` takes the arguments that all functions
    of `returns` share, by name."""


def bootstrap_values(network, params, trajectory):
    """V of the true successor, ``[T]``, where the block itself does not hold it, and 0 elsewhere.

    That is the case at truncated steps, whose successor the reset hides, and at the end of the block. The
    values are computed one step of each environment at a time, latest first, for as long as some environment
    still needs one: a block without a truncation costs one evaluation an environment, not ``T``.
    """
    needed = trajectory.truncated.at[-1].set(~trajectory.terminated[-1])

    def evaluate_latest(loop):
        needed, value = loop
        t = needed.shape[0] - 1 - jnp.argmax(needed[::-1])
        # Not first: what is valued is the end of the old episode, with the memory of that episode.
        carry, final_obs = jax.tree.map(lambda x: x[t], (trajectory.next_carry, trajectory.final_obs))
        _, outputs = network.step(params, carry, final_obs, jnp.bool_(False))
        return needed.at[t].set(False), value.at[t].set(outputs.value)

    loop = (needed, jnp.zeros_like(trajectory.reward))
    _, value = jax.lax.while_loop(lambda loop: loop[0].any(), evaluate_latest, loop)
    return value


def successor_values(value, bootstrap, last):
    """V of every step's true successor, ``[T]``, from ``value [T]`` and `bootstrap_values`."""
    inside = ~last.at[-1].set(True)
    return jnp.where(inside, jnp.roll(value, -1), bootstrap)


def extrinsic(network, config):
    """Credit for the environment's rewards, which end with the episode.

    Args:
        network: the `Network`.
        config: any object with ``gamma``, the discount factor a step.

    Returns:
        A `Credit`.
    """

    def bootstrap(params, trajectory):
        return bootstrap_values(network, params, trajectory)

    def targets(estimate, value, bootstrap, trajectory):
        last = trajectory.terminated | trajectory.truncated
        return estimate(
            value=value,
            next_value=successor_values(value, bootstrap, last),
            reward=trajectory.reward,
            discount=config.gamma * (1.0 - trajectory.terminated),
            last=last,
        )

    return Credit(bootstrap, targets)


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
    credit = make_credit(network, config)

    def prepare(params, trajectories):
        return trajectories, jax.vmap(lambda trajectory: credit.bootstrap(params, trajectory))(trajectories)

    def estimate(**block):
        return returns.gae(**block, lambda_=config.lambda_)

    def terms_of_one(outputs, trajectory, bootstrap):
        targets = credit.targets(estimate, outputs.value, bootstrap, trajectory)
        return {
            "policy_loss": -outputs.policy.log_prob(trajectory.action) * targets.advantage,
            "value_loss": sum_of_values(jnp.square(outputs.value - targets.value), trajectory.reward),
            "entropy": outputs.policy.entropy(),
            "value_mean": outputs.value,
        }

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
