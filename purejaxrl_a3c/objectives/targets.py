"""How the rewards of a trajectory become targets of the value function and the policy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.types import Targets


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
