"""Builds every on-policy `Algorithm` from an environment, a network, an objective and an update rule."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c import checks, envs, networks, updates
from purejaxrl_a3c.backend import collectives, randomness
from purejaxrl_a3c.loops import rollout
from purejaxrl_a3c.types import Algorithm, Metrics
from purejaxrl_a3c.updates import corrections, optimizers


class State(NamedTuple):
    """Everything that a run carries from one iteration to the next. No key: see `make_train`."""

    learner: Any  # the update rule's; ``learner.params`` are the current parameters
    position: rollout.Position  # every leaf [W, B, ...]
    iteration: jax.Array  # int32 []: iterations done
    bonus: Any = ()  # the `Bonus`'s


class Grid(NamedTuple):
    """The environments of a run, ``B`` for each of ``W`` workers, and what of them is on this device."""

    workers: int  # W
    envs: int  # B
    axis_name: Any = None  # of the devices, if any
    shared_out: str = "num_envs"  # the field that devices share out: num_workers, or else every worker's environments

    @property
    def workers_here(self):
        """Workers on this device."""
        by_worker = self.shared_out == "num_workers"
        return collectives.part(self.shared_out, self.workers, self.axis_name) if by_worker else self.workers

    @property
    def envs_here(self):
        """Environments of each worker on this device."""
        by_worker = self.shared_out == "num_workers"
        return self.envs if by_worker else collectives.part(self.shared_out, self.envs, self.axis_name)

    def own_workers(self):
        """Numbers of the workers here, int32 ``[W]``."""
        first = collectives.index(self.axis_name) * self.workers_here if self.shared_out == "num_workers" else 0
        return first + jnp.arange(self.workers_here)

    def numbers(self, workers):
        """Numbers of the environments here of these workers: int32 ``[L]`` to ``[L, B]``."""
        first = 0 if self.shared_out == "num_workers" else collectives.index(self.axis_name) * self.envs_here
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
    shared_out=None,
    make_optimizer=optimizers.shared_rmsprop,
    make_bonus=None,
    axis_name=None,
):
    """The algorithm that a config describes.

    Args:
        config: the ``Config`` of an algorithm.
        make_objective: (network, config[, make_credit]) -> `Objective`.
        make_rule: (optax transformation) -> `UpdateRule`.
        num_workers: ``W``, of all devices.
        envs_per_worker: ``B``, of all devices.
        updates_per_iteration: how often the learning rate's schedule advances in an iteration.
        weights_per_worker: whether every worker acts with parameters of its own.
        shared_out: the config's field that devices share out; None: ``num_workers`` if those have parameters of their
            own, otherwise ``num_envs``.
        make_optimizer: (config, num_updates) -> optax transformation.
        make_bonus: (config, env, axis_name) -> `Bonus`; None: the environment's rewards alone.
        axis_name: of the devices, or None.

    Returns:
        An `Algorithm`. With ``axis_name`` this and its functions must be called where that name is bound.

    Raises:
        InputError: naming the field, its value and what is accepted.
    """
    checks.check_fields(config, CHOICES)
    shared_out = shared_out or ("num_workers" if weights_per_worker else "num_envs")
    grid = Grid(num_workers, envs_per_worker, axis_name, shared_out)
    iterations = checks.count_iterations(config.total_frames, num_workers * envs_per_worker * config.rollout_length)
    env = envs.make(config)
    bonus = make_bonus(config, env, axis_name) if make_bonus else None
    num_values = 2 if bonus else 1
    network = networks.make(config, env, weights_per_worker=weights_per_worker, num_values=num_values)
    optimizer = make_optimizer(config, num_updates=iterations * updates_per_iteration)
    objective = make_objective(network, config, bonus.make_credit) if bonus else make_objective(network, config)
    return actor_critic(env, network, objective, make_rule(optimizer), grid, config.rollout_length, bonus)


def actor_critic(env, network, objective, rule, grid, rollout_length, bonus=None):
    """The algorithm that alternates rollouts of ``T`` steps in ``W * B`` environments with updates.

    Args:
        env: the `Env`.
        network: the `Network`.
        objective: the `Objective`.
        rule: the `UpdateRule`; its ``actor`` must return parameters for the workers of this device.
        grid: the `Grid`.
        rollout_length: ``T``, environment steps.
        bonus: a `Bonus` or None.

    Returns:
        An `Algorithm`, whose state is a `State`.

    Raises:
        InputError: for a bonus on a clock, where workers of one iteration act after others have learned.
    """
    if bonus and rule.next_turn is not None:
        checks.reject("schedule", "clock", "random or round_robin, with a bonus")
    frames_per_step = grid.workers * grid.envs * rollout_length
    iterate = one_update if rule.next_turn is None else in_turns

    def init(key):
        key_network, key_env = jax.random.split(key)
        keys = randomness.keys_at(key_env, grid.numbers(grid.own_workers()))
        position = jax.vmap(jax.vmap(lambda key: rollout.start(env, network, key)))(keys)
        learner = rule.init(jax.random.fold_in(key, 2), network.init(key_network))
        explorer = () if bonus is None else warm_up(jax.random.fold_in(key, 3), learner, position)
        return State(learner, position, jnp.int32(0), explorer)

    def warm_up(key, learner, position):
        """The bonus's state after some rollouts of the untrained policy, from which the run itself does not go on."""

        def observe(i, loop):
            position, state = loop
            key_act, params = jax.random.fold_in(key, i), rule.actor(learner)
            position, trajectories = collect(key_act, params, position, grid.own_workers())
            return position, bonus.observe(state, trajectories)

        started = position, bonus.init(key, (grid.workers_here, grid.envs_here))
        return jax.lax.fori_loop(0, bonus.warm_up, observe, started)[1]

    def collect(key, params, position, lanes):
        """Trajectories ``[L, B, T]``; ``lanes`` are the numbers by which random numbers are drawn."""
        index = randomness.components(grid.numbers(lanes), rollout_length)
        noise, keys = rollout.draw(network, key, index)

        def act(params, position, noise, keys):
            return rollout.unroll(env, network, params, position, noise, keys)

        return jax.vmap(jax.vmap(act, (None, 0, 0, 0)))(params, position, noise, keys)

    def step(key, state):
        learner, position, explorer, reported, sums = iterate(key, rule, objective, collect, grid, bonus, state)
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
        return State(learner, position, iteration, explorer), metrics

    def policy(state):
        return lambda carry, obs, first: network.step(state.learner.params, carry, obs, first)

    def test_env(state):
        return env.freeze(jax.tree.map(lambda x: x[0, 0], state.position.env))

    return Algorithm(init, step, policy, test_env, env, network, frames_per_step)


