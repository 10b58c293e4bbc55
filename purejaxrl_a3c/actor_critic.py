"""Builds every on-policy `Algorithm` from an environment, a network, an objective and an update rule."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c import rollout
from purejaxrl_a3c.types import Algorithm, Metrics


class State(NamedTuple):
    """Everything that a run carries from one iteration to the next. No key: see `make_train`."""

    learner: Any  # the update rule's; ``learner.params`` are the current parameters
    position: rollout.Position  # every leaf [W, B, ...]
    iteration: jax.Array  # int32 []: iterations done


def actor_critic(env, network, objective, rule, *, num_workers, envs_per_worker, rollout_length):
    """The algorithm that alternates rollouts of ``T`` steps in ``W * B`` environments with updates.

    Args:
        env: the `Env`.
        network: the `Network`.
        objective: the `Objective`.
        rule: the `UpdateRule`; its ``actor`` must return ``W`` sets of parameters.
        num_workers: ``W``.
        envs_per_worker: ``B``.
        rollout_length: ``T``, environment steps.

    Returns:
        An `Algorithm`, whose state is a `State`.
    """
    shape = (num_workers, envs_per_worker)
    frames_per_step = num_workers * envs_per_worker * rollout_length

    def init(key):
        key_network, key_env = jax.random.split(key)
        keys = jax.random.split(key_env, num_workers * envs_per_worker).reshape(shape)
        position = jax.vmap(jax.vmap(lambda key: rollout.start(env, network, key)))(keys)
        return State(rule.init(network.init(key_network)), position, jnp.int32(0))

    def act(params, position, noise, keys):
        return rollout.unroll(env, network, params, position, noise, keys)

    def step(key, state):
        key_act, key_update = jax.random.split(key)
        noise, keys = rollout.draw(network, key_act, (*shape, rollout_length))
        position, trajectories = jax.vmap(jax.vmap(act, (None, 0, 0, 0)))(
            rule.actor(state.learner), state.position, noise, keys
        )
        learner, reported = rule.update(key_update, state.learner, objective, trajectories)
        # Only now: acting and learning must see the observations of a block through the same statistics.
        position = position._replace(env=env.refresh(position.env))
        iteration = state.iteration + 1
        metrics = Metrics(frames=iteration * frames_per_step, **episode_metrics(trajectories), **reported)
        return State(learner, position, iteration), metrics

    def policy(state):
        return lambda carry, obs, first: network.step(state.learner.params, carry, obs, first)

    def test_env(state):
        return env.freeze(jax.tree.map(lambda x: x[0, 0], state.position.env))

    return Algorithm(init, step, policy, test_env, env, network, frames_per_step)


def episode_metrics(trajectories):
    """Mean return and length of the episodes that ended in ``trajectories``, and how many did."""
    last = trajectories.terminated | trajectories.truncated
    episodes = last.sum()
    return {
        "episode_return": (trajectories.episode_return * last).sum() / episodes,  # 0 / 0 is NaN
        "episode_length": (trajectories.episode_length * last).sum() / episodes,
        "episodes": episodes,
    }
