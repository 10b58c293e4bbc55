"""Tests of `backend.vectors`: parameters as one vector or a few, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from purejaxrl_a3c.backend.vectors import LARGE, SHARED, pack, pack_and_back, ravel, ravel_and_back
from purejaxrl_a3c.updates import optimizers

TREE = {"b": jnp.arange(6.0).reshape(2, 3), "a": jnp.float32(7), "c": jnp.array([-1.0, 2.0], jnp.bfloat16)}


def test_ravel_puts_the_leaves_one_after_the_other():
    np.testing.assert_array_equal(ravel(TREE), [7, 0, 1, 2, 3, 4, 5, -1, 2])
    assert ravel(TREE).dtype == ravel_pytree(TREE)[0].dtype == jnp.float32


def test_the_inverse_makes_the_same_leaves_of_the_same_types():
    vector, back = ravel_and_back(TREE)
    for found, expected in zip(jax.tree.leaves(back(vector)), jax.tree.leaves(TREE), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_ravel_may_be_mapped():
    trees = jax.tree.map(lambda x: jnp.stack([x, 2 * x, -x]), TREE)
    one_by_one = [ravel(jax.tree.map(lambda x, i=i: x[i], trees)) for i in range(3)]
    np.testing.assert_array_equal(jax.jit(jax.vmap(ravel))(trees), one_by_one)


@pytest.mark.parametrize("size", [LARGE - 6, LARGE, LARGE + 1, 3 * SHARED + LARGE])
def test_a_vector_that_cores_share_is_filled_up(size):
    tree = {"a": jnp.linspace(1.0, 2.0, size - 5), "b": jnp.full(5, 3.0)}
    vector, back = ravel_and_back(tree)
    assert vector.size == size if size < LARGE else vector.size % SHARED == 0
    assert vector.size - size < SHARED
    np.testing.assert_array_equal(vector[:size], ravel_pytree(tree)[0])
    assert not vector[size:].any()
    jax.tree.map(np.testing.assert_array_equal, back(vector), tree)
    packed, unpack = pack_and_back(tree)
    assert packed.small.size == (vector.size if size - 5 <= LARGE else 5)
    jax.tree.map(np.testing.assert_array_equal, unpack(packed), tree)


def test_no_tree_is_a_vector_of_no_numbers():
    assert ravel({}).shape == (0,)


def test_the_compiled_program_has_no_concatenation():
    trees = {str(i): jnp.ones((64, 64)) * i for i in range(4)}
    assert "concatenate(" not in str(jax.jit(ravel).lower(trees).compile().as_text())


def test_ravel_may_be_mapped_over_some_of_the_leaves_and_twice():
    def of(a, b):
        return ravel({"a": a, "b": b})

    numbers = jnp.arange(6.0).reshape(2, 3)
    found = jax.vmap(jax.vmap(of, (0, None)), (0, None))(numbers, jnp.float32(9))
    np.testing.assert_array_equal(found, jnp.stack([numbers, jnp.full((2, 3), 9.0)], axis=-1))


def test_large_leaves_are_packed_apart_and_come_back():
    tree = {"b": jnp.arange(6.0).reshape(2, 3), "a": jnp.ones((LARGE // 4, 5)), "c": jnp.full(LARGE, 3.0)}
    tree["d"] = jnp.zeros(2 * LARGE)
    packed, back = pack_and_back(tree)
    np.testing.assert_array_equal(packed.small[: LARGE + 6], np.concatenate([np.arange(6.0), np.full(LARGE, 3.0)]))
    assert [x.shape for x in packed.large] == [(LARGE // 4 * 5,), (2 * LARGE,)]
    doubled = back(jax.tree.map(lambda x: 2 * x, packed))
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, 2 * y), doubled, tree)


def test_what_is_packed_stays_so():
    packed = pack(TREE)
    again, back = pack_and_back(packed)
    assert again is pack(packed) is back(packed) is packed


def test_adam_steps_a_packed_as_it_steps_the_tree():
    tree = {"b": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "a": jnp.linspace(-2.0, 3.0, LARGE + 1)}
    optimizer = optimizers.make(optimizers.Adam(max_gradient_norm=0.5), 10)
    of_tree, _ = optimizer.update(tree, optimizer.init(tree), tree)
    packed, back = pack_and_back(tree)
    of_packed, _ = optimizer.update(packed, optimizer.init(packed), packed)
    jax.tree.map(np.testing.assert_array_equal, back(of_packed), of_tree)


@pytest.mark.parametrize("limit", [1.0, jnp.float32(jnp.inf), float("inf")])
def test_an_infinite_limit_clips_nothing_whether_or_not_it_is_traced(limit):
    gradient = {"a": jnp.array([30.0, 40.0])}
    optimizer = optimizers.make(optimizers.RMSProp(max_gradient_norm=limit, anneal_learning_rate=False), 10)
    step, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
    clipped = np.array([30.0, 40.0]) / (50.0 if limit == 1.0 else 1.0)
    np.testing.assert_allclose(step["a"], -7e-4 * clipped / np.sqrt(0.01 * clipped**2 + 1e-5), rtol=1e-5)
