"""Action spaces that policies know: the action space of every environment is one of these."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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
    """``size`` numbers, float32 ``[D]``.

    Each component is bounded, and then lies in [-1, 1], or may be any number; see `to_bounds` for how the suites map
    them to the environment's own actions. Make a space in which only some are bounded with `continuous`.
    """

    size: int
    bounded: bool = True  # whether all components are bounded
    bounded_components: tuple[bool, ...] = ()  # which ones are, if it is some of them; otherwise empty

    def sample(self, key: Key) -> Action:
        """A random action: bounded components are uniform, the others standard normal."""
        if self.bounded:
            return jax.random.uniform(key, (self.size,), minval=-1.0, maxval=1.0)
        if not self.bounded_components:
            return jax.random.normal(key, (self.size,))
        key_uniform, key_normal = jax.random.split(key)
        uniform = jax.random.uniform(key_uniform, (self.size,), minval=-1.0, maxval=1.0)
        return jnp.where(np.array(self.bounded_components), uniform, jax.random.normal(key_normal, (self.size,)))


def continuous(bounded: Iterable[bool]) -> Continuous:
    """The continuous space with these components, each bounded on both sides or not."""
    components = tuple(bool(one) for one in bounded)
    some = any(components) and not all(components)
    return Continuous(len(components), all(components), components if some else ())


def to_bounds(action: Action, low: Any, high: Any, shape: tuple[int, ...], bounded: Any = True) -> jax.Array:
    """The environment's own action for an action of a `Continuous` space.

    A component that is bounded on both sides is clipped to [-1, 1] and mapped linearly to its bounds. Any other
    component is passed on as it is, clipped at the one finite bound that it may have.

    Args:
        action: float32 ``[D]``.
        low: lower bounds, of a shape that broadcasts to ``shape``.
        high: upper bounds, likewise.
        shape: the shape of the environment's own actions, of ``D`` numbers.
        bounded: which components are bounded on both sides; bools, of a shape that broadcasts to ``shape``.

    Returns:
        float32 ``shape``, never outside of the bounds.
    """
    action = action.reshape(shape)
    low, high = (jnp.broadcast_to(jnp.asarray(bound, jnp.float32), shape) for bound in (low, high))
    unit = (jnp.clip(action, -1.0, 1.0) + 1.0) / 2.0
    if np.all(bounded):
        return low + (high - low) * unit
    mask = np.broadcast_to(bounded, shape)
    finite_low, finite_high = jnp.where(mask, low, 0.0), jnp.where(mask, high, 0.0)
    return jnp.where(mask, finite_low + (finite_high - finite_low) * unit, jnp.clip(action, low, high))
