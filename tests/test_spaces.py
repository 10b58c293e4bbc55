import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from purejaxrl_a3c.envs.spaces import Continuous, Discrete, MultiDiscrete, to_bounds


@pytest.mark.parametrize(
    ("low", "high", "shape"),
    [(-2.0, 2.0, (1,)), (0.0, 1.0, ()), (np.array([-1.2, 0.0, 3.0]), np.array([0.5, 7.0, 4.0]), (3,)), (-1, 3, (2, 2))],
)
def test_the_unit_interval_is_mapped_to_the_bounds_and_what_lies_outside_is_clipped(low, high, shape):
    def of(number):
        return to_bounds(jnp.full(int(np.prod(shape)), number), low, high, shape)

    low_, high_ = np.broadcast_to(low, shape), np.broadcast_to(high, shape)
    for number, share in ((-1.0, 0.0), (-0.5, 0.25), (0.0, 0.5), (1.0, 1.0), (-7.0, 0.0), (1.5, 1.0)):
        assert of(number).shape == shape
        np.testing.assert_allclose(of(number), low_ + share * (high_ - low_), rtol=1e-6, atol=1e-6)


def test_numbers_of_an_action_keep_their_places():
    action = jnp.array([-1.0, -0.5, 0.0, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(to_bounds(action, -1.0, 1.0, (2, 3)), action.reshape(2, 3))


def draw(space, count):
    return np.asarray(jax.jit(jax.vmap(space.sample))(jax.random.split(jax.random.key(0), count)))


def test_random_actions_are_uniform_over_each_choice():
    actions = draw(Discrete(5), 2000)
    assert scipy.stats.chisquare(np.bincount(actions, minlength=5)).pvalue > 1e-3
    actions = draw(MultiDiscrete((2, 3)), 2000)
    joint = np.ravel_multi_index(actions.T, (2, 3))
    assert scipy.stats.chisquare(np.bincount(joint, minlength=6)).pvalue > 1e-3


@pytest.mark.parametrize(("bounded", "distribution"), [(True, scipy.stats.uniform(-1, 2)), (False, scipy.stats.norm())])
def test_random_numbers_are_uniform_between_bounds_and_normal_without(bounded, distribution):
    actions = draw(Continuous(3, bounded), 1000)
    assert actions.shape == (1000, 3)
    assert actions.dtype == np.float32
    assert scipy.stats.kstest(actions.ravel(), distribution.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(actions.T)[0, 1]) < 0.2
