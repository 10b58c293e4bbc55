"""Target networks: earlier parameters, whose values returns bootstrap from (Mnih et al. 2015)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from purejaxrl_a3c.objectives.q_learning import Bootstrap, next_values
from purejaxrl_a3c.objectives.targets import extrinsic, from_next_values
from purejaxrl_a3c.types import Network, Params, TargetEstimator, TargetNetwork, Trajectory


def follow(slow: Params, fast: Params, rate: float | jax.Array, where: jax.Array | bool) -> Params:
    """A target network after it has moved towards the learned parameters, or has not.

    Args:
        slow: its parameters.
        fast: the learned ones, a tree of the same structure.
        rate: share of the way; 1 makes both equal, exactly.
        where: bool ``[]``, whether it moves.
    """

    def move(slow: jax.Array, fast: jax.Array) -> jax.Array:
        # Not slow + rate (fast - slow), which rounding would put beside the parameters where the rate is 1.
        moved = (1 - rate) * slow + rate * fast
        return moved if where is True else jnp.where(where, moved, slow)

    return jax.tree.map(move, slow, fast)


def no_target_network() -> TargetNetwork:
    """Returns bootstrap from the values of the network that learns."""
    return TargetNetwork(
        init=lambda params: (),
        annotate=lambda state, params, level, trajectories: trajectories,
        update=lambda state, params, iterations: state,
        estimator=extrinsic,
    )


def target_network(
    network: Network,
    behave: Callable[[Any, Any], Any],
    *,
    bootstrap: Bootstrap,
    update_every: int,
    update_rate: float | jax.Array,
    updates_per_iteration: int,
) -> TargetNetwork:
    """A copy of the parameters that follows them now and then, as in DQN and asynchronous Q-learning.

    Its state is the copy, which all workers use and every device has. It follows at the end of an iteration in which
    the number of updates reached or passed a multiple of ``update_every``.

    Args:
        network: a `Network` of Q-values.
        behave: that of the `loops.Exploration`.
        bootstrap: which value a return bootstraps from.
        update_every: updates of the learned parameters from one time to the next, an int >= 1.
        update_rate: share of the way that the copy moves towards the learned parameters; 1 makes them equal.
        updates_per_iteration: updates of the learned parameters in an iteration.
    """

    def annotate(state: Params, acting: Params, level: Any, trajectories: Trajectory) -> Trajectory:
        def of_worker(acting: Params, level: Any, trajectories: Trajectory) -> jax.Array:
            return next_values(network, bootstrap, behave, state, acting, level, trajectories)

        return trajectories._replace(next_value=jax.vmap(of_worker)(acting, level, trajectories))

    def update(state: Params, params: Params, iterations: jax.Array) -> Params:
        updates = iterations * updates_per_iteration
        is_due = updates // update_every > (updates - updates_per_iteration) // update_every

        return follow(state, params, update_rate, is_due)

    def estimator(network: Network, gamma: float | jax.Array) -> TargetEstimator:
        del network  # the trajectories hold the values
        return from_next_values(gamma)

    return TargetNetwork(init=lambda params: params, annotate=annotate, update=update, estimator=estimator)
