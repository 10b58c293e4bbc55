import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c.backend import randomness

KEY = jax.random.key(3)
DRAWS = {
    "keys": (lambda key, i: jax.random.key_data(randomness.keys_at(key, i)), lambda: jax.random.split(KEY, 24)),
    "uniform": (randomness.uniform_at, lambda: jax.random.uniform(KEY, (24,))),
    "normal": (randomness.normal_at, lambda: jax.random.normal(KEY, (24,))),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_part_of_a_draw_is_that_part_of_the_whole(name):
    draw, whole = DRAWS[name]
    expected = np.asarray(jax.random.key_data(whole()) if name == "keys" else whole())
    np.testing.assert_array_equal(draw(KEY, jnp.arange(24)), expected)
    index = jnp.array([[5, 20], [7, 0]])
    np.testing.assert_array_equal(draw(KEY, index), expected[np.asarray(index)])


def test_components_are_numbered_item_by_item():
    np.testing.assert_array_equal(randomness.components(jnp.array([[0, 2]]), 3), [[[0, 1, 2], [6, 7, 8]]])


@pytest.mark.parametrize("size", [1, 2, 5, 128, 1000, 65536])
def test_a_permutation_has_every_number_once(size):
    orders = jax.vmap(randomness.permutation, (0, None))(jax.random.split(KEY, 3), size)
    np.testing.assert_array_equal(jnp.sort(orders, axis=1), np.broadcast_to(np.arange(size), (3, size)))
    assert size < 100 or not (orders[0] == orders[1]).all()


def test_every_number_comes_everywhere_and_beside_every_other():
    """Against the chi-squared distribution, which a shuffle that prefers some places leaves far behind."""
    size, draws = 12, 20_000
    orders = np.asarray(
        jax.jit(jax.vmap(randomness.permutation, (0, None)), static_argnums=1)(jax.random.split(KEY, draws), size)
    )
    place = np.stack([np.bincount(column, minlength=size) for column in orders.T])
    follows = np.zeros((size, size))
    np.add.at(follows, (orders[:, :-1].ravel(), orders[:, 1:].ravel()), 1)
    follows = follows[~np.eye(size, dtype=bool)]
    for counts, freedom in ((place, size * (size - 1)), (follows, size * (size - 1) - 1)):
        statistic = (np.square(counts - counts.mean()) / counts.mean()).sum()
        assert abs(statistic - freedom) < 5 * np.sqrt(2 * freedom)
