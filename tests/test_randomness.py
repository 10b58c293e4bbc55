import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import InputError

pytestmark = pytest.mark.usefixtures("optimized")

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


# Keys as they are given


def numbers(key):
    return jax.random.uniform(key, (3,))


@pytest.mark.parametrize(
    "to_given", [lambda key: key, jax.random.key_data, lambda key: np.asarray(jax.random.key_data(key))]
)
def test_a_raw_key_gives_the_numbers_of_the_typed_one(to_given):
    np.testing.assert_array_equal(numbers(randomness.as_key(to_given(KEY))), numbers(KEY))
    keys = jax.random.split(KEY, 4)
    typed = randomness.as_keys(to_given(keys))
    assert typed.shape == (4,)
    np.testing.assert_array_equal(jax.vmap(numbers)(typed), jax.vmap(numbers)(keys))


def test_the_key_of_prng_key_is_the_one_of_key():
    np.testing.assert_array_equal(numbers(randomness.as_key(jax.random.PRNGKey(3))), numbers(KEY))


@pytest.mark.parametrize("to_given", [lambda key: key, jax.random.key_data])
def test_keys_may_be_traced(to_given):
    keys = jax.random.split(KEY, 4)
    expected = jax.vmap(numbers)(keys)
    one = jax.jit(lambda key: numbers(randomness.as_key(key)))
    np.testing.assert_array_equal(one(to_given(keys[0])), expected[0])
    np.testing.assert_array_equal(jax.vmap(one)(to_given(keys)), expected)
    many = jax.jit(lambda keys: jax.vmap(numbers)(randomness.as_keys(keys)))
    np.testing.assert_array_equal(many(to_given(keys)), expected)


@pytest.mark.parametrize("key", [0, None, "0", 1.0, np.zeros(2), jnp.zeros(2, jnp.int32), jnp.zeros(3, jnp.uint32)])
def test_what_is_no_key_is_refused_by_name(key):
    with pytest.raises(InputError, match=r"key_run: .* is not accepted; it must be a key, such as jax.random.key\(0\)"):
        randomness.as_key(key, "key_run")
    with pytest.raises(InputError, match=r"keys: .* is not accepted; it must be a batch of keys, such as"):
        randomness.as_keys(key)


@pytest.mark.parametrize("to_given", [lambda key: key, jax.random.key_data])
def test_a_batch_is_not_a_key_and_a_key_is_not_a_batch(to_given):
    with pytest.raises(InputError, match=r"(?s)key: .*one key, not a batch of shape \(4,\): vmap over them"):
        randomness.as_key(to_given(jax.random.split(KEY, 4)))
    for keys in (KEY, jax.random.split(KEY, (2, 3))):
        with pytest.raises(InputError, match=r"(?s)keys: .* a batch of keys"):
            randomness.as_keys(to_given(keys))
