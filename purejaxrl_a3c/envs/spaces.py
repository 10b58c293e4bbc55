"""Action spaces that policies know: the action space of every environment is one of these."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.types import Action, Key


class Discrete(NamedTuple):
    """One of ``n`` actions: int32 ``[]``."""

    n: int

    def sample(self, key: Key) -> Action:
        """A uniformly random action."""
        return jax.random.randint(key, (), 0, self.n)


class MultiDiscrete(NamedTuple):
    """Several choices at once: int32 ``[K]``; choice ``i`` lies in ``0 .. sizes[i] - 1``."""

    sizes: tuple[int, ...]

    def sample(self, key: Key) -> Action:
        """A uniformly random action."""
        return jax.random.randint(key, (len(self.sizes),), 0, jnp.array(self.sizes))


class Continuous(NamedTuple):
    """``size`` numbers, float32 ``[D]``: in [-1, 1] if ``bounded``, otherwise any.

    The suites map [-1, 1] to the bounds of the environment and clip actions that lie outside.
    """

    size: int
    bounded: bool = True

    def sample(self, key: Key) -> Action:
        """A uniformly random action; a standard normal one if there are no bounds."""
        if self.bounded:
            return jax.random.uniform(key, (self.size,), minval=-1.0, maxval=1.0)
        return jax.random.normal(key, (self.size,))


def to_bounds(action: Action, low: Any, high: Any, shape: tuple[int, ...]) -> jax.Array:
    """The environment's own action for an action in [-1, 1].

    Args:
        action: float32 ``[D]``.
        low: lower bounds, of a shape that broadcasts to ``shape``.
        high: upper bounds, likewise.
        shape: the shape of the environment's own actions, of ``D`` numbers.

    Returns:
        float32 ``shape``, between the bounds.
    """
    unit = (jnp.clip(action.reshape(shape), -1.0, 1.0) + 1.0) / 2.0
    low, high = (jnp.broadcast_to(jnp.asarray(bound, jnp.float32), shape) for bound in (low, high))
    return low + (high - low) * unit
