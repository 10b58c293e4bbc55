from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from purejaxrl_a3c import updates
from purejaxrl_a3c.types import Objective
from purejaxrl_a3c.updates import averaging, mean, ring

W, ROUNDS = 4, 6
KEY = jax.random.key(0)
PARAMS = {"a": jnp.array([1.0, -2.0]), "b": jnp.float32(0.5)}


def distance(params, target):
    loss = 0.5 * jnp.sum((params["a"] * (1 + params["b"]) - target) ** 2)
    return loss, {"loss": loss}


def objective_of(loss: Any) -> Objective:
    """An objective whose batch is the trajectories themselves."""
    return Objective(lambda params, trajectories: trajectories, loss)


OBJECTIVE = objective_of(distance)
TARGETS: Any = jax.random.normal(jax.random.key(1), (ROUNDS, W, 2))


def learn(rule, rounds=ROUNDS, shape=lambda x: x, objective=OBJECTIVE):
    learner = rule.init(KEY, PARAMS)
    update = jax.jit(lambda learner, target: rule.update(KEY, learner, objective, target))
    for target in TARGETS[:rounds]:
        learner, _ = update(learner, shape(target))
    return learner


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b)


def test_a_mean_every_round_with_sgd_is_a2c():
    together = objective_of(
        lambda params, target: jax.tree.map(jnp.mean, jax.vmap(distance, (None, 0))(params, target))
    )
    lockstep = learn(updates.synchronous(optax.sgd(0.1)), shape=lambda x: x[:, None], objective=together)
    assert_close(learn(averaging(optax.sgd(0.1), W)).params, lockstep.params)
    # With statistics of their own the workers' steps differ, and so do their means.
    adaptive = learn(averaging(optax.rmsprop(0.1), W))
    lockstep = learn(updates.synchronous(optax.rmsprop(0.1)), shape=lambda x: x[:, None], objective=together)
    assert np.abs(adaptive.params["a"] - lockstep.params["a"]).max() > 1e-2


def local_sgd(sync_every, outer_rate=1.0, outer_momentum=0.0):
    """Plain NumPy: local SGD with Nesterov momentum outside."""
    common = {k: np.asarray(v, np.float64) for k, v in PARAMS.items()}
    workers = [dict(common) for _ in range(W)]
    trace = {k: np.zeros_like(v) for k, v in common.items()}
    for i, row in enumerate(np.asarray(TARGETS, np.float64)):
        for worker, target in zip(workers, row, strict=True):
            error = worker["a"] * (1 + worker["b"]) - target
            gradient = {"a": error * (1 + worker["b"]), "b": (error * worker["a"]).sum()}
            for k in worker:
                worker[k] = worker[k] - 0.1 * gradient[k]
        if (i + 1) % sync_every == 0:
            for k in common:
                difference = common[k] - np.mean([worker[k] for worker in workers], axis=0)
                trace[k] = outer_momentum * trace[k] + difference
                common[k] = common[k] - outer_rate * (difference + outer_momentum * trace[k])
            workers = [dict(common) for _ in range(W)]
    return common, workers


@pytest.mark.parametrize("sync_every", [1, 2, 3])
def test_local_updates_are_averaged_every_so_many_rounds(sync_every):
    learner = learn(averaging(optax.sgd(0.1), W, sync_every))
    common, _ = local_sgd(sync_every)
    assert_close(learner.params, common)


def test_between_means_workers_go_their_own_ways_and_act_with_their_own_parameters():
    rule = averaging(optax.sgd(0.1), W, 4)
    learner = learn(rule, rounds=3)
    assert_close(learner.params, PARAMS)
    actors = rule.actor(learner)
    assert len({tuple(row) for row in np.asarray(actors["a"]).round(5).tolist()}) == W
    learner = learn(rule, rounds=4)
    assert_close(rule.actor(learner), jax.tree.map(lambda x: jnp.stack([x] * W), learner.params))


def test_diloco_steps_outside_with_nesterov_momentum():
    outer = optax.sgd(0.7, momentum=0.9, nesterov=True)
    learner = learn(averaging(optax.sgd(0.1), W, 2, mean(outer)))
    assert_close(learner.params, local_sgd(2, 0.7, 0.9)[0])


def test_gossip_keeps_the_mean_and_brings_neighbours_together():
    still = learn(averaging(optax.sgd(0.1), W, ROUNDS + 1, ring()), rounds=3)
    rule = averaging(optax.sgd(0.0), W, 1, ring())
    before = rule.init(KEY, PARAMS)._replace(workers=still.workers)
    after, _ = rule.update(KEY, before, OBJECTIVE, TARGETS[0])
    x, y = np.asarray(still.workers["a"]), np.asarray(after.workers["a"])
    for i in range(W):
        np.testing.assert_allclose(y[i], (x[i - 1] + x[i] + x[(i + 1) % W]) / 3, rtol=1e-5)
    np.testing.assert_allclose(after.params["a"], x.mean(0), rtol=1e-5)
    assert y.std(0).max() < x.std(0).max()
