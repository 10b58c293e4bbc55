"""The action spaces that policies know: every environment's is one of these."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Discrete(NamedTuple):
    """One of ``n`` actions: int32 ``[]``."""

    n: int

    def sample(self, key):
        """A uniformly random action."""
        return jax.random.randint(key, (), 0, self.n)


class MultiDiscrete(NamedTuple):
    """Several choices at once: int32 ``[K]``, choice ``i`` in ``0 .. sizes[i] - 1``."""

    sizes: tuple[int, ...]

    def sample(self, key):
        """A uniformly random action."""
        return jax.random.randint(key, (len(self.sizes),), 0, jnp.array(self.sizes))


class Continuous(NamedTuple):
    """``size`` numbers, float32 ``[D]``: in [-1, 1] if ``bounded``, otherwise any.

    Suites map [-1, 1] to the bounds of their own and clip what lies outside.
    """

    size: int
    bounded: bool = True

    def sample(self, key):
        """A uniformly random action; a standard normal one if there are no bounds."""
        if self.bounded:
            return jax.random.uniform(key, (self.size,), minval=-1.0, maxval=1.0)
        return jax.random.normal(key, (self.size,))


def to_bounds(action, low, high, shape):
    """The action of ``shape`` between ``low`` and ``high`` that ``action``, float32 ``[D]`` in [-1, 1], stands for."""
    unit = (jnp.clip(action.reshape(shape), -1.0, 1.0) + 1.0) / 2.0
    low, high = (jnp.broadcast_to(jnp.asarray(bound, jnp.float32), shape) for bound in (low, high))
    return low + (high - low) * unit
