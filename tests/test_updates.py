from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from purejaxrl_a3c import updates
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.types import Objective
from purejaxrl_a3c.updates import Asynchrony, Service, corrections, optimizers

W, ROUNDS = 5, 4
KEY = jax.random.key(0)


def distance(params, target):
    loss = 0.5 * jnp.sum((params["matrix"] - target[..., None]) ** 2) + jnp.sum(params["bias"] * target)
    return loss, {"distance": loss}


def objective_of(loss: Any) -> Objective:
    """An objective whose batch is the trajectories themselves."""
    return Objective(lambda params, trajectories: trajectories, loss)


def asynchronous(*args, **options):
    """The rule, whose type depends on the schedule."""
    return updates.asynchronous(*args, **options)


OBJECTIVE = objective_of(distance)
PARAMS = {"matrix": jnp.arange(6.0).reshape(3, 2), "bias": jnp.ones(3)}


RMSPROP = optimizers.RMSProp(learning_rate=0.1, max_gradient_norm=3.0, rmsprop_decay=0.9, rmsprop_epsilon=0.01)
OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.05, momentum=0.9),
    "adam": optax.adam(0.1),
    "negative_momentum": optimizers.with_momentum(optax.sgd(0.05), -0.3),
    "divided": optax.chain(optax.sgd(0.1), corrections.scale_by_staleness()),
    "compensated": optax.chain(corrections.compensate_delay(0.5), optax.sgd(0.1)),
    "compensated_adaptively": optax.chain(corrections.compensate_delay(0.5, adaptive=True), optax.sgd(0.1)),
    "shared_rmsprop": optimizers.make(RMSPROP, num_updates=W * ROUNDS),
}


def targets(round_):
    return jax.random.normal(jax.random.fold_in(jax.random.key(7), round_), (W, 3))


def event_loop(optimizer, events, lag=0, at_newest=False):
    """A3C as its authors describe it: workers with copies of their own, one event at a time.

    An event is (worker, target, workers that pull after its push). A read is ``lag`` versions old. IMPALA's learner
    takes the gradient itself, ``at_newest``.
    """
    versions, opt_state = [PARAMS], optimizer.init(PARAMS)
    pulled = [0] * W
    staleness = []
    for worker, target, pullers in events:
        mine = versions[pulled[worker]]
        gradient = jax.grad(lambda p, target=target: distance(p, target)[0])(versions[-1] if at_newest else mine)
        staleness.append(len(versions) - 1 - pulled[worker])
        extra = {"staleness": jnp.int32(staleness[-1]), "pulled": mine}
        if np.isfinite(ravel(gradient)).all():
            optimizer = optax.with_extra_args_support(optimizer)
            step, opt_state = optimizer.update(gradient, opt_state, versions[-1], **extra)
            versions.append(optax.apply_updates(versions[-1], step))
        else:
            versions.append(versions[-1])
        for puller in pullers:
            pulled[puller] = max(len(versions) - 1 - lag, 0)
    return versions[-1], [versions[i] for i in pulled], np.array(staleness)


def assert_learned(learner, reported, expected):
    params, snapshots, staleness = expected
    np.testing.assert_array_equal(np.concatenate(reported), staleness)
    assert learner.version == len(staleness)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), learner.params, params)
    snapshots = jax.tree.map(lambda *x: jnp.stack(x), *snapshots)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), learner.snapshots, snapshots)
    counts = np.bincount(np.minimum(staleness, 8 * W - 1), minlength=8 * W)
    np.testing.assert_array_equal(learner.staleness, counts)


