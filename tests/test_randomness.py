import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c import randomness

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
