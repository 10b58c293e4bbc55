"""Observations of several arrays, and the action masks among them.

An observation is one array or a dict of named arrays, which may be nested. In a dict the entry ``action_mask`` is not
something to see: it says which actions are legal. Networks do not get it as an input; the policy rules illegal actions
out. So a mask goes wherever its observation goes: into trajectories, replay buffers and exported policies.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.types import Action, ActionSpace, Key, Observation

MASK = "action_mask"
"""Name of the entry that says which actions are legal: bool ``[A]``, or ``[sum(sizes)]`` for a `spaces.MultiDiscrete`,
one choice after the other."""
Shape: TypeAlias = Any
"""The shape of one array, a tuple of ints, or a dict of shapes."""


def _is_shape(x: Any) -> bool:
    return isinstance(x, tuple)


def shape_of(obs: Any) -> Shape:
    """The `Shape` of an observation, of arrays or of their types."""
    return jax.tree.map(lambda x: tuple(x.shape), obs)


def map_shape(function: Callable[..., Any], shape: Shape, *others: Any) -> Any:
    """``function`` of every array's shape, as a tree; of ``others`` it gets the entries of the same name."""
    return jax.tree.map(function, shape, *others, is_leaf=_is_shape)


def shapes(shape: Shape) -> list[tuple[int, ...]]:
    """The shapes of all arrays, in the order of their names."""
    return jax.tree.leaves(shape, is_leaf=_is_shape)


def split_mask(obs: Any) -> tuple[Any, Any]:
    """What there is to see, and the mask; of an observation or of its `Shape`.

    Returns:
        ``(seen, mask)``: the dict without the mask, or its array if only one is left; None without a mask.
    """
    if not (isinstance(obs, dict) and MASK in obs):
        return obs, None
    rest = {name: x for name, x in obs.items() if name != MASK}
    return (next(iter(rest.values())) if len(rest) == 1 else rest), obs[MASK]


def with_mask(seen: Any, mask: Any) -> Any:
    """An observation or a `Shape` of what there is to see and of a mask, if it is not None."""
    if mask is None:
        return seen
    return {**seen, MASK: mask} if isinstance(seen, dict) else {"observation": seen, MASK: mask}


def without_mask(obs: Any) -> Any:
    """The entries of an observation or of its `Shape` but the mask."""
    return {name: x for name, x in obs.items() if name != MASK} if isinstance(obs, dict) else obs


def map_seen(function: Callable[..., Any], obs: Any, *others: Any) -> Any:
    """An observation or its `Shape` with ``function`` of all but the mask; it gets the same entries of ``others``."""
    seen = jax.tree.map(function, *map(without_mask, (obs, *others)), is_leaf=_is_shape)
    return {**seen, MASK: obs[MASK]} if isinstance(obs, dict) and MASK in obs else seen


def joined(seen: Any, axes: int = 0) -> jax.Array:
    """All arrays as one vector, float32 where there are several: leaves ``[*axes, ...]`` to ``[*axes, F]``."""
    rows = [x.reshape(*x.shape[:axes], -1) for x in jax.tree.leaves(seen)]
    return rows[0] if len(rows) == 1 else jnp.concatenate([x.astype(jnp.float32) for x in rows], axis=-1)


def total_size(shape: Shape) -> int:
    """How many numbers an observation of this `Shape` has."""
    return sum(math.prod(one) for one in shapes(shape))


def check_mask(mask: Any, action_space: ActionSpace) -> None:
    """Check the shape of a mask; None is accepted, too.

    Raises:
        InputError: if it does not say of every discrete action whether it is legal.
    """
    if mask is None:
        return
    if isinstance(action_space, spaces.Continuous):
        reject(MASK, mask, f"left out: the actions {action_space} are not discrete")
    wanted = (action_space.n,) if isinstance(action_space, spaces.Discrete) else (sum(action_space.sizes),)  # type: ignore[attr-defined]
    if mask != wanted:
        reject(MASK, mask, f"of shape {wanted}, for the actions {action_space}")


def random_action(key: Key, action_space: ActionSpace, obs: Observation) -> Action:
    """A uniformly random legal action."""
    _, mask = split_mask(obs)
    if mask is None:
        return action_space.sample(key)
    if isinstance(action_space, spaces.Discrete):
        return _random_legal(key, mask)
    assert isinstance(action_space, spaces.MultiDiscrete)
    ends = np.cumsum(action_space.sizes)[:-1].tolist()
    keys = jax.random.split(key, len(action_space.sizes))
    return jnp.stack([_random_legal(k, one) for k, one in zip(keys, jnp.split(mask, ends), strict=True)])


def _random_legal(key: Key, mask: jax.Array) -> jax.Array:
    return jax.random.categorical(key, jnp.where(mask, 0.0, -jnp.inf)).astype(jnp.int32)
