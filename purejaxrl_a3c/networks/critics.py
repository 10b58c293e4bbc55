"""Critics: the values of actions, from several networks at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl_a3c.config import Count, check, configuration
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.envs.observations import joined, map_shape, split_mask
from purejaxrl_a3c.networks.bodies import as_float, narrow
from purejaxrl_a3c.networks.config import BodyConfig
from purejaxrl_a3c.networks.custom import check_is_instance
from purejaxrl_a3c.networks.initializers import orthogonal
from purejaxrl_a3c.networks.make import make_torso
from purejaxrl_a3c.networks.torsos import MLP
from purejaxrl_a3c.types import Env, Key, Observation, Params


@configuration
class CriticsConfig:
    """Settings of an ensemble of critics."""

    num_critics: Count = 2
    """Number of critics, the smallest of whose values counts (2 in Fujimoto et al. 2018 and Haarnoja et al. 2018, 1 in
    DDPG)."""


class Critics(NamedTuple):
    """``count`` networks of the same shape with parameters of their own."""

    init: Callable[[Key], Params]
    """key -> params, leaves [count, ...]."""
    apply: Callable[..., jax.Array]
    """(params, obs [M, ...], actions as the environment takes them, float32 [M, D]) -> float32 [count, M, outputs].
    Critics of discrete actions take no actions: their outputs are one for each."""


class Critic(nn.Module):
    """One critic.

    Attributes:
        torso: from observations ``[M, ...]`` to features ``[M, F]``; None: the flattened observations themselves.
        layers: fully connected layers on the features and, beside them, the actions.
        outputs: numbers to put out.
    """

    torso: nn.Module | None
    layers: nn.Module
    outputs: int

    @nn.compact
    def __call__(self, obs: Observation, *actions: jax.Array) -> jax.Array:
        """The outputs ``[M, outputs]`` for ``obs [M, ...]`` and at most one array of ``actions [M, D]``."""
        features = joined(obs, axes=1) if self.torso is None else self.torso(obs)
        features = self.layers(jnp.concatenate([features.astype(jnp.float32), *actions], axis=-1))
        return nn.Dense(self.outputs, kernel_init=orthogonal(1.0))(features)


def make_critics(config: BodyConfig, env: Env, *, count: int, outputs: int) -> Critics:
    """The critics of the observations and actions of ``env``; they do not see an action mask.

    An mlp takes the flattened observation and the action side by side (Haarnoja et al. 2018). Any other torso makes
    features of the observation, and one more fully connected layer takes these and the action.

    Args:
        config: settings of the torso; the core is not used.
        env: the environment; only its ``observation_shape`` and ``action_space`` are used.
        count: number of critics.
        outputs: numbers that each critic puts out.

    Raises:
        InputError: if a setting is not accepted, or does not fit the observations.
    """
    check_is_instance(config.torso)
    check(config)
    actions = env.action_space.size if isinstance(env.action_space, spaces.Continuous) else 0
    shape, _ = split_mask(env.observation_shape)
    torso: Any = None if config.torso == "mlp" else make_torso(config, shape)
    # Features of a torso already are what its own layers made of them; only the action is new there.
    sizes = config.hidden_sizes if torso is None else config.hidden_sizes[-1:] * bool(actions)
    critic = Critic(torso, MLP(1, sizes, config.activation, config.layer_norm), outputs)

    def init(key: Key) -> Params:
        obs = map_shape(lambda one: jnp.zeros((1, *one), jnp.float32), shape)
        action = (jnp.zeros((1, actions), jnp.float32),) if actions else ()
        return jax.tree.map(narrow, jax.vmap(lambda key: critic.init(key, obs, *action))(jax.random.split(key, count)))

    def apply(params: Params, obs: Observation, *action: jax.Array) -> jax.Array:
        # One batched product for all critics: on 2 CPU cores a Python loop over them took 1 to 19 % longer.
        seen, _ = split_mask(obs)
        outputs: Any = jax.vmap(lambda params: critic.apply(params, as_float(seen), *action))(params)
        return outputs

    return Critics(init, apply)