@pytest.mark.parametrize("lag", [None, 0, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_asynchronous_updates_equal_the_event_loop(name, lag):
    optimizer = OPTIMIZERS[name]
    keys = list(jax.random.split(jax.random.key(0), ROUNDS))
    orders = [np.asarray(jax.random.permutation(jax.random.split(key)[0], W)).tolist() for key in keys]
    events = [(worker, targets(i)[worker], [worker]) for i, order in enumerate(orders) for worker in order]
    reads = Asynchrony() if lag is None else Asynchrony(reads="lagged", lag=lag, max_lag=3)
    rule = asynchronous(optimizer, W, reads)
    learner, reported = rule.init(KEY, PARAMS), []
    for round_, key in enumerate(keys):
        learner, metrics = jax.jit(rule.update, static_argnums=2)(key, learner, OBJECTIVE, targets(round_))
        reported.append(metrics["staleness"])
    assert_learned(learner, reported, event_loop(optimizer, events, lag or 0))


@pytest.mark.parametrize("max_lead", [None, 1])
@pytest.mark.parametrize("lag", [None, 2])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_on_the_clock_equal_the_event_loop(name, lag, max_lead):
    optimizer = OPTIMIZERS[name]
    settings = Asynchrony("clock", Service("exponential"), max_lead)
    if lag:
        settings = replace(settings, reads="lagged", lag=lag, max_lag=2)
    rule = asynchronous(optimizer, W, settings, max_pushes=3)
    next_batch, update = jax.jit(rule.next_batch), jax.jit(rule.update, static_argnums=2)
    learner, reported, events = rule.init(KEY, PARAMS), [], []
    for i in range(12):
        key_batch, key_update = jax.random.split(jax.random.fold_in(KEY, i))
        learner, batch = next_batch(key_batch, learner, 3)
        learner, metrics = update(key_update, learner, OBJECTIVE, targets(i)[batch.workers], batch)
        pushed = np.asarray(batch.pushed)
        reported.append(np.asarray(metrics["staleness"])[pushed])
        for k in np.flatnonzero(pushed):
            worker = int(batch.pushers[k])
            events.append((worker, targets(i)[worker], np.flatnonzero(batch.pull_after == k).tolist()))
    assert len(events) > 18
    assert_learned(learner, reported, event_loop(optimizer, events, lag or 0))


@pytest.mark.parametrize("max_pushes", [0, W + 1])
def test_a_batch_has_at_least_one_push_and_at_most_one_of_each_worker(max_pushes):
    with pytest.raises(InputError, match=f"max_pushes: {max_pushes} .* an int from 1 to num_workers, {W}"):
        asynchronous(optax.sgd(0.1), W, Asynchrony("clock"), max_pushes=max_pushes)


@pytest.mark.parametrize("schedule", ["random", "clock"])
def test_gradients_at_the_newest_parameters_equal_the_event_loop(schedule):
    optimizer = OPTIMIZERS["adam"]
    settings = Asynchrony(schedule, Service("exponential"), reads="lagged", lag=2, max_lag=3)
    rule: Any = updates.asynchronous_actors(updates.one_step(optimizer), W, settings)
    update = jax.jit(rule.update, static_argnums=2)
    learner, reported, events = rule.init(KEY, PARAMS), [], []
    for i in range(ROUNDS):
        key = jax.random.fold_in(KEY, i)
        if schedule == "clock":
            learner, batch = rule.next_batch(key, learner, W)
            workers, pushed = np.asarray(batch.pushers), np.asarray(batch.pushed)
            pulls = [np.flatnonzero(batch.pull_after == k).tolist() for k in range(len(workers))]
            learner, metrics = update(key, learner, OBJECTIVE, targets(i)[workers], batch)
        else:
            workers = np.asarray(jax.random.permutation(jax.random.split(key)[0], W))
            pushed = np.ones(W, bool)
            pulls = [[worker] for worker in workers]
            learner, metrics = update(key, learner, OBJECTIVE, targets(i))
        reported.append(np.asarray(metrics["staleness"])[pushed])
        events += [(workers[k], targets(i)[workers[k]], pulls[k]) for k in np.flatnonzero(pushed)]
        assert metrics["distance"].shape == metrics["gradient_norm"].shape == workers.shape
    assert_learned(learner, reported, event_loop(optimizer, events, 2, at_newest=True))


def test_a_push_without_a_finite_gradient_changes_nothing_and_its_worker_pulls():
    optimizer = optimizers.with_momentum(OPTIMIZERS["shared_rmsprop"], 0.9)
    rule = asynchronous(optimizer, W, Asynchrony("round_robin"))
    update = jax.jit(rule.update, static_argnums=2)
    learner, reported, events = rule.init(KEY, PARAMS), [], []
    for i in range(ROUNDS):
        bad = (i + 2) % W
        rows = targets(i).at[bad].set(jnp.inf)
        learner, metrics = update(KEY, learner, OBJECTIVE, rows)
        np.testing.assert_array_equal(metrics["skipped_updates"], np.arange(W) == bad)
        reported.append(metrics["staleness"])
        events += [(worker, rows[worker], [worker]) for worker in range(W)]
    assert_learned(learner, reported, event_loop(optimizer, events))


def test_round_robin_makes_every_push_as_stale_as_there_are_other_workers():
    rule = asynchronous(optax.sgd(0.1), W, Asynchrony("round_robin"))
    learner, first = rule.update(KEY, rule.init(KEY, PARAMS), OBJECTIVE, targets(0))
    np.testing.assert_array_equal(first["staleness"], np.arange(W))
    _, second = rule.update(KEY, learner, OBJECTIVE, targets(1))
    np.testing.assert_array_equal(second["staleness"], W - 1)


@pytest.mark.parametrize("shape", [PARAMS["matrix"].shape, (190, 180)], ids=["small", "filled up"])
@pytest.mark.parametrize("reads", ["torn_leaves", "torn_elements"])
def test_a_torn_read_takes_every_leaf_or_element_from_one_of_the_last_versions(reads, shape):
    """SGD on a constant gradient: the value of an element says which version it is from."""
    objective = objective_of(lambda params, target: (ravel(params).sum(), {}))
    rule = asynchronous(optax.sgd(1.0), W, Asynchrony(reads=reads, max_lag=2))
    learner = rule.init(KEY, {"matrix": jnp.zeros(shape), "bias": jnp.zeros_like(PARAMS["bias"])})
    ages: dict[str, list] = {"matrix": [], "bias": []}
    for i in range(40):
        learner, _ = rule.update(jax.random.fold_in(KEY, i), learner, objective, targets(0))
        snapshots = rule.actor(learner)
        for name, leaf in snapshots.items():
            pulled = np.broadcast_to(np.reshape(learner.pulled_version, (W,) + (1,) * (leaf.ndim - 1)), leaf.shape)
            ages[name].append((pulled + leaf).reshape(W, -1))  # element of version v is -v
    assert learner.params["bias"][0] == -40 * W
    found = {name: np.concatenate(rows[1:]) for name, rows in ages.items()}
    matrix, bias = found["matrix"], found["bias"]
    whole = all((rows == rows[:, :1]).all() for rows in (matrix, bias))
    assert whole == (reads == "torn_leaves")
    assert (matrix[:, 0] != bias[:, 0]).any()
    for rows in (matrix, bias):
        assert set(np.unique(rows)) == {0, 1, 2}
        assert abs((rows == 1).mean() - 1 / 3) < 0.1


def ravel(params):
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(params)])


