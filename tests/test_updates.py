from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from purejaxrl_a3c import optimizers, updates
from purejaxrl_a3c.types import Objective

W, ROUNDS = 5, 4


def distance(params, target):
    loss = 0.5 * jnp.sum((params["matrix"] - target[..., None]) ** 2) + jnp.sum(params["bias"] * target)
    return loss, {"distance": loss}


OBJECTIVE = Objective(lambda params, target: target, distance)
PARAMS = {"matrix": jnp.arange(6.0).reshape(3, 2), "bias": jnp.ones(3)}


class Settings(NamedTuple):
    learning_rate: float = 0.1
    anneal_learning_rate: bool = True
    max_gradient_norm: float = 3.0
    rmsprop_decay: float = 0.9
    rmsprop_epsilon: float = 0.01


OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.05, momentum=0.9),
    "adam": optax.adam(0.1),
    "shared_rmsprop": optimizers.shared_rmsprop(Settings(), num_updates=W * ROUNDS),
}


def targets(round_):
    return jax.random.normal(jax.random.fold_in(jax.random.key(7), round_), (W, 3))


def event_loop(optimizer, keys):
    """A3C as its authors describe it: workers with copies of their own, one event at a time."""
    params, opt_state, version = PARAMS, optimizer.init(PARAMS), 0
    workers = [{"params": params, "version": 0} for _ in range(W)]
    staleness = []
    for round_, key in enumerate(keys):
        for worker in np.asarray(jax.random.permutation(key, W)):
            mine = workers[worker]
            gradient = jax.grad(lambda p, w=worker, r=round_: distance(p, targets(r)[w])[0])(mine["params"])
            staleness.append(version - mine["version"])
            step, opt_state = optimizer.update(gradient, opt_state, params)
            params = optax.apply_updates(params, step)
            version += 1
            workers[worker] = {"params": params, "version": version}
    return params, [worker["params"] for worker in workers], np.array(staleness).reshape(len(keys), W)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_asynchronous_updates_equal_the_event_loop(name):
    optimizer = OPTIMIZERS[name]
    keys = list(jax.random.split(jax.random.key(0), ROUNDS))
    expected, expected_snapshots, expected_staleness = event_loop(optimizer, keys)
    rule = updates.asynchronous(optimizer, W)
    learner = rule.init(PARAMS)
    for round_, key in enumerate(keys):
        learner, reported = jax.jit(rule.update, static_argnums=2)(key, learner, OBJECTIVE, targets(round_))
        assert reported["staleness_mean"] == expected_staleness[round_].mean()
        assert reported["staleness_max"] == expected_staleness[round_].max()
    assert learner.version == W * ROUNDS
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), learner.params, expected)
    snapshots = jax.tree.map(lambda *x: jnp.stack(x), *expected_snapshots)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), rule.actor(learner), snapshots)


def test_staleness_has_mean_workers_minus_one_and_stays_below_twice_that():
    rule = updates.asynchronous(optax.sgd(0.0), W)

    def round_(learner, key):
        learner, reported = rule.update(key, learner, OBJECTIVE, targets(0))
        return learner, (reported["staleness_mean"], reported["staleness_max"])

    keys = jax.random.split(jax.random.key(0), 200)
    _, (mean, largest) = jax.lax.scan(round_, rule.init(PARAMS), keys)
    assert mean[0] == (W - 1) / 2  # in the first round all workers pulled at version 0
    np.testing.assert_array_equal(mean[1:], W - 1)
    assert largest.max() == 2 * W - 2
    assert len(set(np.asarray(largest).tolist())) > 2  # the order is random


def test_each_worker_pulls_right_after_its_own_push():
    rule = updates.asynchronous(optax.sgd(0.1), W)
    learner, _ = rule.update(jax.random.key(3), rule.init(PARAMS), OBJECTIVE, targets(0))
    order = np.asarray(jax.random.permutation(jax.random.key(3), W))
    np.testing.assert_array_equal(learner.pulled_version[order], np.arange(1, W + 1))
    newest = jax.tree.map(lambda x: x[order[-1]], rule.actor(learner))
    jax.tree.map(np.testing.assert_array_equal, newest, learner.params)


def test_one_worker_is_lockstep_exactly():
    optimizer = OPTIMIZERS["shared_rmsprop"]
    lone, lockstep = updates.asynchronous(optimizer, 1), updates.synchronous(optimizer)
    a, b = lone.init(PARAMS), lockstep.init(PARAMS)
    for round_ in range(ROUNDS):
        one = targets(round_)[:1, None]
        objective = Objective(lambda params, target: target, lambda params, target: distance(params, target[0]))
        a, reported = lone.update(jax.random.key(round_), a, objective, one)
        b, reported_too = lockstep.update(jax.random.key(round_), b, objective, one)
        assert reported.keys() == reported_too.keys()
        np.testing.assert_allclose(reported["gradient_norm"], reported_too["gradient_norm"], rtol=1e-6)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), a.params, b.params)


def test_sequential_sgd_pushes_from_one_theta_are_one_step_on_the_mean_gradient_and_rmsprop_pushes_are_not():
    """The first round, in which all workers hold the same parameters."""

    def first_round(make_optimizer):
        asynchronous = updates.asynchronous(make_optimizer(0.1 / W), W)
        learner, _ = asynchronous.update(jax.random.key(0), asynchronous.init(PARAMS), OBJECTIVE, targets(0))
        together = Objective(
            lambda params, target: target,
            lambda params, target: jax.tree.map(jnp.mean, jax.vmap(distance, (None, 0))(params, target)),
        )
        synchronous = updates.synchronous(make_optimizer(0.1))
        # [W, 1, ...] is W workers of one environment each, merged into a batch of W.
        lockstep, _ = synchronous.update(jax.random.key(0), synchronous.init(PARAMS), together, targets(0)[:, None])
        return np.max(np.abs(learner.params["matrix"] - lockstep.params["matrix"]))

    assert first_round(optax.sgd) < 1e-6
    assert first_round(lambda rate: optax.rmsprop(rate, decay=0.9)) > 1e-2


def test_rmsprop_has_epsilon_inside_the_root_and_anneals_to_zero():
    settings = Settings(max_gradient_norm=1e9)
    optimizer = optimizers.shared_rmsprop(settings, num_updates=10)
    params, state = jnp.array([1.0, -2.0]), optimizer.init(jnp.array([1.0, -2.0]))
    expected, g = np.array([1.0, -2.0]), np.zeros(2)
    for update in range(12):
        gradient = np.array([0.3, -0.02]) * (update + 1)
        step, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state, params)
        params = optax.apply_updates(params, step)
        g = 0.9 * g + 0.1 * gradient**2
        expected -= 0.1 * max(0.0, 1 - update / 10) * gradient / np.sqrt(g + 0.01)
        np.testing.assert_allclose(params, expected, rtol=1e-5)


def test_the_gradient_is_clipped_by_its_global_norm():
    optimizer = optimizers.shared_rmsprop(Settings(max_gradient_norm=1.0, anneal_learning_rate=False), 10)
    direction = jnp.array([3.0, 4.0])
    clipped = optimizer.update(direction / 5, optimizer.init(direction))[0]
    for size in (1.0, 10.0):
        np.testing.assert_allclose(optimizer.update(size * direction, optimizer.init(direction))[0], clipped, rtol=1e-5)
