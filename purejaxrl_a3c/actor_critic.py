"""Builds every on-policy `Algorithm` from an environment, a network, an objective and an update rule."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c import checks, corrections, envs, networks, optimizers, rollout, updates
from purejaxrl_a3c.types import Algorithm, Metrics


class State(NamedTuple):
    """Everything that a run carries from one iteration to the next. No key: see `make_train`."""

    learner: Any  # the update rule's; ``learner.params`` are the current parameters
    position: rollout.Position  # every leaf [W, B, ...]
    iteration: jax.Array  # int32 []: iterations done


CHOICES = networks.CHOICES | updates.CHOICES | {"correction": tuple(corrections.CORRECTIONS)}
"""What the fields of a config that name something accept."""


def build(
    config,
    make_objective,
    make_rule,
    *,
    num_workers,
    envs_per_worker,
    updates_per_iteration=1,
    weights_per_worker=False,
):
    """The algorithm that a config describes, with RMSProp.

    Args:
        config: the ``Config`` of an algorithm.
        make_objective: (network, config) -> `Objective`.
        make_rule: (optax transformation) -> `UpdateRule`.
        num_workers: ``W``.
        envs_per_worker: ``B``.
        updates_per_iteration: how often the learning rate's schedule advances in an iteration.
        weights_per_worker: whether every worker acts with parameters of its own.

    Returns:
        An `Algorithm`.

    Raises:
        InputError: naming the field, its value and what is accepted.
    """
    checks.check_fields(config, CHOICES)
    frames_per_iteration = num_workers * envs_per_worker * config.rollout_length
    iterations = checks.count_iterations(config.total_frames, frames_per_iteration)
    env = envs.make(config)
    network = networks.make(config, env, weights_per_worker=weights_per_worker)
    optimizer = optimizers.shared_rmsprop(config, num_updates=iterations * updates_per_iteration)
    return actor_critic(
        env,
        network,
        make_objective(network, config),
        make_rule(optimizer),
        num_workers=num_workers,
        envs_per_worker=envs_per_worker,
        rollout_length=config.rollout_length,
    )


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
        learner = rule.init(jax.random.fold_in(key, 2), network.init(key_network))
        return State(learner, position, jnp.int32(0))

    def collect(key, params, position):
        lanes = jax.tree.leaves(params)[0].shape[0]
        index = jnp.arange(lanes * envs_per_worker * rollout_length)
        noise, keys = rollout.draw(network, key, index.reshape(lanes, envs_per_worker, rollout_length))

        def act(params, position, noise, keys):
            return rollout.unroll(env, network, params, position, noise, keys)

        return jax.vmap(jax.vmap(act, (None, 0, 0, 0)))(params, position, noise, keys)

    def iterate(key, learner, position):
        key_act, key_update = jax.random.split(key)
        position, trajectories = collect(key_act, rule.actor(learner), position)
        learner, reported = rule.update(key_update, learner, objective, trajectories)
        return learner, position, reported, episode_sums(trajectories, 1)

    def iterate_in_turns(key, learner, position):
        def take_turn(learner, position, done):
            key_turn, key_act, key_update = jax.random.split(jax.random.fold_in(key, done), 3)
            learner, turn = rule.next_turn(key_turn, learner, num_workers - done)
            lanes = jax.tree.map(lambda x: x[turn.workers], position)
            lanes, trajectories = collect(key_act, rule.actor(learner, turn), lanes)
            learner, reported = rule.update(key_update, learner, objective, trajectories, turn)
            # The rest has acted in vain: as if it had not, it will do so again with the same parameters.
            workers = jnp.where(turn.active, turn.workers, num_workers)
            position = jax.tree.map(lambda x, new: x.at[workers].set(new, mode="drop"), position, lanes)
            sums = episode_sums(trajectories, turn.active[:, None, None])
            return learner, position, turn.active, reported, sums

        def body(loop):
            learner, position, done, room, sums = loop
            learner, position, active, reported, more = take_turn(learner, position, done)
            at = jnp.where(active, done + jnp.arange(active.size), num_workers)
            room = jax.tree.map(lambda room, x: room.at[at].set(x, mode="drop"), room, reported)
            return learner, position, done + active.sum(), room, jax.tree.map(jnp.add, sums, more)

        *_, reported, sums = jax.eval_shape(take_turn, learner, position, jnp.int32(0))
        room = jax.tree.map(lambda x: jnp.zeros(num_workers, x.dtype), reported)
        sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), sums)
        loop = learner, position, jnp.int32(0), room, sums
        learner, position, _, reported, sums = jax.lax.while_loop(lambda loop: loop[2] < num_workers, body, loop)
        return learner, position, reported, sums

    def step(key, state):
        turns = iterate if rule.next_turn is None else iterate_in_turns
        learner, position, reported, sums = turns(key, state.learner, state.position)
        # Only now: acting and learning must see the observations of a block through the same statistics.
        position = position._replace(env=env.refresh(position.env))
        iteration = state.iteration + 1
        staleness = reported.pop("staleness")
        metrics = Metrics(
            frames=iteration * frames_per_step,
            episode_return=sums["returns"] / sums["episodes"],  # 0 / 0 is NaN
            episode_length=sums["lengths"] / sums["episodes"],
            episodes=sums["episodes"],
            staleness_mean=staleness.mean(),
            staleness_max=staleness.max(),
            virtual_time=reported.pop("virtual_time", iteration.astype(jnp.float32)).max(),
            **{name: values.mean() for name, values in reported.items()},
        )
        return State(learner, position, iteration), metrics

    def policy(state):
        return lambda carry, obs, first: network.step(state.learner.params, carry, obs, first)

    def test_env(state):
        return env.freeze(jax.tree.map(lambda x: x[0, 0], state.position.env))

    return Algorithm(init, step, policy, test_env, env, network, frames_per_step)


def episode_sums(trajectories, counts):
    """Sums of the returns and lengths of the episodes that ended in ``trajectories``, where ``counts`` is true."""
    last = (trajectories.terminated | trajectories.truncated) & (counts > 0)
    return {
        "returns": (trajectories.episode_return * last).sum(),
        "lengths": (trajectories.episode_length * last).sum(),
        "episodes": last.sum(),
    }