def test_staleness_has_mean_workers_minus_one_and_stays_below_twice_that():
    rule = asynchronous(optax.sgd(0.0), W, Asynchrony())

    def round_(learner, key):
        learner, reported = rule.update(key, learner, OBJECTIVE, targets(0))
        return learner, reported["staleness"]

    keys = jax.random.split(jax.random.key(0), 200)
    _, staleness = jax.lax.scan(round_, rule.init(KEY, PARAMS), keys)
    mean = staleness.mean(1)
    assert mean[0] == (W - 1) / 2  # in the first round all workers pulled at version 0
    np.testing.assert_array_equal(mean[1:], W - 1)
    assert staleness.max() == 2 * W - 2
    assert len(set(np.asarray(staleness.max(1)).tolist())) > 2  # the order is random


def quadratic(curvature):
    """An objective whose gradient at ``w`` is ``curvature * w``, whatever the trajectories."""
    return objective_of(lambda params, batch: (0.5 * curvature * (params**2).sum(), {}))


def test_a_delay_is_stable_on_a_quadratic_up_to_the_rate_that_theory_gives():
    """``w <- w - rate * curvature * w[-tau]`` converges iff rate * curvature < 2 sin(pi / (2 (2 tau + 1)))."""

    def final_size(tau, rate):
        rule = asynchronous(optax.sgd(rate), 1, Asynchrony(reads="lagged", lag=tau, max_lag=15))

        def update(learner, _):
            learner, reported = rule.update(KEY, learner, quadratic(1.0), jnp.zeros(1))
            return learner, (jnp.abs(learner.params), reported["staleness"])

        _, (sizes, staleness) = jax.lax.scan(update, rule.init(KEY, jnp.float32(1.0)), length=2000)
        return sizes[-200:].max(), staleness[-1, 0]

    tau = jnp.array([0.0, 1.0, 3.0, 7.0, 15.0])
    boundary = 2 * jnp.sin(jnp.pi / (2 * (2 * tau + 1)))
    np.testing.assert_allclose(boundary, [2, 1, 0.445, 0.209, 0.101], atol=5e-4)
    below, staleness = jax.jit(jax.vmap(final_size))(tau, 0.97 * boundary)
    above, _ = jax.jit(jax.vmap(final_size))(tau, 1.03 * boundary)
    np.testing.assert_array_equal(staleness, tau)
    assert (below < 0.1).all()
    assert not (above <= 10).any()  # NaN where it has overflown


