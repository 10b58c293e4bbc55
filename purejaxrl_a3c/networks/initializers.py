"""How weights start."""

from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl_a3c.types import Key


class Initializer(Protocol):
    """What flax calls to make a parameter."""

    def __call__(self, key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        """An array of this shape and type."""
        ...


def orthogonal(scale: float) -> Initializer:
    """Orthogonal initializer (Saxe et al. 2014, arXiv 1312.6120) that is safe to ``vmap``.

    An orthogonal matrix comes from a QR factorisation, and `jax.vmap` over seeds makes a batched QR of it. On jaxlib
    0.10 with two cores a batched QR can deadlock: each thread of the pool that runs the batch waits for tasks that need
    a thread of the same pool. `jax.custom_batching.sequential_vmap` runs the factorisations one after the other, each
    in the calling thread. No other function of the package may call LAPACK.

    Args:
        scale: factor on the orthogonal matrix.

    Returns:
        A flax initializer (key, shape, dtype) -> matrix.
    """

    def init(key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        @jax.custom_batching.sequential_vmap
        def draw(key: Key) -> jax.Array:
            return nn.initializers.orthogonal(scale)(key, shape, dtype)

        return draw(key)

    return init
