"""The parts of an iteration, each as a program of its own, to be timed and counted beside the whole.

Each covers as many frames as an iteration has:

- *step*: the environments under random actions;
- *act*: the environments under the policy network;
- *learn*: forward and backward passes of the loss, as many and in as large pieces as the algorithm takes, over frames
  that are neither shuffled nor new;
- *prepare*: what the objective computes once a rollout, values and targets;
- *push*: A3C's updates of the shared parameters, one worker after the other.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c import a3c, envs, networks, objectives, ppo, updates
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.loops import rollout
from purejaxrl_a3c.types import Objective
from purejaxrl_a3c.updates import optimizers


class Part(NamedTuple):
    """One part of an iteration."""

    run: Callable[..., Any]  # (key, carry) -> carry: all of it
    piece: Callable[..., Any]  # (key, carry) -> anything: what ``run`` does again and again, without a loop
    pieces: int  # how often


def algorithm_loop(config):
    """``(start, loop)``: ``loop(key, state, n)`` is the state after ``n`` more iterations."""
    algorithm = config.build()

    def step(key, state):
        return algorithm.step(key, state)[0]

    return algorithm.init, looped(step)


def looped(step):
    """``(key, carry, n) -> carry`` for ``step(key, carry) -> carry``."""

    def loop(key, carry, n):
        return jax.lax.fori_loop(0, n, lambda i, carry: step(jax.random.fold_in(key, i), carry), carry)

    return loop


def parts(config):
    """``(start, {name: Part})`` of a config; ``start(key)`` is the carry of all parts but *push*."""
    gamma, rollouts = config.objective.gamma, config.rollouts
    workers = isinstance(config, a3c.Config)
    num_envs = rollouts.num_workers * rollouts.envs_per_worker if workers else rollouts.num_envs
    rollout_length = rollouts.rollout_length
    env = envs.make(config.env, gamma)
    network = networks.make(config.network, env)
    estimator = objectives.extrinsic(network, gamma)
    objective = objectives.policy_gradient(network, config.objective, estimator)
    passes, count = 1, 1
    if isinstance(config, ppo.Config):
        passes, count = config.passes.epochs, config.passes.num_minibatches
        objective = config.make_objective()(network, estimator=estimator)

    def start(key):
        key_network, key_env, key_act = jax.random.split(key, 3)
        params = network.init(key_network)
        actor_states = jax.vmap(lambda key: rollout.start(env, network, key))(jax.random.split(key_env, num_envs))
        actor_states, trajectories = unroll(params, key_act, actor_states, rollout_length)
        return params, actor_states, trajectories, deal(objective.prepare(params, trajectories))

    def unroll(params, key, actor_states, steps):
        act = functools.partial(rollout.unroll, env, network, params)
        index = jnp.arange(num_envs * steps).reshape(num_envs, steps)
        return jax.vmap(act)(actor_states, *rollout.draw(network, key, index))

    def deal(batch):
        return jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)

    def tick(key, carry):
        params, actor_states, *rest = carry
        key_act, key_env = jax.random.split(key)
        actions = random_actions(key_act)
        state, timestep = jax.vmap(env.step)(jax.random.split(key_env, (num_envs, 2)), actor_states.env, actions)
        last = timestep.terminated | timestep.truncated
        return params, actor_states._replace(env=state, obs=timestep.obs, first=last), *rest

    def random_actions(key):
        space: Any = env.action_space
        if isinstance(space, spaces.Discrete):
            return jax.random.randint(key, (num_envs,), 0, space.n)
        return jax.random.uniform(key, (num_envs, space.size), minval=-1)

    def step(key, carry):
        keys = jax.random.split(key, rollout_length)
        return jax.lax.scan(lambda carry, key: (tick(key, carry), None), carry, keys)[0]

    def act(key, carry):
        params, actor_states, *rest = carry
        actor_states, _ = unroll(params, key, actor_states, rollout_length)
        return params, actor_states, *rest

    def descend(params, minibatch):
        gradient, _ = jax.grad(objective.loss, has_aux=True)(params, minibatch)
        # The parameters must change, or the compiler may take the pass out of the loop.
        return jax.tree.map(lambda p, g: p - 1e-6 * g, params, gradient), None

    def learn(key, carry):
        params, actor_states, trajectories, batch = carry
        params = jax.lax.fori_loop(0, passes, lambda _, p: jax.lax.scan(descend, p, batch)[0], params)
        return params, actor_states, trajectories, batch

    def prepare(key, carry):
        params, actor_states, trajectories, _ = carry
        batch = deal(objective.prepare(params, trajectories))
        total = sum(x.sum() for x in jax.tree.leaves(batch) if jnp.issubdtype(x.dtype, jnp.floating))
        return jax.tree.map(lambda p: p + 1e-30 * total, params), actor_states, trajectories, batch

    def one_tick(key, carry):
        return tick(key, carry)[1]

    def one_act(key, carry):
        params, actor_states, *_ = carry
        return unroll(params, key, actor_states, 1)

    def one_minibatch(key, carry):
        return descend(carry[0], jax.tree.map(lambda x: x[0], carry[3]))

    return start, {
        "step": Part(step, one_tick, rollout_length),
        "act": Part(act, one_act, rollout_length),
        "learn": Part(learn, one_minibatch, passes * count),
        "prepare": Part(prepare, prepare, 1),
    }


def push_loop(config):
    """``(start, loop)`` of A3C's pushes alone, with gradients that cost nothing; ``config`` is A3C's."""
    network = networks.make(config.network, envs.make(config.env, config.objective.gamma))
    workers = config.rollouts.num_workers
    optimizer = optimizers.make(config.optimizer, num_updates=config.rollouts.total_frames)
    rule: Any = updates.asynchronous(optimizer, workers, updates.Asynchrony())

    def loss(params, scale, *adapted):
        return sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(params)) * scale, {}

    objective = Objective(lambda params, scale: scale, loss)

    def push(key, learner):
        return rule.update(key, learner, objective, jnp.full(workers, 1e-3))[0]

    return lambda key: rule.init(key, network.init(key)), looped(push)
