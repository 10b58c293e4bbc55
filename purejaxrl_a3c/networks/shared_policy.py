"""One network for all agents of a cooperative environment: each acts on its own view, all with the same parameters.

Gupta et al. 2017 (doi 10.1007/978-3-319-71682-4_5) and Yu et al. 2022 (arXiv 2103.01955) share parameters like this.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from purejaxrl_a3c import checks
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.envs.observations import map_shape, split_mask, with_mask
from purejaxrl_a3c.networks.distributions import MultiCategorical
from purejaxrl_a3c.networks.heads import action_noise
from purejaxrl_a3c.types import Carry, Env, Key, Network, Noise, Observation, Outputs, Params


def for_all_agents(make_one: Callable[[Env], Network], env: Env) -> Network:
    """The network of a cooperative environment, whose choices are those of one agent each.

    An agent sees its row of every array that has a row for each agent, and the other arrays as they are. The value is
    the mean of what the agents' views are worth. Nothing tells the agents apart but what they see.

    Args:
        make_one: makes the network of one agent, from an environment with the shapes of its view and its actions.
        env: only its ``observation_shape`` and ``action_space`` are used.

    Returns:
        A `Network`, whose carry has a row for each agent.

    Raises:
        InputError: if the agents' actions are not as many equal choices, or no array has a row for each agent.
    """
    count, each = _agents(env)
    seen_shape, mask_shape = split_mask(env.observation_shape)
    is_own = map_shape(lambda shape: shape[:1] == (count,), seen_shape)
    if not any(jax.tree.leaves(is_own)):
        accepted = f"false, because no array of the observation has a row for each of {count} agents: {seen_shape}"
        checks.reject("share_agents", True, accepted)
    view_shape = map_shape(lambda shape, own: shape[1:] if own else shape, seen_shape, is_own)
    view_mask = None if mask_shape is None else (each,)
    one = make_one(env._replace(observation_shape=with_mask(view_shape, view_mask), action_space=spaces.Discrete(each)))

    def views(obs: Observation, axis: int) -> tuple[Observation, Any]:
        """Observations with leading axes ``axis``, and the axis of every array along which the agents stand."""
        seen, mask = split_mask(obs)
        axes = jax.tree.map(lambda own: axis if own else None, is_own)
        if mask is None:
            return seen, axes
        return with_mask(seen, mask.reshape(*mask.shape[:-1], count, each)), with_mask(axes, axis)

    def together(outputs: Outputs, axis: int) -> Outputs:
        """The choices of all agents as one action; ``outputs`` have the agents along ``axis``."""
        logits = outputs.policy.logits
        logits = logits.reshape(*logits.shape[:axis], count * each)
        return Outputs(MultiCategorical(logits, (each,) * count), outputs.value.mean(axis=axis))

    def carry() -> Carry:
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), one.carry())

    def noise(key: Key, index: jax.Array) -> Noise:
        return action_noise(env.action_space, key, index)

    def step(params: Params, carry: Carry, obs: Observation, first: jax.Array) -> tuple[Carry, Outputs]:
        seen, axes = views(obs, 0)
        carry, outputs = jax.vmap(one.step, (None, 0, axes, None))(params, carry, seen, first)
        return carry, together(outputs, 0)

    def unroll(params: Params, carry: Carry, obs: Observation, first: jax.Array) -> tuple[Carry, Outputs]:
        seen, axes = views(obs, 2)
        mapped = jax.vmap(one.unroll, (None, 1, axes, None), (1, 2))
        carry, outputs = mapped(params, carry, seen, first)
        return carry, together(outputs, 2)

    return Network(one.init, carry, noise, step, unroll)


def _agents(env: Env) -> tuple[int, int]:
    """How many agents there are, and how many actions each has."""
    sizes = env.action_space.sizes if isinstance(env.action_space, spaces.MultiDiscrete) else ()
    if len(sizes) < 2 or len(set(sizes)) > 1:
        checks.reject("share_agents", True, f"false, because the actions are not equal choices: {env.action_space}")
    return len(sizes), sizes[0]
