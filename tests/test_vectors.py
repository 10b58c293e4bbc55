"""Tests of `backend.vectors`: parameters as one vector, and back."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from purejaxrl_a3c.backend.vectors import ravel, ravel_and_back

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
