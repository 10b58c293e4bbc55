"""What to minimise. Each function returns an `Objective` over the trajectories of ``B`` environments.

Their last argument, ``make_credit``, says which rewards count and how: `extrinsic`, or what a bonus makes of it.
"""

from collections.abc import Callable
from functools import partial
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

    def estimate(log_rho, **block):
        del log_rho  # on-policy: 0
        return returns.gae(**block, lambda_=config.lambda_)

    return _actor_critic(network, config, make_credit, estimate, lambda log_prob: log_prob)


def _actor_critic(network, config, make_credit, estimate, logarithm, counts=None):
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


def off_policy_gradient(network, config, make_credit=extrinsic):
    """IMPALA's loss (Espeholt et al. 2018, arXiv 1802.01561, sections 4.1, 4.2 and 5.2.2), for stale trajectories.

    As `policy_gradient`, at parameters that are newer than those that acted, with one of the paper's corrections:

    - ``vtrace``: V-trace targets and advantages;
    - ``one_step``: advantages times ``min(clip_rho, rho)``, uncorrected value targets: V-trace without traces;
    - ``epsilon``: ``log(pi + 1e-6)`` instead of ``log pi``, which bounds its gradient; nothing is corrected;
    - ``none``.

    Without staleness, and with clips of at least 1, all but ``epsilon`` are `policy_gradient`.

    Args:
        network: the `Network`.
        config: any object with what `policy_gradient` needs; ``off_policy``, the name of the correction; ``clip_rho``
            and ``clip_c`` as in `returns.vtrace`.
        make_credit: (network, config) -> `Credit`.
    """

    def vtrace(log_rho, **block):
        clips = {"clip_rho": config.clip_rho, "clip_c": config.clip_c}
        return returns.vtrace(**block, log_rho=log_rho, lambda_=config.lambda_, **clips)

    def uncorrected(log_rho, **block):
        del log_rho
        return returns.gae(**block, lambda_=config.lambda_)

    def one_step(log_rho, **block):
        targets = uncorrected(log_rho, **block)
        return targets._replace(advantage=jnp.minimum(config.clip_rho, jnp.exp(log_rho)) * targets.advantage)

    def unchanged(log_prob):
        return log_prob

    def bounded(log_prob):
        return jnp.logaddexp(log_prob, jnp.log(1e-6))

    corrections = {
        "vtrace": (vtrace, unchanged),
        "one_step": (one_step, unchanged),
        "epsilon": (uncorrected, bounded),
        "none": (uncorrected, unchanged),
    }
    return _actor_critic(network, config, make_credit, *corrections[config.off_policy])


def reinforce(network, config, make_credit=extrinsic):
    """REINFORCE (Williams 1992): Monte-Carlo returns of whole episodes, with a baseline or without.

    ``mean over steps of: [the step counts] (- log pi(a|s) A + value_coefficient (V - G)^2) - entropy_coefficient H``

    ``A`` is ``G - V`` with the baseline ``value``, and the return ``G`` itself without one (``none``), where V learns
    nothing. A truncated episode would have gone on: with a baseline its return goes on too, by the value of its last
    observation; without one there is nothing to go on with, and the return ends with the reward at the cut.
    The factor ``gamma^t`` of the gradient of the discounted return is left out, as is usual.

    Args:
        network: the `Network`.
        config: any object with ``gamma``, ``entropy_coefficient`` and ``value_coefficient`` as of `policy_gradient`;
            ``baseline``, one of `BASELINES`; and ``longest_episode``, see `in_a_whole_episode`.
        make_credit: (network, config) -> `Credit`.
    """

    def with_value(log_rho, **block):
        del log_rho
        return returns.gae(**block, lambda_=1.0)

    def without(log_rho, *, value, next_value, **block):
        del log_rho
        zeros = jnp.zeros_like(value)
        return Targets(jax.lax.stop_gradient(value), returns.gae(zeros, zeros, **block, lambda_=1.0).advantage)

    def counts(trajectory):
        return in_a_whole_episode(trajectory, config.longest_episode)

    estimate = {"value": with_value, "none": without}[config.baseline]
    return _actor_critic(network, config, make_credit, estimate, lambda log_prob: log_prob, counts)


BASELINES = ("value", "none")
"""The baselines of `reinforce`."""


def in_a_whole_episode(trajectory, longest):
    """Which steps count for Monte-Carlo returns, bool ``[T]``: the block must hold their whole episode.

    That alone would prefer short episodes, which fit into a block more often. So an episode counts only if it starts
    early enough that even one of ``longest`` steps would end in the block. Whether it counts then depends on when it
    starts and not on how long it will be: nothing is preferred, as long as no episode is longer than ``longest``.
    """
    t = jnp.arange(trajectory.first.shape[0])
    start = jax.lax.cummax(jnp.where(trajectory.first, t, -1))
    ends = jax.lax.cummax(jnp.where(trajectory.terminated | trajectory.truncated, t, -1), reverse=True)
    return (start >= 0) & (start <= t.size - longest) & (ends >= t)


OFF_POLICY = ("vtrace", "one_step", "epsilon", "none")
"""The corrections of `off_policy_gradient`."""


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