def one_update(key, rule, objective, collect, grid, bonus, state):
    """An iteration in which all workers act and one update follows.

    Returns:
        ``(learner, position, explorer, reported, sums)``: see `UpdateRule`, `Bonus` and `episode_sums`.
    """
    key_act, key_update = jax.random.split(key)
    learner, explorer = state.learner, state.bonus
    position, trajectories = collect(key_act, rule.actor(learner), state.position, grid.own_workers())
    if bonus is not None:
        explorer, trajectories = bonus.update(jax.random.fold_in(key, 2), explorer, trajectories)
    learner, reported = rule.update(key_update, learner, objective, trajectories)
    return learner, position, explorer, reported, episode_sums(trajectories, 1)


def in_turns(key, rule, objective, collect, grid, bonus, state):
    """An iteration of as many turns as it takes until ``W`` pushes are made. Returns what `one_update` does."""
    del bonus  # there is none

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

    learner, position = state.learner, state.position
    *_, reported, sums = jax.eval_shape(take_turn, learner, position, jnp.int32(0))
    room = jax.tree.map(lambda x: jnp.zeros(grid.workers, x.dtype), reported)
    sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), sums)
    loop = learner, position, jnp.int32(0), room, sums
    learner, position, _, reported, sums = jax.lax.while_loop(lambda loop: loop[2] < grid.workers, body, loop)
    return learner, position, state.bonus, reported, sums


def episode_sums(trajectories, counts):
    """Sums of the returns and lengths of the episodes that ended in ``trajectories``, where ``counts`` is true."""
    last = (trajectories.terminated | trajectories.truncated) & (counts > 0)
    return {
        "returns": (trajectories.episode_return * last).sum(),
        "lengths": (trajectories.episode_length * last).sum(),
        "episodes": last.sum(),
    }
