"""One battery over every update rule."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from purejaxrl_a3c import updates
from purejaxrl_a3c.types import ClockedRule, Objective
from purejaxrl_a3c.updates import CORRECTIONS, Asynchrony, Service, optimizers

W = 4
KEY = jax.random.key(0)
PARAMS = {"matrix": jnp.arange(6.0).reshape(3, 2), "bias": jnp.ones(3)}
CLOCK = Asynchrony("clock", Service("gamma", 0.6, slowness=(1.0, 1.0, 1.0, 2.0)), max_lead=2, reads="torn_elements")


def mean_distance(params, rows, *adapted):
    distance = jnp.mean((rows - params["matrix"].sum(1)[None]) ** 2) + jnp.mean(rows @ params["bias"])
    return distance, {"distance": distance, "kl": 0.0 * distance}


OBJECTIVE = Objective(lambda params, rows: rows, mean_distance)


def asynchronous(asynchrony, **options):
    return lambda optimizer, axis: updates.asynchronous(optimizer, W, asynchrony, axis_name=axis, **options)


def actors(asynchrony):
    return lambda optimizer, axis: updates.asynchronous_actors(updates.one_step(optimizer, axis), W, asynchrony)


def averaging(mix):
    return lambda optimizer, axis: updates.averaging(optimizer, W, 2, mix, axis)


RULES: dict[str, Any] = {
    "synchronous": updates.synchronous,
    "lockstep": lambda optimizer, axis: updates.lockstep(
        updates.in_passes(optimizer, 2, 1, target_kl=0.1, adaptive=updates.adaptive_kl(1.0, 0.1), axis_name=axis)
    ),
    "random": asynchronous(Asynchrony()),
    "round_robin_lagged": asynchronous(Asynchrony("round_robin", reads="lagged", lag=1.0, max_lag=2)),
    "torn_leaves": asynchronous(Asynchrony(reads="torn_leaves")),
    "clock": asynchronous(CLOCK),
    "actors": actors(Asynchrony()),
    "clocked_actors": actors(CLOCK),
    "actors_in_passes": lambda optimizer, axis: updates.asynchronous_actors(
        updates.in_passes(optimizer, 2, 1, axis_name=axis), W, Asynchrony("round_robin")
    ),
    "overlapped": lambda optimizer, axis: updates.overlapped(optimizer, W, Asynchrony(device_delay=2), axis),
    "mean": averaging(updates.mean(optax.sgd(0.7, 0.9, nesterov=True))),
    "ring": averaging(updates.ring()),
}


def make(name, axis_name=None):
    """The rule, with every part that an optimizer can have."""
    optimizer = optimizers.with_momentum(optimizers.make(optimizers.RMSProp(learning_rate=0.1), num_updates=100), 0.5)
    if name in ("random", "clock"):
        optimizer = CORRECTIONS["adaptive_delay"](optimizer, 0.1)
    return RULES[name](optimizer, axis_name)


def rows(seed, bad=()):
    """What the workers have collected, float32 ``[W, 2, 3]``; that of the workers ``bad`` has no finite gradient."""
    found = jax.random.normal(jax.random.key(seed), (W, 2, 3), jnp.float32)
    return found.at[jnp.array(bad, jnp.int32), 0, 0].set(jnp.nan)


def advance(rule, key, learner, rows):
    """One update, or one batch of pushes, with the ``rows`` of the workers that take part."""
    if isinstance(rule, ClockedRule):
        learner, batch = rule.next_batch(key, learner, jnp.int32(W))
        return rule.update(key, learner, OBJECTIVE, rows[batch.workers], batch)
    workers = jax.tree.leaves(rule.actor(learner))[0].shape[0]
    return rule.update(key, learner, OBJECTIVE, rows.reshape(workers, -1, 3))


@pytest.mark.parametrize("name", RULES)
def test_split_says_along_which_axis_devices_share_each_array(name):
    """Compared with the shapes of the parts that one and two devices have."""
    found = []

    def init(key):
        rule = make(name, "device")
        learner = rule.init(key, PARAMS)
        found.append(rule.split(learner))
        return learner

    def shapes(devices):
        return jax.eval_shape(jax.vmap(init, in_axes=None, out_axes=0, axis_name="device", axis_size=devices), KEY)

    whole, half = shapes(1), shapes(2)
    assert found[0] == found[1] == make(name).split(make(name).init(KEY, PARAMS))

    def check(axis, whole, half):
        expected = [n // 2 if i == axis else n for i, n in enumerate(whole.shape[1:])]
        assert list(half.shape[1:]) == expected

    jax.tree.map(check, found[0], whole, half)


@pytest.fixture
def x64():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def types(tree):
    return jax.tree.map(lambda x: x.dtype, tree)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", RULES)
def test_no_rule_makes_64_bit_numbers_where_jax_would(name):
    rule = make(name)
    before = jax.eval_shape(rule.init, KEY, PARAMS)
    after, reported = jax.eval_shape(lambda key, learner: advance(rule, key, learner, rows(1)), KEY, before)
    assert types(after) == types(before)
    assert {str(x.dtype) for x in jax.tree.leaves((after, reported))} == {"float32", "int32"}


@pytest.mark.parametrize("name", ["clock", "torn_leaves"])
def test_the_run_in_64_bit_mode_is_the_run_in_32_bit_mode(name, request):
    def learn():
        rule = make(name)
        step = jax.jit(lambda i, learner: advance(rule, jax.random.fold_in(KEY, i), learner, rows(1))[0])
        learner = rule.init(KEY, PARAMS)
        for i in range(3):
            learner = step(i, learner)
        return learner

    expected = learn()
    request.getfixturevalue("x64")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), learn(), expected)


def changed_by_gradients(learner):
    """The parts of a learner that change with the gradients it gets."""
    names = ("params", "opt_state", "workers", "mix_state")
    return {name: getattr(learner, name) for name in names if hasattr(learner, name)}


@pytest.mark.parametrize("name", RULES)
def test_a_gradient_that_is_not_finite_changes_neither_parameters_nor_statistics(name):
    rule = make(name)
    step = jax.jit(lambda i, learner, rows: advance(rule, jax.random.fold_in(KEY, i), learner, rows))
    learner, nothing_finite = rule.init(KEY, PARAMS), rows(0, bad=range(W))
    for i in range(4):  # The statistics are no longer those of the start, and workers are mixed in every second round.
        learner, reported = step(i, learner, rows(i))
        assert not reported["skipped_updates"].any()
    if name == "overlapped":  # Gradients take two rounds to reach the parameters that devices have in common.
        learner, _ = step(4, learner, nothing_finite)
        learner, _ = step(5, learner, nothing_finite)
    after, reported = step(6, learner, nothing_finite)
    np.testing.assert_array_equal(reported["skipped_updates"], 1.0)
    jax.tree.map(np.testing.assert_array_equal, changed_by_gradients(after), changed_by_gradients(learner))


@pytest.mark.parametrize("optimizer", [optax.sgd(0.1), optimizers.make(optimizers.Adam(), 10)])
def test_a_finite_gradient_is_applied_as_optax_does(optimizer):
    params, gradient = {"a": jnp.arange(3.0), "b": jnp.float32(2)}, {"a": jnp.ones(3), "b": jnp.float32(-1)}
    found = updates.apply_gradient(optimizer, gradient, optimizer.init(params), params)
    step, opt_state = optimizer.update(gradient, optimizer.init(params), params)
    jax.tree.map(np.testing.assert_array_equal, found, (optax.apply_updates(params, step), opt_state))
    unchanged = updates.apply_gradient(optimizer, gradient, opt_state, params, where=jnp.bool_(False))
    jax.tree.map(np.testing.assert_array_equal, unchanged, (params, opt_state))


@pytest.mark.parametrize("name", ["synchronous", "random", "clock"])
def test_a_clipped_gradient_is_reported(name):
    """All workers bring a gradient of another size; the limit lies between them."""
    config = optimizers.RMSProp(max_gradient_norm=50.0)
    rule = optimizers.report_clipping(make(name), config)
    scales = jnp.array([1.0, 1.0, 1e3, jnp.nan]).reshape(W, 1, 1)
    _, reported = jax.jit(lambda learner: advance(rule, KEY, learner, scales * rows(1)))(rule.init(KEY, PARAMS))
    norm = np.asarray(reported["gradient_norm"])
    expected = np.isfinite(norm) & (norm > 50)
    np.testing.assert_array_equal(reported["gradient_clipped"], expected.astype(np.float32))
    assert reported["gradient_clipped"].dtype == jnp.float32
    if name == "random":
        assert expected.tolist() == [False, False, True, False]
    assert optimizers.report_clipping(rule, optax.sgd(0.1)) is rule
