"""PPO's rule: several passes over a rollout, in minibatches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from purejaxrl_a3c.backend import collectives, randomness
from purejaxrl_a3c.checks import is_concrete
from purejaxrl_a3c.types import Params, UpdateRule
from purejaxrl_a3c.updates.gradient import gradient_of


class Learner(NamedTuple):
    """The parameters, the optimizer's state, and what the loss takes besides."""

    params: Params
    opt_state: Any  # of the parameters raveled into one vector [P]
    adapted: tuple[jax.Array, ...]


class Adaptive(NamedTuple):
    """Further arguments of an objective's ``loss``, adapted after the passes over a rollout."""

    start: Callable[[], tuple[jax.Array, ...]]
    adapt: Callable[..., tuple[jax.Array, ...]]
    """(adapted, terms) -> adapted; the terms are those of the loss over the whole batch, after the last pass."""


def adaptive_kl(coefficient, target):
    """The penalty's coefficient of Schulman et al. 2017 (arXiv 1707.06347, section 4).

    It is halved where the policy has moved by less than ``target / 1.5``, doubled where by more than ``1.5 target``.

    Args:
        coefficient: at the start.
        target: Kullback-Leibler divergence in nats.

    Returns:
        An `Adaptive`.
    """

    def adapt(adapted, terms):
        (beta,), kl = adapted, terms["kl"]
        beta = jnp.where(kl < target / 1.5, beta / 2, jnp.where(kl > target * 1.5, beta * 2, beta))
        # The paper has no bounds. Without them a policy that stands still for a while would never be held back again.
        return (jnp.clip(beta, 1e-6, 1e6),)

    return Adaptive(lambda: (jnp.float32(coefficient),), adapt)


def minibatches(optimizer, epochs, count, *, stop_kl=0.0, adaptive=None, axis_name=None):
    """PPO's rule (Schulman et al. 2017, arXiv 1707.06347, algorithm 1): ``epochs * count`` updates on one rollout.

    The objective's batch must be a tree of leaves ``[M, ...]``, pieces that are shuffled anew in every pass, dealt out
    and never cut. With one pass and one minibatch this is `synchronous`.

    Args:
        optimizer: an optax transformation. It sees parameters and gradients as one vector ``[P]``, which takes fewer
            kernels in each of many small updates, so it must not treat leaves of the parameters differently.
        epochs: passes over the whole batch, an int.
        count: minibatches a pass, an int that divides ``M``.
        stop_kl: learn no more from this rollout once the policy has moved by more than this many nats, as measured on a
            minibatch before its update; 0: never stop. It needs an objective that reports ``kl``.
        adaptive: an `Adaptive`; None: the loss takes no further arguments.
        axis_name: of the devices that share the environments out, or None. Each deals out its own pieces: a minibatch
            has as many of every device, so with more than one minibatch the run is not number for number that of one.

    Returns:
        An `UpdateRule` with one worker.
    """
    adaptive = adaptive or Adaptive(tuple, lambda adapted, terms: adapted)
    may_stop = not (is_concrete(stop_kl) and stop_kl == 0)

    def init(key, params):
        del key
        return Learner(params, optimizer.init(ravel_pytree(params)[0]), adaptive.start())

    def actor(learner):
        return jax.tree.map(lambda x: x[None], learner.params)

    def update(key, learner, objective, trajectories):
        environments = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectories)
        batch = objective.prepare(learner.params, environments)
        adapted = learner.adapted
        vector, unravel = ravel_pytree(learner.params)
        of_vector = objective._replace(loss=lambda vector, *args: objective.loss(unravel(vector), *args))

        def learn(loop, minibatch):
            vector, opt_state, going_on = loop
            gradient, metrics = gradient_of(of_vector, vector, minibatch, *adapted, axis_name=axis_name)
            step, new_state = optimizer.update(gradient, opt_state, vector)
            new = optax.apply_updates(vector, step), new_state
            kl = metrics.pop("kl", None)
            if may_stop:
                going_on &= (kl <= stop_kl) | (stop_kl <= 0)
                new = jax.tree.map(lambda new, old: jnp.where(going_on, new, old), new, (vector, opt_state))
            return (*new, going_on), metrics

        def learn_all(loop, key):
            return jax.lax.scan(learn, loop, deal(key, batch, count))

        loop = (vector, learner.opt_state, jnp.bool_(True))
        loop, metrics = jax.lax.scan(learn_all, loop, jax.random.split(key, epochs))
        vector, opt_state, _ = loop
        params = unravel(vector)
        if adapted:
            _, terms = objective.loss(params, batch, *adapted)
            adapted = adaptive.adapt(adapted, collectives.mean(terms, axis_name))
        return Learner(params, opt_state, adapted), jax.tree.map(jnp.ravel, metrics)

    return UpdateRule(init, actor, update)


def deal(key, batch, count):
    """``batch``, leaves ``[M, ...]``, shuffled and dealt out: leaves ``[count, M / count, ...]``."""
    order = randomness.permutation(key, jax.tree.leaves(batch)[0].shape[0])
    return jax.tree.map(lambda x: x[order].reshape(count, -1, *x.shape[1:]), batch)
