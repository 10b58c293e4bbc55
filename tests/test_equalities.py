"""Algorithms that must coincide where their definitions do."""

from typing import Any

import jax
import numpy as np
import pytest

from purejaxrl_a3c import a2c, a3c, impala, make_train, updates
from purejaxrl_a3c.config import replace

pytestmark = pytest.mark.usefixtures("optimized")

# The algorithms have defaults of their own; here they must agree in everything.
SAME: dict[str, Any] = {
    "env_id": "CartPole-v1",
    "rollout_length": 5,
    "hidden_sizes": (8,),
    "total_frames": 5 * 4 * 30,
    "learning_rate": 1e-3,
    "gae_lambda": 0.9,
}


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4), a, b)


@pytest.mark.parametrize("shared_torso", [False, True])
def test_a3c_with_one_worker_is_a2c(shared_torso):
    key = jax.random.key(0)
    one = jax.jit(
        make_train(replace(a3c.Config(), num_workers=1, envs_per_worker=4, shared_torso=shared_torso, **SAME))
    )(key)
    lockstep = jax.jit(make_train(replace(a2c.Config(), num_envs=4, shared_torso=shared_torso, **SAME)))(key)
    assert_close(one.state.learner.params, lockstep.state.learner.params)
    assert_close(one.metrics, lockstep.metrics)
    assert one.metrics.losses["staleness_max"].max() == 0


def test_a3c_with_more_workers_is_not():
    key = jax.random.key(0)
    four = jax.jit(make_train(replace(a3c.Config(), num_workers=4, envs_per_worker=1, **SAME)))(key)
    lockstep = jax.jit(make_train(replace(a2c.Config(), num_envs=4, **SAME)))(key)
    # The first rollout is the same, in whichever way its environments are dealt out; from then on not.
    difference = np.abs(four.metrics.losses["value_loss"] / lockstep.metrics.losses["value_loss"] - 1)
    assert difference[0] < 1e-4
    assert difference[-1] > 1e-2


@pytest.mark.parametrize("off_policy", ["vtrace", "one_step", "none"])
def test_impala_without_a_lag_is_a2c(off_policy):
    key = jax.random.key(0)
    newest = updates.Asynchrony()  # with one worker: no lag
    config = replace(
        impala.Config(), num_workers=1, envs_per_worker=4, asynchrony=newest, off_policy=off_policy, **SAME
    )
    corrected = jax.jit(make_train(config))(key)
    lockstep = jax.jit(make_train(replace(a2c.Config(), num_envs=4, **SAME)))(key)
    assert_close(corrected.metrics, lockstep.metrics)


def test_a_lagged_impala_learns_at_the_newest_parameters_and_a_lagged_a3c_at_those_that_acted():
    late: dict[str, Any] = {"asynchrony": updates.Asynchrony(reads="lagged", lag=2.0, max_lag=2)}
    shared: dict[str, Any] = {"num_workers": 1, "envs_per_worker": 4} | late | SAME

    def losses(config):
        metrics = jax.jit(make_train(config))(jax.random.key(0)).metrics
        np.testing.assert_array_equal(metrics.losses["staleness_max"][2:], 2)
        return metrics.losses["value_loss"]

    # The first two rounds act with the same parameters. Only the second learns at others.
    difference = np.abs(
        losses(replace(impala.Config(), off_policy="none", **shared)) / losses(replace(a3c.Config(), **shared)) - 1
    )
    assert difference[0] < 1e-5 < 1e-4 < difference[1]
