"""Q-learning from rollouts, without replay: asynchronous one-step and n-step Q-learning, SARSA, and PQN."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.networks.distributions import EpsilonGreedy
from purejaxrl_a3c.objectives.items import split_steps
from purejaxrl_a3c.objectives.reports import explained_variance
from purejaxrl_a3c.objectives.targets import bootstrap_values, successor_values
from purejaxrl_a3c.objectives.temporal_difference import chosen
from purejaxrl_a3c.types import (
    Action,
    Carry,
    Network,
    Objective,
    Observation,
    Outputs,
    Params,
    ReturnEstimator,
    Scalars,
    TargetEstimator,
    Trajectory,
)


class Bootstrap(NamedTuple):
    """Which value of an observation a return bootstraps from, by the target network."""

    of_step: Callable[[EpsilonGreedy, EpsilonGreedy, Action], jax.Array]
    """(Q-values of the target network, those of the network that acted, the action taken), all ``[...]`` -> ``[...]``:
    of an observation that the rollout continues with."""
    of_end: Callable[[EpsilonGreedy, EpsilonGreedy], jax.Array]
    """(Q-values of the target network, the policy that acted) -> ``[...]``: of an observation in which the rollout
    holds no action, at its end and where an episode was truncated."""


class QItems(NamedTuple):
    """What Q-values are learned from: ``M`` items that a minibatch never cuts, see `split_steps`."""

    carry: Carry  # [M, ...]: before the first step of the item
    obs: Observation
    first: jax.Array
    action: Action
    target: jax.Array  # float32


def greedy() -> Bootstrap:
    """Q-learning: ``max over a of Q_target(s, a)`` (Mnih et al. 2016, arXiv 1602.01783, algorithms 1 and S2)."""
    return Bootstrap(lambda target, acting, action: target.q.max(-1), lambda target, acting: target.q.max(-1))


def double() -> Bootstrap:
    """Double Q-learning: ``Q_target(s, argmax over a of Q(s, a))`` (van Hasselt et al. 2016, arXiv 1509.06461).

    ``Q`` is that of the parameters that acted, at which the gradient is taken too.
    """
    return Bootstrap(
        lambda target, acting, action: chosen(target.q, acting.mode()),
        lambda target, acting: chosen(target.q, acting.mode()),
    )


def sarsa() -> Bootstrap:
    """SARSA: ``Q_target(s, a)`` of the action that was taken (Mnih et al. 2016, arXiv 1602.01783, section 4).

    Where the rollout holds no action, at its end and where an episode was truncated, it is the mean of ``Q_target``
    over the actions of the policy that acted, exploration included.
    """
    return Bootstrap(
        lambda target, acting, action: chosen(target.q, action),
        lambda target, acting: jnp.sum(acting.probs * target.q, axis=-1),
    )


def q_learning(network: Network, estimate: ReturnEstimator, estimator: TargetEstimator) -> Objective:
    """Half of the mean squared error of the Q-values of the actions taken: ``mean over steps of (Q(s, a) - G)^2 / 2``.

    ``G`` are returns, computed once a rollout.

    - Asynchronous n-step Q-learning (Mnih et al. 2016, arXiv 1602.01783, algorithm S2) estimates them by
      `returns.n_step`, from the values of a target network.
    - PQN (Gallici et al. 2024, arXiv 2407.04811) estimates them by `returns.gae`, from the network's own values. The
      value of an observation is its largest Q-value, so these are the returns of Peng's Q(lambda):
      ``G_t = r_t + gamma [(1 - lambda) max_a Q(s_{t+1}, a) + lambda G_{t+1}]``.

    Mnih et al. sum over the steps of a rollout, Gallici et al. take the mean. This is the mean, for the reasons that
    `policy_gradient` has. It reports ``value_loss``, the mean of the squared errors; ``value_mean``, that of the
    largest Q-values; and `explained_variance`. It serves `updates.in_passes` as well as the other rules.

    Args:
        network: a `Network` of Q-values.
        estimate: the returns.
        estimator: turns rewards into targets: `extrinsic`, or a target network's.
    """

    def prepare(params: Params, trajectories: Trajectory) -> QItems:
        _, outputs = network.unroll(params, trajectories.carry, trajectories.obs, trajectories.first)

        def target_of_one(value: jax.Array, trajectory: Trajectory) -> jax.Array:
            return estimator.targets(estimate, value, estimator.bootstrap(params, trajectory), trajectory).value

        items = QItems(
            carry=trajectories.carry,
            obs=trajectories.obs,
            first=trajectories.first,
            action=trajectories.action,
            target=jax.vmap(target_of_one)(outputs.value, trajectories),
        )
        return split_steps(network, items)

    def loss(params: Params, batch: QItems, *adapted: jax.Array) -> tuple[jax.Array, Scalars]:
        del adapted  # there are none
        _, outputs = network.unroll(params, batch.carry, batch.obs, batch.first)
        value = chosen(outputs.policy.q, batch.action)
        error = jnp.square(value - batch.target).mean()
        fit = explained_variance(value, batch.target, jnp.ones_like(value))
        return error / 2, {"value_loss": error, "value_mean": outputs.value.mean(), "explained_variance": fit}

    return Objective(prepare, loss)


def next_values(
    network: Network,
    bootstrap: Bootstrap,
    behave: Callable[[Any, Any], Any],
    target: Params,
    acting: Params,
    level: Any,
    trajectories: Trajectory,
) -> jax.Array:
    """The values of every step's true successor by a target network, float32 ``[B, T]``.

    The memory of a recurrent target network begins with what the network that acted remembered at the start of the
    rollout. Successors that the rollout does not hold are valued with what the network that acted remembered there,
    before any reset.

    Args:
        network: a `Network` of Q-values.
        bootstrap: which value a return bootstraps from.
        behave: that of the `loops.Exploration`.
        target: parameters of the target network.
        acting: the parameters that acted.
        level: how much each environment explored, leaves ``[B]``.
        trajectories: of one worker, ``[B, T]``.
    """

    def policies(params: Params) -> EpsilonGreedy:
        _, outputs = network.unroll(params, trajectories.carry, trajectories.obs, trajectories.first)
        policy: EpsilonGreedy = outputs.policy
        return policy

    def of_ends(level: Any, trajectory: Trajectory) -> jax.Array:
        def step(
            params: tuple[Params, Params], carry: Carry, obs: Observation, first: jax.Array
        ) -> tuple[Carry, Outputs]:
            _, by_target = network.step(params[0], carry, obs, first)
            carry, by_acting = network.step(params[1], carry, obs, first)
            value = bootstrap.of_end(by_target.policy, behave(by_acting.policy, level))
            return carry, by_target._replace(value=value)

        return bootstrap_values(network._replace(step=step), (target, acting), trajectory)

    value = bootstrap.of_step(policies(target), policies(acting), trajectories.action)
    last = trajectories.terminated | trajectories.truncated
    return jax.vmap(successor_values)(value, jax.vmap(of_ends)(level, trajectories), last)
