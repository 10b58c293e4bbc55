"""Policies and value functions: a torso, a core and a head each, as a `Network` of pure functions.

The head follows from the action space. Torso and core are arguments, so there is no recurrent and no continuous variant
of anything.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl_a3c import checks
from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.networks.cores import CORES
from purejaxrl_a3c.networks.distributions import Categorical, DiagGaussian, MultiCategorical, TanhGaussian
from purejaxrl_a3c.networks.torsos import ACTIVATIONS, MLP, TORSOS, orthogonal
from purejaxrl_a3c.types import Network, Outputs

CHOICES = {"activation": tuple(ACTIVATIONS), "core": tuple(CORES), "torso": ("mlp", *TORSOS)}
"""What the fields of a config that name a part of the network accept."""


class PolicyHead(nn.Module):
    """Features ``[..., F]`` to a distribution over the actions of a space.

    Attributes:
        action_space: one of `envs.spaces`.
        squash_actions: of a bounded continuous space, a `TanhGaussian` instead of a `DiagGaussian` that is clipped.
        state_dependent_scale: the Gaussians' scale depends on the features; otherwise it is a parameter.
        initial_scale: of the Gaussians.
    """

    action_space: spaces.Discrete | spaces.MultiDiscrete | spaces.Continuous
    squash_actions: bool = False
    state_dependent_scale: bool = False
    initial_scale: float = 1.0

    @nn.compact
    def __call__(self, features):
        """The distribution."""
        space = self.action_space

        def dense(size, name):
            return nn.Dense(size, kernel_init=orthogonal(0.01), name=name)(features)

        if isinstance(space, spaces.Discrete):
            return Categorical(dense(space.n, "logits"))
        if isinstance(space, spaces.MultiDiscrete):
            return MultiCategorical(dense(sum(space.sizes), "logits"), space.sizes)
        loc = dense(space.size, "loc")
        if self.state_dependent_scale:
            log_scale = dense(space.size, "log_scale")
        else:
            log_scale = self.param("log_scale", nn.initializers.zeros, (space.size,))
        log_scale = log_scale + jnp.log(self.initial_scale)
        # Bounds far outside of anything useful, where exp and its square stay finite in float32.
        log_scale = jnp.broadcast_to(jnp.clip(log_scale, -10.0, 3.0), loc.shape)
        return (TanhGaussian if self.squash_actions and space.bounded else DiagGaussian)(loc, log_scale)


def action_noise(action_space, key, index):
    """What a policy's ``sample`` needs for the actions of these numbers, int32 ``[...]``: leaves ``[..., *event]``."""
    if isinstance(action_space, spaces.Discrete):
        return randomness.uniform_at(key, index)
    if isinstance(action_space, spaces.MultiDiscrete):
        return randomness.uniform_at(key, randomness.components(index, len(action_space.sizes)))
    return randomness.normal_at(key, randomness.components(index, action_space.size))


def make(config, env, weights_per_worker=False, num_values=1):
    """The network that ``config`` describes, for the observations and actions of ``env``.

    Feed-forward layers see the rollouts of all environments in one call; only a recurrent core is a scan over time.

    Args:
        config: any object with ``torso``, ``hidden_sizes``, ``activation``, ``layer_norm``, ``core``, ``num_cells``,
            ``shared_torso``, ``squash_actions``, ``state_dependent_scale`` and ``initial_scale``.
        env: an `Env`.
        weights_per_worker: whether every worker has weights of its own; only the speed of convolutions depends on it.
        num_values: that the network puts on an observation; with more than one ``value`` has a last axis for them.

    Returns:
        A `Network`. A recurrent one's carry has a part for the policy and one for the value function, or one in all
        if they share torso and core.

    Raises:
        InputError: if the torso does not fit the observations.
    """
    torso = make_torso(config, env.observation_shape, weights_per_worker)
    core = CORES[config.core](config.num_cells)
    policy_head = PolicyHead(
        env.action_space, config.squash_actions, config.state_dependent_scale, config.initial_scale
    )
    value_head = nn.Dense(num_values, kernel_init=orthogonal(1.0))
    bodies = ("body",) if config.shared_torso else ("policy_body", "value_body")
    fresh = (core.carry(),) * len(bodies) if jax.tree.leaves(core.carry()) else ()

    def init(key):
        key_policy, key_value, *keys = jax.random.split(key, 2 + 2 * len(bodies))
        obs = jnp.zeros(env.observation_shape)
        params: dict[str, Any] = {}
        for i, body in enumerate(bodies):
            params[body] = {"torso": torso.init(keys[2 * i], obs)}
            features = torso.apply(params[body]["torso"], obs)
            params[body]["core"] = core.init(keys[2 * i + 1], features)
            _, features = core.step(params[body]["core"], core.carry(), features, jnp.bool_(True))
        params["policy_head"] = policy_head.init(key_policy, features)
        params["value_head"] = value_head.init(key_value, features)
        return params

    def look_at_one(params, carry, obs, first):
        return core.step(params["core"], carry, torso.apply(params["torso"], _as_float(obs)), first)

    def look_at_all(params, carry, obs, first):
        # One axis of rows: XLA's CPU backend takes twice as long over the gradient of a product with two.
        rows = _as_float(obs).reshape(first.size, *env.observation_shape)
        features = torso.apply(params["torso"], rows).reshape(*first.shape, -1)
        carry, features = core.unroll(params["core"], carry, features, first)
        return carry, features.reshape(first.size, -1)

    def outputs(look, params, carry, obs, first):
        parts = carry if fresh else ((),) * len(bodies)
        seen = [look(params[body], part, obs, first) for body, part in zip(bodies, parts, strict=True)]
        policy = policy_head.apply(params["policy_head"], seen[0][1])
        value: Any = value_head.apply(params["value_head"], seen[-1][1])
        return tuple(part for part, _ in seen) if fresh else (), Outputs(
            policy, jnp.squeeze(value, -1) if num_values == 1 else value
        )

    def step(params, carry, obs, first):
        return outputs(look_at_one, params, carry, obs, first)

    def unroll(params, carry, obs, first):
        carry, rows = outputs(look_at_all, params, carry, obs, first)
        return carry, jax.tree.map(lambda x: x.reshape(*first.shape, *x.shape[1:]), rows)

    def noise(key, index):
        return action_noise(env.action_space, key, index)

    return Network(init, lambda: fresh, noise, step, unroll)


def _as_float(obs):
    """float32; bytes, as the pixels of frames are, scaled to [0, 1]."""
    return obs.astype(jnp.float32) / (255.0 if obs.dtype == jnp.uint8 else 1.0)


def make_torso(config, observation_shape, weights_per_worker=False):
    """What looks at an observation, a flax module. Arguments and errors as of `make`."""
    if isinstance(config.torso, nn.Module):
        return config.torso
    layers = config.hidden_sizes, config.activation, config.layer_norm
    if config.torso == "mlp":
        return MLP(len(observation_shape), *layers)
    if len(observation_shape) != 3:
        accepted = f"mlp, for observations of shape {observation_shape}; the others need height, width and channels"
        checks.reject("torso", config.torso, accepted)
    # A convolution mapped over its weights is a grouped one, a product a batched product: benchmarks/convolution.py.
    # For images as small as MinAtar's it is faster even with one set of weights.
    return TORSOS[config.torso](*layers, as_product=weights_per_worker or config.torso == "minatar")