def test_asynchrony_begets_momentum():
    """The mean of runs with exponential service is heavy ball with momentum 1 - 1/N (Mitliagkas 2016, 1605.09774)."""
    n, rate, steps, runs = 4, 0.3, 30, 20_000
    rule = asynchronous(optax.sgd(rate), n, Asynchrony("clock", Service("exponential")), max_pushes=1)

    def run(key):
        def update(learner, key):
            learner, batch = rule.next_batch(key, learner, 1)
            learner, _ = rule.update(key, learner, quadratic(1.0), jnp.zeros(1), batch)
            return learner, learner.params

        key_init, key_run = jax.random.split(key)
        return jax.lax.scan(update, rule.init(key_init, jnp.float32(1.0)), jax.random.split(key_run, steps))[1]

    found = jax.jit(lambda keys: jax.vmap(run)(keys))(jax.random.split(KEY, runs))
    w, velocity, expected = 1.0, -rate, []  # the first gradient is at the start, whoever pushes
    for _ in range(steps):
        w += velocity
        expected.append(w)
        velocity = (1 - 1 / n) * velocity - rate / n * w
    error = np.asarray(found).std(0) / np.sqrt(runs)
    assert np.min(expected) < -0.3  # it overshoots, as plain gradient descent at this rate never does
    np.testing.assert_array_less(np.abs(found.mean(0) - np.array(expected)), 4.5 * error + 1e-5)


def test_each_worker_pulls_right_after_its_own_push():
    rule = asynchronous(optax.sgd(0.1), W, Asynchrony())
    learner, _ = rule.update(jax.random.key(3), rule.init(KEY, PARAMS), OBJECTIVE, targets(0))
    order = np.asarray(jax.random.permutation(jax.random.split(jax.random.key(3))[0], W))
    np.testing.assert_array_equal(learner.pulled_version[order], np.arange(1, W + 1))
    newest = jax.tree.map(lambda x: x[order[-1]], rule.actor(learner))
    jax.tree.map(np.testing.assert_array_equal, newest, learner.params)


