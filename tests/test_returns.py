from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from purejaxrl_a3c.objectives import returns

pytestmark = pytest.mark.usefixtures("optimized")

SEEDS = range(5)


def as_jax(block):
    return {name: jnp.asarray(x, jnp.float32) for name, x in block.items()}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("gae_lambda", [0.0, 0.8, 1.0])
def test_gae_equals_the_loop(seed, gae_lambda):
    block = reference.block(seed, 12)
    assert block["last"][:-1].any()
    targets = returns.gae(**as_jax(block), gae_lambda=gae_lambda)
    expected = reference.gae(**block, gae_lambda=gae_lambda)
    np.testing.assert_allclose(targets.advantage, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(targets.value, expected + block["value"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [1, 2, 5, 12, 100])
def test_n_step_equals_the_loop(seed, n):
    block = reference.block(seed, 12, ends=0.2)
    targets = returns.n_step(**as_jax(block), n=n)
    expected = reference.n_step_return(**block, n=n)
    np.testing.assert_allclose(targets.value, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(targets.advantage, expected - block["value"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_n_step_over_the_whole_block_is_gae_with_gae_lambdaone(seed):
    # The two agree only where next_value is the value of the state that follows.
    block = reference.block(seed, 12)
    inside = block["last"][:-1] == 0
    block["next_value"][:-1][inside] = block["value"][1:][inside]
    arrays = as_jax(block)
    whole, gae = returns.n_step(**arrays, n=12), returns.gae(**arrays, gae_lambda=1.0)
    np.testing.assert_allclose(whole.value, gae.value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("gae_lambda", "clip_rho", "clip_c"), [(1.0, 1.0, 1.0), (0.7, 2.0, 0.5), (1.0, 0.5, 3.0)])
def test_vtrace_equals_the_definition(seed, gae_lambda, clip_rho, clip_c):
    block = reference.block(seed, 12)
    log_rho = np.random.default_rng(seed).normal(size=12)
    assert (np.exp(log_rho) > clip_rho).any()
    assert (np.exp(log_rho) < clip_c).any()
    clips = {"gae_lambda": gae_lambda, "clip_rho": clip_rho, "clip_c": clip_c}
    targets = returns.vtrace(**as_jax(block), log_rho=jnp.asarray(log_rho, jnp.float32), **clips)
    expected = reference.vtrace_value(**block, log_rho=log_rho, **clips)
    np.testing.assert_allclose(targets.value, expected, rtol=1e-4, atol=1e-5)
    # The advantage bootstraps from the corrected value of the successor.
    ahead = gae_lambda * (1 - block["last"]) * np.append((expected - block["value"])[1:], 0.0)
    q = block["reward"] + block["discount"] * (block["next_value"] + ahead)
    rho = np.minimum(clip_rho, np.exp(log_rho))
    np.testing.assert_allclose(targets.advantage, rho * (q - block["value"]), rtol=1e-4, atol=1e-5)


def test_vtrace_with_weight_one_is_gae_and_with_weight_zero_is_the_value():
    arrays = as_jax(reference.block(0, 12))
    gae = returns.gae(**arrays, gae_lambda=0.8)
    on_policy = returns.vtrace(**arrays, log_rho=jnp.zeros(12), gae_lambda=0.8)
    np.testing.assert_array_equal(on_policy.value, gae.value)
    np.testing.assert_array_equal(on_policy.advantage, gae.advantage)
    never = returns.vtrace(**arrays, log_rho=jnp.full(12, -jnp.inf))
    np.testing.assert_array_equal(never.value, arrays["value"])
    np.testing.assert_array_equal(never.advantage, jnp.zeros(12))


def test_importance_weights_do_not_overflow():
    """With unbounded clips: infinity times the mask of an ended episode would be NaN."""
    arrays = as_jax(reference.block(0, 12))
    assert arrays["last"].any()
    for gae_lambda in (0.0, 1.0):
        clips: Any = {"gae_lambda": gae_lambda, "clip_rho": jnp.inf, "clip_c": 1.0 if gae_lambda else jnp.inf}
        with jax.debug_nans(True):
            targets = returns.vtrace(**arrays, log_rho=jnp.full(12, 1000.0), **clips)
        assert jnp.isfinite(targets.value).all()
        assert jnp.isfinite(targets.advantage).all()


def test_an_ended_episode_hides_the_rewards_that_follow():
    arrays = as_jax(reference.block(0, 12, ends=0.0))
    arrays["last"] = arrays["last"].at[5].set(1.0)
    later = arrays | {"reward": arrays["reward"].at[6:].add(100.0)}
    for estimate in (
        lambda block: returns.gae(**block, gae_lambda=1.0),
        lambda block: returns.n_step(**block, n=4),
        lambda block: returns.vtrace(**block, log_rho=jnp.zeros(12)),
    ):
        before, after = estimate(arrays), estimate(later)
        np.testing.assert_array_equal(before.value[:6], after.value[:6])
        np.testing.assert_array_equal(before.advantage[:6], after.advantage[:6])
        assert (before.value[6:] != after.value[6:]).all()


def test_no_gradient_flows_through_the_targets():
    arrays = as_jax(reference.block(0, 12))

    def total(value):
        targets = returns.gae(**(arrays | {"value": value, "next_value": value}), gae_lambda=0.9)
        return targets.value.sum() + targets.advantage.sum()

    np.testing.assert_array_equal(jax.grad(total)(arrays["value"]), jnp.zeros(12))


def test_n_must_be_positive():
    with pytest.raises(ValueError, match="n: 0 is not accepted"):
        returns.n_step(**as_jax(reference.block(0, 3)), n=0)
