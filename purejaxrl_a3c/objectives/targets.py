"""How the rewards of a trajectory become targets of the value function and the policy."""

from typing import Any

import jax
import jax.numpy as jnp

from purejaxrl_a3c.types import Network, Params, ReturnEstimator, TargetEstimator, Targets, Trajectory


def extrinsic(network: Network, gamma: float | jax.Array) -> TargetEstimator:
    """Targets from the environment's rewards, which end with the episode.

    Args:
        network: a `Network` with one value.
        gamma: discount factor for each environment step.

    Returns:
        A `TargetEstimator` whose ``bootstrap`` is `bootstrap_values`.
    """

    def bootstrap(params: Params, trajectory: Trajectory) -> jax.Array:
        return bootstrap_values(network, params, trajectory)

    def targets(estimate: ReturnEstimator, value: jax.Array, bootstrap: jax.Array, trajectory: Trajectory) -> Targets:
        next_value = successor_values(value, bootstrap, trajectory.terminated | trajectory.truncated)
        return estimate_block(estimate, gamma, value, next_value, trajectory)

    return TargetEstimator(bootstrap, targets)


def from_next_values(gamma: float | jax.Array) -> TargetEstimator:
    """As `extrinsic`, of trajectories that hold the values of their successors, see `TargetNetwork`."""

    def bootstrap(params: Params, trajectory: Trajectory) -> tuple[()]:
        del params, trajectory
        return ()

    def targets(estimate: ReturnEstimator, value: jax.Array, bootstrap: Any, trajectory: Trajectory) -> Targets:
        del bootstrap
        return estimate_block(estimate, gamma, value, trajectory.next_value, trajectory)

    return TargetEstimator(bootstrap, targets)


def estimate_block(
    estimate: ReturnEstimator,
    gamma: float | jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    trajectory: Trajectory,
) -> Targets:
    """The targets of one trajectory from the environment's rewards.

    Args:
        estimate: the returns.
        gamma: discount factor for each environment step.
        value: ``[T]``, of the observations acted on.
        next_value: ``[T]``, of every step's true successor.
        trajectory: of one environment, ``[T]``.
    """
    return estimate(
        value=value,
        next_value=next_value,
        reward=trajectory.reward,
        discount=gamma * (1.0 - trajectory.terminated.astype(jnp.float32)),
        last=trajectory.terminated | trajectory.truncated,
    )


def bootstrap_values(network: Network, params: Params, trajectory: Trajectory) -> jax.Array:
    """V of the true successor, float32 ``[T]``, where the rollout does not hold it, and 0 elsewhere.

    The rollout does not hold the successor of a truncated step, because the environment was reset, and that of its
    last step. These successors are valued in a loop, one step of each environment at a time and the latest step first,
    until no environment needs another. So a rollout without truncations costs one evaluation of the network for each
    environment, not ``T``.

    Args:
        network: a `Network` with one value.
        params: its parameters.
        trajectory: of one environment, ``[T]``.
    """
    needed = trajectory.truncated.at[-1].set(~trajectory.terminated[-1])

    def evaluate_latest(loop: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        needed, value = loop
        t = needed.shape[0] - 1 - jnp.argmax(needed[::-1])
        # Not first: the network values the end of the old episode, with its memory of that episode.
        carry, final_obs = jax.tree.map(lambda x: x[t], (trajectory.next_carry, trajectory.final_obs))
        _, outputs = network.step(params, carry, final_obs, jnp.bool_(False))
        return needed.at[t].set(False), value.at[t].set(outputs.value)

    loop = (needed, jnp.zeros_like(trajectory.reward))
    _, value = jax.lax.while_loop(lambda loop: loop[0].any(), evaluate_latest, loop)
    return value


def successor_values(value: jax.Array, bootstrap: jax.Array, last: jax.Array) -> jax.Array:
    """V of every step's true successor, float32 ``[T]``.

    Args:
        value: ``[T]``, of the observations acted on.
        bootstrap: ``[T]``, from `bootstrap_values`.
        last: bool ``[T]``, true where the step ended an episode.
    """
    inside = ~last.at[-1].set(True)
    return jnp.where(inside, jnp.roll(value, -1), bootstrap)
