"""Bodies: what comes before the heads, a torso and a core each for the policy and the value function, or shared."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl_a3c.envs.observations import Shape, map_shape
from purejaxrl_a3c.networks.cores import Core
from purejaxrl_a3c.types import Carry, Key, Observation, Params


class Look(Protocol):
    """Observations to features, for one body."""

    def __call__(self, params: Params, carry: Carry, obs: Observation, first: jax.Array) -> tuple[Carry, jax.Array]:
        """The carry after the observations, and the features; ``first`` says where an episode starts."""
        ...


class Body(NamedTuple):
    """A torso and a core as pure functions. The carry of a feed-forward body is ``()``."""

    init: Callable[[Key, Key], tuple[Params, jax.Array]]
    """(key of the torso, key of the core) -> (params, features [F] of an observation of zeros)."""
    carry: Callable[[], Carry]
    """() -> the carry at the start of an episode."""
    step: Look
    """For one observation: features [F]."""
    unroll: Look
    """For carry [B], obs [B, T, ...] and first [B, T]: features [B * T, F]."""


class Bodies(NamedTuple):
    """The bodies of a policy and a value function as pure functions."""

    num_bodies: int
    """1 if the policy and the value function share their body, else 2."""
    init: Callable[[Sequence[Key]], tuple[Params, jax.Array]]
    """(two keys for each body) -> (params, features [F] of an observation of zeros)."""
    carry: Callable[[], Carry]
    """() -> the carry at the start of an episode: one part for each body, or ``()`` without memory."""
    step: Callable[[Params, Carry, Observation, jax.Array], tuple[Carry, jax.Array, jax.Array]]
    """(params, carry, obs, first) -> (carry, features [F] for the policy, features [F] for the value function)."""
    unroll: Callable[[Params, Carry, Observation, jax.Array], tuple[Carry, jax.Array, jax.Array]]
    """(params, carry [B], obs [B, T, ...], first [B, T]) -> (carry [B], features [B * T, F] for the policy, features
    [B * T, F] for the value function)."""


def make_body(torso: nn.Module, core: Core, observation_shape: Shape) -> Body:
    """The body of a torso and a core, with the parameters ``torso`` and ``core``.

    The torso sees the observations of all environments and steps in one call; only a core may need a scan over time.
    """

    def features_of(params: Params, obs: Observation) -> jax.Array:
        features: Any = torso.apply(params, obs)
        return features.astype(jnp.float32)

    def init(key_torso: Key, key_core: Key) -> tuple[Params, jax.Array]:
        obs = map_shape(lambda shape: jnp.zeros(shape, jnp.float32), observation_shape)
        torso_params = jax.tree.map(narrow, torso.init(key_torso, obs))
        features = features_of(torso_params, obs)
        core_params = core.init(key_core, features)
        _, features = core.step(core_params, core.carry(), features, jnp.bool_(True))
        return {"torso": torso_params, "core": core_params}, features

    def step(params: Params, carry: Carry, obs: Observation, first: jax.Array) -> tuple[Carry, jax.Array]:
        return core.step(params["core"], carry, features_of(params["torso"], as_float(obs)), first)

    def unroll(params: Params, carry: Carry, obs: Observation, first: jax.Array) -> tuple[Carry, jax.Array]:
        # The axes [B, T] become one: on a CPU, XLA takes twice as long for the gradient of a product with both.
        rows = map_shape(lambda shape, x: x.reshape(first.size, *shape), observation_shape, as_float(obs))
        features = features_of(params["torso"], rows).reshape(*first.shape, -1)
        carry, features = core.unroll(params["core"], carry, features, first)
        return carry, features.reshape(first.size, -1)

    return Body(init, core.carry, step, unroll)


def make_bodies(body: Body, shared: bool) -> Bodies:
    """Either one body, with the parameters ``body``, or two like it: ``policy_body`` and ``value_body``."""
    names = ("body",) if shared else ("policy_body", "value_body")
    is_recurrent = bool(jax.tree.leaves(body.carry()))

    def init(keys: Sequence[Key]) -> tuple[Params, jax.Array]:
        made = [body.init(keys[2 * i], keys[2 * i + 1]) for i in range(len(names))]
        return {name: params for name, (params, _) in zip(names, made, strict=True)}, made[-1][1]

    def carry() -> Carry:
        return (body.carry(),) * len(names) if is_recurrent else ()

    def see(
        look: Look, params: Params, carry: Carry, obs: Observation, first: jax.Array
    ) -> tuple[Carry, jax.Array, jax.Array]:
        parts = carry if is_recurrent else ((),) * len(names)
        seen = [look(params[name], part, obs, first) for name, part in zip(names, parts, strict=True)]
        return tuple(part for part, _ in seen) if is_recurrent else (), seen[0][1], seen[-1][1]

    def step(params: Params, carry: Carry, obs: Observation, first: jax.Array) -> tuple[Carry, jax.Array, jax.Array]:
        return see(body.step, params, carry, obs, first)

    def unroll(params: Params, carry: Carry, obs: Observation, first: jax.Array) -> tuple[Carry, jax.Array, jax.Array]:
        return see(body.unroll, params, carry, obs, first)

    return Bodies(len(names), init, carry, step, unroll)


def narrow(param: jax.Array) -> jax.Array:
    """``param`` as float32 if it is float64, which is the default of JAX's initializers under ``JAX_ENABLE_X64``."""
    return param.astype(jnp.float32) if param.dtype == jnp.float64 else param


def as_float(obs: Observation) -> jax.Array:
    """``obs`` as float32; bytes, which are the pixels of an image, are scaled to [0, 1]."""
    return jax.tree.map(lambda x: x.astype(jnp.float32) / (255.0 if x.dtype == jnp.uint8 else 1.0), obs)
