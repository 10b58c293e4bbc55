"""The generator written out draws JAX's numbers, once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c import a2c, make_train
from purejaxrl_a3c.backend import threefry
from purejaxrl_a3c.backend.threefry import written_out
from purejaxrl_a3c.config import replace

pytestmark = pytest.mark.usefixtures("optimized")

DRAWS = {
    "uniform": lambda key: jax.random.uniform(key, (5,)),
    "a scalar": jax.random.uniform,
    "normal": lambda key: jax.random.normal(key, (3, 2)),
    "integers": lambda key: jax.random.randint(key, (4,), -3, 9),
    "a permutation": lambda key: jax.random.permutation(key, 7),
    "bits": lambda key: jax.random.bits(key, (3,), jnp.uint8),
    "keys": lambda key: jax.random.key_data(jax.random.split(key, (2, 3))),
    "a key": lambda key: jax.random.key_data(jax.random.fold_in(key, 2**31 + 7)),
    "of keys": lambda key: jax.vmap(lambda key: jax.random.uniform(key, (2,)))(jax.random.split(key, 3)),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("partitionable", [True, False])
def test_the_numbers_are_those_of_jax(name, partitionable):
    with jax.threefry_partitionable(partitionable):
        for seed in (0, 1, 2**31 + 1):
            key = jax.random.key(seed)
            np.testing.assert_array_equal(jax.jit(DRAWS[name])(written_out(key)), DRAWS[name](key))


def test_a_run_draws_from_it_and_is_the_same(monkeypatch):
    config = replace(a2c.Config(), num_envs=2, total_frames=100)
    key, asked = jax.random.key(0), []

    def jax_instead(key):
        asked.append(key)
        return key

    result = jax.jit(make_train(config))(key)
    monkeypatch.setattr("purejaxrl_a3c.backend.threefry.written_out", jax_instead)
    expected = jax.jit(make_train(config))(key)
    assert asked
    # Two programs, of which XLA may round one otherwise.
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), result, expected)


@pytest.mark.parametrize("pair", [False, True])
def test_on_other_devices_the_words_are_those_of_jaxs_own_primitive(pair):
    words = jnp.uint32(7), jnp.array([[3], [2**32 - 1]], jnp.uint32), jnp.arange(5, dtype=jnp.uint32)[None]
    np.testing.assert_array_equal(threefry._elsewhere(*words, pair=pair), threefry._on_the_cpu(*words, pair=pair))


def test_it_is_lowered_for_other_devices():
    draw = jax.jit(jax.vmap(lambda key: jax.random.uniform(written_out(key), (5,))))
    text = draw.trace(jax.random.split(jax.random.key(0), 3)).lower(lowering_platforms=("cuda",)).as_text()
    assert "threefry2x32" in text
    assert "optimization_barrier" not in text


def test_keys_of_other_generators_stay_as_they_are():
    key = jax.random.key(3, impl="rbg")
    assert written_out(key) is key
    again = written_out(written_out(jax.random.key(3)))
    np.testing.assert_array_equal(jax.random.key_data(again), jax.random.key_data(jax.random.key(3)))
