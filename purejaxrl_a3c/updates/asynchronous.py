"""A3C's rule: workers push stale gradients one at a time, in an explicit order.

A worker's rollout and gradient depend only on the parameters that it pulled after its last push. So all
workers compute side by side, and only the pushes are ordered: a scan over the arrival order applies each
worker's gradient through the shared optimizer state, and the worker pulls what its own push has made. That
is not an approximation of asynchronous training, it is the thing itself under a given arrival order.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from purejaxrl_a3c.types import Params, UpdateRule


class Learner(NamedTuple):
    """The shared parameters, the shared statistics, and what each worker last pulled.

    A *version* counts the pushes applied so far.
    """

    params: Params
    opt_state: Any  # of the parameters raveled into one vector [P]
    version: jax.Array  # int32 []
    snapshots: Params  # every leaf [W, ...]
    pulled_version: jax.Array  # int32 [W]


def asynchronous(optimizer, num_workers):
    """Asynchronous advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783, algorithm S3).

    Every round each worker pushes once, in a random order: gradients are taken at the worker's snapshot,
    applied to the newest shared parameters, and the worker then pulls. The staleness of a push, the pushes
    applied since its worker pulled, is measured on every push: its mean is ``W - 1`` after the first round
    and it lies between 0 and ``2 W - 2``.

    Args:
        optimizer: an optax transformation. It sees parameters and gradients as one vector ``[P]``, so it must
            not treat leaves of the parameters differently.
        num_workers: ``W``.

    Returns:
        An `UpdateRule`.
    """

    def init(params):
        return Learner(
            params=params,
            opt_state=optimizer.init(ravel_pytree(params)[0]),
            version=jnp.int32(0),
            snapshots=jax.tree.map(lambda x: jnp.broadcast_to(x, (num_workers, *x.shape)), params),
            pulled_version=jnp.zeros(num_workers, jnp.int32),
        )

    def actor(learner):
        return learner.snapshots

    def gradient_at(objective, params, trajectories):
        batch = objective.prepare(params, trajectories)
        gradient, metrics = jax.grad(objective.loss, has_aux=True)(params, batch)
        gradient, _ = ravel_pytree(gradient)
        return gradient, metrics | {"gradient_norm": optax.tree.norm(gradient)}

    def update(key, learner, objective, trajectories):
        gradients, metrics = jax.vmap(gradient_at, (None, 0, 0))(objective, learner.snapshots, trajectories)
        order = jax.random.permutation(key, num_workers)
        # One vector instead of a tree: each push is then a few kernels, not a few for every leaf.
        params, unravel = ravel_pytree(learner.params)

        def push(shared, worker):
            params, opt_state, version, snapshots, pulled_version = shared
            step, opt_state = optimizer.update(gradients[worker], opt_state, params)
            params = optax.apply_updates(params, step)
            staleness = version - pulled_version[worker]
            version = version + 1
            # The worker pulls right after its own push.
            snapshots = snapshots.at[worker].set(params)
            pulled_version = pulled_version.at[worker].set(version)
            return (params, opt_state, version, snapshots, pulled_version), staleness

        snapshots = jax.vmap(lambda tree: ravel_pytree(tree)[0])(learner.snapshots)
        shared = (params, learner.opt_state, learner.version, snapshots, learner.pulled_version)
        shared, staleness = jax.lax.scan(push, shared, order)
        params, opt_state, version, snapshots, pulled_version = shared
        metrics = {name: value.mean() for name, value in metrics.items()}
        metrics |= {"staleness_mean": staleness.mean(), "staleness_max": staleness.max()}
        learner = Learner(unravel(params), opt_state, version, jax.vmap(unravel)(snapshots), pulled_version)
        return learner, metrics

    return UpdateRule(init, actor, update)