@pytest.mark.parametrize(("lag", "pushes"), [(0.49, 0), (0.5, 0), (1.5, 2), (2.5, 2), (2.51, 3)])
def test_a_lag_is_rounded_alike_whether_it_is_traced_or_not(lag, pushes):
    def versions(lag):
        rule = asynchronous(optax.sgd(0.1), 1, Asynchrony(reads="lagged", lag=lag, max_lag=3))
        learner = rule.init(KEY, PARAMS)
        for i in range(4):
            learner, _ = rule.update(KEY, learner, OBJECTIVE, targets(i)[:1])
        return learner.pulled_version

    assert jax.jit(lambda: versions(lag))() == jax.jit(versions)(lag) == 4 - pushes


def test_one_worker_is_lockstep_exactly():
    optimizer = OPTIMIZERS["shared_rmsprop"]
    lone: Any = asynchronous(optimizer, 1, Asynchrony())
    lockstep: Any = updates.synchronous(optimizer)
    a, b = lone.init(KEY, PARAMS), lockstep.init(KEY, PARAMS)
    for round_ in range(ROUNDS):
        one = targets(round_)[:1, None]
        objective = objective_of(lambda params, target: distance(params, target[0]))
        a, reported = lone.update(jax.random.key(round_), a, objective, one)
        b, reported_too = lockstep.update(jax.random.key(round_), b, objective, one)
        assert reported.keys() == reported_too.keys()
        np.testing.assert_allclose(reported["gradient_norm"], reported_too["gradient_norm"], rtol=1e-6)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), a.params, b.params)


def test_sequential_sgd_pushes_from_one_theta_are_one_step_on_the_mean_gradient_and_rmsprop_pushes_are_not():
    """The first round, in which all workers hold the same parameters."""

    def first_round(make_optimizer):
        in_order = asynchronous(make_optimizer(0.1 / W), W, Asynchrony())
        learner, _ = in_order.update(KEY, in_order.init(KEY, PARAMS), OBJECTIVE, targets(0))
        together = objective_of(
            lambda params, target: jax.tree.map(jnp.mean, jax.vmap(distance, (None, 0))(params, target))
        )
        at_once: Any = updates.synchronous(make_optimizer(0.1))
        # [W, 1, ...] is W workers of one environment each, merged into a batch of W.
        lockstep, _ = at_once.update(KEY, at_once.init(KEY, PARAMS), together, targets(0)[:, None])
        return np.max(np.abs(learner.params["matrix"] - lockstep.params["matrix"]))

    assert first_round(optax.sgd) < 1e-6
    assert first_round(lambda rate: optax.rmsprop(rate, decay=0.9)) > 1e-2


def test_rmsprop_has_epsilon_inside_the_root_and_anneals_to_zero():
    optimizer = optimizers.make(replace(RMSPROP, max_gradient_norm=jnp.inf), num_updates=10)
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
    optimizer = optimizers.make(replace(RMSPROP, max_gradient_norm=1.0, anneal_learning_rate=False), 10)
    direction = jnp.array([3.0, 4.0])
    clipped = optimizer.update(direction / 5, optimizer.init(direction))[0]
    for size in (1.0, 10.0):
        np.testing.assert_allclose(optimizer.update(size * direction, optimizer.init(direction))[0], clipped, rtol=1e-5)


def test_adam_on_one_vector_is_adam_leaf_by_leaf_behind_a_clip_of_the_norm_of_all():
    settings = optimizers.Adam(learning_rate=0.1, anneal_learning_rate=False, max_gradient_norm=0.5, adam_epsilon=1e-5)
    optimizer = optimizers.make(settings, num_updates=3)
    leaf_by_leaf = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1, eps=1e-5))
    params = {"a": jnp.ones((2, 3)), "b": jnp.zeros(4)}
    state, expected_state = optimizer.init(params), leaf_by_leaf.init(params)
    for scale in (1.0, 1e-3, 10.0):  # clipped, not clipped, clipped
        gradient = jax.tree.map(lambda x, scale=scale: scale * (jnp.arange(x.size).reshape(x.shape) - 1.0), params)
        step, state = optimizer.update(gradient, state, params)
        expected, expected_state = leaf_by_leaf.update(gradient, expected_state, params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), step, expected)
