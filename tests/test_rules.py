"""One battery over every update rule."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from purejaxrl_a3c import updates
from purejaxrl_a3c.updates import CORRECTIONS, Asynchrony, Service, optimizers

W = 4
KEY = jax.random.key(0)
PARAMS = {"matrix": jnp.arange(6.0).reshape(3, 2), "bias": jnp.ones(3)}
CLOCK = Asynchrony("clock", Service("gamma", 0.6, slowness=(1.0, 1.0, 1.0, 2.0)), max_lead=2, reads="torn_elements")


def asynchronous(asynchrony, **options):
    return lambda optimizer, axis: updates.asynchronous(optimizer, W, asynchrony, axis_name=axis, **options)


def averaging(mix):
    return lambda optimizer, axis: updates.averaging(optimizer, W, 2, mix, axis)


RULES: dict[str, Any] = {
    "synchronous": updates.synchronous,
    "minibatches": lambda optimizer, axis: updates.minibatches(
        optimizer, 2, 1, target_kl=0.1, adaptive=updates.adaptive_kl(1.0, 0.1), axis_name=axis
    ),
    "random": asynchronous(Asynchrony()),
    "round_robin_lagged": asynchronous(Asynchrony("round_robin", reads="lagged", lag=1.0, max_lag=2)),
    "torn_leaves": asynchronous(Asynchrony(reads="torn_leaves")),
    "clock": asynchronous(CLOCK),
    "at_newest": asynchronous(Asynchrony(), gradient_at_newest=True),
    "clock_at_newest": asynchronous(CLOCK, gradient_at_newest=True),
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
