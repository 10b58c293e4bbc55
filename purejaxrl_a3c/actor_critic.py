"""Builds every on-policy `Algorithm` from an environment, a network, an objective and an update rule."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c import checks, collectives, corrections, envs, networks, optimizers, randomness, rollout, updates
from purejaxrl_a3c.types import Algorithm, Metrics


class State(NamedTuple):
    """Everything that a run carries from one iteration to the next. No key: see `make_train`."""

    learner: Any  # the update rule's; ``learner.params`` are the current parameters
    position: rollout.Position  # every leaf [W, B, ...]
    iteration: jax.Array  # int32 []: iterations done


class Grid(NamedTuple):
    """The environments of a run, ``B`` for each of ``W`` workers, and what of them is on this device."""

    workers: int  # W
    envs: int  # B
    axis_name: Any = None  # of the devices, if any
    split_workers: bool = False  # whether devices share out the workers; otherwise every worker's environments

    @property
    def workers_here(self):
        """Workers on this device."""
        return collectives.part("num_workers", self.workers, self.axis_name) if self.split_workers else self.workers

    @property
    def envs_here(self):
        """Environments of each worker on this device."""
        return self.envs if self.split_workers else collectives.part("num_envs", self.envs, self.axis_name)

    def own_workers(self):
        """Numbers of the workers here, int32 ``[W]``."""
        first = collectives.index(self.axis_name) * self.workers_here if self.split_workers else 0
        return first + jnp.arange(self.workers_here)

    def numbers(self, workers):
        """Numbers of the environments here of these workers: int32 ``[L]`` to ``[L, B]``."""
        first = 0 if self.split_workers else collectives.index(self.axis_name) * self.envs_here
        return workers[:, None] * self.envs + (first + jnp.arange(self.envs_here))[None]


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
    axis_name=None,
):
    """The algorithm that a config describes, with RMSProp.

    Args:
        config: the ``Config`` of an algorithm.
        make_objective: (network, config) -> `Objective`.
        make_rule: (optax transformation) -> `UpdateRule`.
        num_workers: ``W``, of all devices.
        envs_per_worker: ``B``, of all devices.
        updates_per_iteration: how often the learning rate's schedule advances in an iteration.
        weights_per_worker: whether every worker acts with parameters of its own. If so, devices share out the workers,
            otherwise the environments.
        axis_name: of the devices, or None.

    Returns:
        An `Algorithm`. With ``axis_name`` this and its functions must be called where that name is bound.

    Raises:
        InputError: naming the field, its value and what is accepted.
    """
    checks.check_fields(config, CHOICES)
    grid = Grid(num_workers, envs_per_worker, axis_name, split_workers=weights_per_worker)
    iterations = checks.count_iterations(config.total_frames, num_workers * envs_per_worker * config.rollout_length)
    env = envs.make(config)
    network = networks.make(config, env, weights_per_worker=weights_per_worker)
    optimizer = optimizers.shared_rmsprop(config, num_updates=iterations * updates_per_iteration)
    return actor_critic(
        env, network, make_objective(network, config), make_rule(optimizer), grid, config.rollout_length
    )


def actor_critic(env, network, objective, rule, grid, rollout_length):
    """The algorithm that alternates rollouts of ``T`` steps in ``W * B`` environments with updates.

    Args:
        env: the `Env`.
        network: the `Network`.
        objective: the `Objective`.
        rule: the `UpdateRule`; its ``actor`` must return parameters for the workers of this device.
        grid: the `Grid`.
        rollout_length: ``T``, environment steps.

    Returns:
        An `Algorithm`, whose state is a `State`.
    """
    frames_per_step = grid.workers * grid.envs * rollout_length
    iterate = one_update if rule.next_turn is None else in_turns

    def init(key):
        key_network, key_env = jax.random.split(key)
        keys = randomness.keys_at(key_env, grid.numbers(grid.own_workers()))
        position = jax.vmap(jax.vmap(lambda key: rollout.start(env, network, key)))(keys)
        learner = rule.init(jax.random.fold_in(key, 2), network.init(key_network))
        return State(learner, position, jnp.int32(0))

    def collect(key, params, position, lanes):
        """Trajectories ``[L, B, T]``; ``lanes`` are the numbers by which random numbers are drawn."""
        index = randomness.components(grid.numbers(lanes), rollout_length)
        noise, keys = rollout.draw(network, key, index)

        def act(params, position, noise, keys):
            return rollout.unroll(env, network, params, position, noise, keys)

        return jax.vmap(jax.vmap(act, (None, 0, 0, 0)))(params, position, noise, keys)

    def step(key, state):
        learner, position, reported, sums = iterate(key, rule, objective, collect, grid, state.learner, state.position)
        # Only now: acting and learning must see the observations of a block through the same statistics.
        position = position._replace(env=env.refresh(position.env, grid.axis_name))
        iteration = state.iteration + 1
        sums = collectives.total(sums, grid.axis_name)
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


def one_update(key, rule, objective, collect, grid, learner, position):
    """An iteration in which all workers act and one update follows.

    Returns:
        ``(learner, position, reported, sums)``: see `UpdateRule` and `episode_sums`.
    """
    key_act, key_update = jax.random.split(key)
    position, trajectories = collect(key_act, rule.actor(learner), position, grid.own_workers())
    learner, reported = rule.update(key_update, learner, objective, trajectories)
    return learner, position, reported, episode_sums(trajectories, 1)


def in_turns(key, rule, objective, collect, grid, learner, position):
    """An iteration of as many turns as it takes until ``W`` pushes are made. Returns what `one_update` does."""

    def take_turn(learner, position, done):
        key_turn, key_act, key_update = jax.random.split(jax.random.fold_in(key, done), 3)
        learner, lanes = rule.next_turn(key_turn, learner, grid.workers - done)
        acting = jax.tree.map(lambda x: x[lanes.workers], position)
        acting, trajectories = collect(key_act, rule.actor(learner, lanes), acting, lanes.number)
        learner, reported = rule.update(key_update, learner, objective, trajectories, lanes)
        # The rest has acted in vain: as if it had not, it will do so again with the same parameters.
        workers = jnp.where(lanes.active, lanes.workers, grid.workers)
        position = jax.tree.map(lambda x, new: x.at[workers].set(new, mode="drop"), position, acting)
        sums = episode_sums(trajectories, lanes.active[:, None, None])
        return learner, position, lanes.turn.active, reported, sums

    def body(loop):
        learner, position, done, room, sums = loop
        learner, position, active, reported, more = take_turn(learner, position, done)
        at = jnp.where(active, done + jnp.arange(active.size), grid.workers)
        room = jax.tree.map(lambda room, x: room.at[at].set(x, mode="drop"), room, reported)
        return learner, position, done + active.sum(), room, jax.tree.map(jnp.add, sums, more)

    *_, reported, sums = jax.eval_shape(take_turn, learner, position, jnp.int32(0))
    room = jax.tree.map(lambda x: jnp.zeros(grid.workers, x.dtype), reported)
    sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), sums)
    loop = learner, position, jnp.int32(0), room, sums
    learner, position, _, reported, sums = jax.lax.while_loop(lambda loop: loop[2] < grid.workers, body, loop)
    return learner, position, reported, sums


def episode_sums(trajectories, counts):
    """Sums of the returns and lengths of the episodes that ended in ``trajectories``, where ``counts`` is true."""
    last = (trajectories.terminated | trajectories.truncated) & (counts > 0)
    return {
        "returns": (trajectories.episode_return * last).sum(),
        "lengths": (trajectories.episode_length * last).sum(),
        "episodes": last.sum(),
    }
