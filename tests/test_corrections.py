import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from purejaxrl_a3c.updates import corrections, optimizers

GRADIENT, NEWEST, PULLED = (np.array(x, np.float32) for x in ([0.5, -2.0], [1.0, 3.0], [0.0, 3.5]))


def update(transformation, state=None, staleness=3):
    state = transformation.init(jnp.asarray(NEWEST)) if state is None else state
    extra = {"staleness": jnp.int32(staleness), "pulled": jnp.asarray(PULLED)}
    return transformation.update(jnp.asarray(GRADIENT), state, jnp.asarray(NEWEST), **extra)


@pytest.mark.parametrize(("staleness", "divisor"), [(0, 1), (1, 1), (2, 2), (31, 31)])
def test_a_step_is_divided_by_its_staleness_but_never_by_less_than_one(staleness, divisor):
    step, _ = update(corrections.CORRECTIONS["staleness"](optax.sgd(0.1), 9.0), staleness=staleness)
    np.testing.assert_allclose(step, -0.1 * GRADIENT / divisor, rtol=1e-6)


def test_division_is_not_undone_by_a_normalising_optimizer():
    step, _ = update(corrections.CORRECTIONS["staleness"](optax.scale_by_rms(0.0), 9.0), staleness=4)
    np.testing.assert_allclose(np.abs(step), 0.25, rtol=1e-3)


def test_delay_compensation_is_a_first_order_step_with_squares_for_the_hessian():
    step, _ = update(corrections.CORRECTIONS["delay"](optax.sgd(1.0), 0.3))
    np.testing.assert_allclose(step, -(GRADIENT + 0.3 * GRADIENT**2 * (NEWEST - PULLED)), rtol=1e-6)


def test_adaptive_compensation_divides_by_the_root_of_the_mean_square():
    transformation = corrections.CORRECTIONS["adaptive_delay"](optax.sgd(1.0), 0.3)
    _, state = update(transformation)
    step, _ = update(transformation, state)
    mean_square = 0.05 * GRADIENT**2 * (1 + 0.95)
    expected = GRADIENT + 0.3 / np.sqrt(mean_square + 1e-7) * GRADIENT**2 * (NEWEST - PULLED)
    np.testing.assert_allclose(step, -expected, rtol=1e-5)


def test_compensation_is_exact_where_the_square_is_the_curvature():
    """The gradient of -log(w) is -1/w and its curvature 1/w^2, the gradient squared: second order remains."""
    pulled, newest = 2.0, 2.02
    transformation = corrections.compensate_delay(1.0)
    found, _ = transformation.update(
        jnp.float32(-1 / pulled), transformation.init(jnp.float32(0)), jnp.float32(newest), pulled=jnp.float32(pulled)
    )
    assert abs(found + 1 / newest) < 0.02 * abs(1 / pulled - 1 / newest)


def test_momentum_adds_up_steps_and_none_is_no_state():
    plain = optax.sgd(0.1)
    assert optimizers.with_momentum(plain, None) is plain
    heavy = optimizers.with_momentum(plain, -0.5)
    state = heavy.init(jnp.asarray(NEWEST))
    for factor in (1.0, 0.5, 0.75):
        step, state = heavy.update(jnp.asarray(GRADIENT), state)
        np.testing.assert_allclose(step, -0.1 * factor * GRADIENT, rtol=1e-6)


def test_a_momentum_of_zero_is_the_same_whether_it_is_traced_or_not():
    def steps(momentum):
        optimizer = optimizers.with_momentum(optax.adam(0.1), momentum)
        state = optimizer.init(jnp.asarray(NEWEST))
        found = []
        for scale in (1.0, -3.0):
            step, state = optimizer.update(jnp.asarray(scale * GRADIENT), state)
            found.append(step)
        return found, state

    concrete, traced = jax.jit(lambda: steps(0.0))(), jax.jit(steps)(0.0)
    jax.tree.map(np.testing.assert_array_equal, traced, concrete)  # and the same state
    np.testing.assert_array_equal(concrete[0], jax.jit(lambda: steps(None))()[0])
