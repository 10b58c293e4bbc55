"""Makes networks out of a torso, a core and heads. The heads follow from the action space."""

from collections.abc import Callable

import flax.linen as nn
import jax

from purejaxrl_a3c import checks
from purejaxrl_a3c.config import check, replace
from purejaxrl_a3c.envs.observations import Shape, check_mask, shapes, split_mask
from purejaxrl_a3c.networks.bodies import make_bodies, make_body
from purejaxrl_a3c.networks.config import BodyConfig, Config
from purejaxrl_a3c.networks.cores import Core, feed_forward
from purejaxrl_a3c.networks.custom import check_is_instance, check_module
from purejaxrl_a3c.networks.heads import (
    Heads,
    action_noise,
    deterministic_heads,
    make_heads,
    q_heads,
    rule_out,
    stochastic_heads,
)
from purejaxrl_a3c.networks.linear_cores import lru, min_gru
from purejaxrl_a3c.networks.recurrent import gru, lstm
from purejaxrl_a3c.networks.shared_policy import for_all_agents
from purejaxrl_a3c.networks.torsos import MLP, TORSOS, Structured
from purejaxrl_a3c.networks.transformer import transformer
from purejaxrl_a3c.types import Carry, Env, Key, Network, Noise, Observation, Outputs, Params

CORES: dict[str, Callable[[BodyConfig], Core]] = {
    "feed_forward": lambda config: feed_forward(),
    "lstm": lambda config: lstm(config.num_cells),
    "gru": lambda config: gru(config.num_cells),
    "min_gru": lambda config: min_gru(config.num_cells),
    "lru": lambda config: lru(config.num_cells),
    "transformer": lambda config: transformer(config.num_cells, config.transformer),
}
"""The functions settings -> core, by name."""


def make(config: Config, env: Env, weights_per_worker: bool = False, num_values: int = 1) -> Network:
    """The actor-critic that ``config`` describes, for the observations and actions of ``env``.

    Args:
        config: the network's settings.
        env: the environment; only its ``observation_shape`` and ``action_space`` are used.
        weights_per_worker: whether every worker has weights of its own; this only changes how convolutions are
            computed, and so their speed.
        num_values: how many values the value function has; with more than one, ``value`` has a last axis for them.

    Returns:
        A `Network`. The carry of a recurrent one is a tuple with one part for the policy and one for the value
        function, or with a single part if they share torso and core.

    Raises:
        InputError: if a setting is not accepted, or does not fit the observations or actions.
    """
    check_is_instance(config.body.torso)
    check(config)
    if config.share_agents:
        alone = replace(config, share_agents=False)
        return for_all_agents(lambda one: make(alone, one, weights_per_worker, num_values), env)
    heads = make_heads(config, env.action_space, num_values)
    return with_heads(config.body, env, heads, shared=config.shared_torso, weights_per_worker=weights_per_worker)


def make_q(config: BodyConfig, env: Env, *, dueling: bool = False, weights_per_worker: bool = False) -> Network:
    """The network of Q-values that ``config`` describes, for discrete actions.

    Args:
        config: settings of torso and core.
        env: as in `make`.
        dueling: whether Q is the sum of a value and of advantages, see `heads.q_heads`.
        weights_per_worker: as in `make`.

    Returns:
        A `Network`, whose policy is an `EpsilonGreedy` one with an epsilon of 0, and whose value is the largest
        Q-value.

    Raises:
        InputError: if a setting is not accepted, or does not fit the observations or actions.
    """
    heads = q_heads(env.action_space, dueling)
    return with_heads(config, env, heads, shared=True, weights_per_worker=weights_per_worker)


def make_policy(config: BodyConfig, env: Env, *, initial_scale: float | jax.Array) -> Network:
    """A stochastic policy alone, for bounded continuous or for discrete actions; see `heads.stochastic_heads`.

    Its network has no value function, which would be computed for nothing: all values are 0.

    Args:
        config: settings of torso and core.
        env: as in `make`.
        initial_scale: as in `heads.stochastic_heads`.

    Raises:
        InputError: if a setting is not accepted, or does not fit the observations or actions.
    """
    return with_heads(config, env, stochastic_heads(env.action_space, initial_scale), shared=True)


def make_deterministic_policy(config: BodyConfig, env: Env) -> Network:
    """A deterministic policy alone, for bounded continuous actions; see `heads.deterministic_heads`.

    Raises:
        InputError: if a setting is not accepted, or does not fit the observations or actions.
    """
    return with_heads(config, env, deterministic_heads(env.action_space), shared=True)


def with_heads(
    config: BodyConfig, env: Env, heads: Heads, *, shared: bool, weights_per_worker: bool = False
) -> Network:
    """The network of the bodies that ``config`` describes and of ``heads``.

    The bodies do not see an action mask, which `heads.rule_out` applies to what the heads put out.

    Args:
        config: settings of torso and core.
        env: as in `make`.
        heads: the last layers.
        shared: whether policy and value function have one body, or one each.
        weights_per_worker: as in `make`.
    """
    check_is_instance(config.torso)
    check(config)
    seen_shape, mask_shape = split_mask(env.observation_shape)
    check_mask(mask_shape, env.action_space)
    torso = make_torso(config, seen_shape, weights_per_worker)
    body = make_body(torso, CORES[config.core](config), seen_shape)
    bodies = make_bodies(body, shared)

    def init(key: Key) -> Params:
        key_policy, key_value, *keys = jax.random.split(key, 2 + 2 * bodies.num_bodies)
        params, features = bodies.init(keys)
        return params | heads.init(key_policy, key_value, features)

    def noise(key: Key, index: jax.Array) -> Noise:
        return action_noise(env.action_space, key, index)

    def step(params: Params, carry: Carry, obs: Observation, first: jax.Array) -> tuple[Carry, Outputs]:
        seen, legal = split_mask(obs)
        carry, policy_features, value_features = bodies.step(params, carry, seen, first)
        return carry, rule_out(heads.apply(params, policy_features, value_features), legal)

    def unroll(params: Params, carry: Carry, obs: Observation, first: jax.Array) -> tuple[Carry, Outputs]:
        seen, legal = split_mask(obs)
        carry, policy_features, value_features = bodies.unroll(params, carry, seen, first)
        legal = None if legal is None else legal.reshape(first.size, -1)
        rows = rule_out(heads.apply(params, policy_features, value_features), legal)
        return carry, jax.tree.map(lambda x: x.reshape(*first.shape, *x.shape[1:]), rows)

    return Network(init, bodies.carry, noise, step, unroll)


def make_torso(config: BodyConfig, observation_shape: Shape, weights_per_worker: bool = False) -> nn.Module:
    """The torso that ``config`` describes: a flax module from an observation to features ``[F]``.

    Of an observation of several arrays, those with height, width and channels go through the convolutions of the torso
    if it has any, the others are flattened, and the fully connected layers see all of them side by side.

    Args:
        config: its settings.
        observation_shape: shape of one observation, without a mask.
        weights_per_worker: as in `make`.

    Raises:
        InputError: if the torso does not fit the observations, or is a flax module that cannot be a torso.
    """
    if isinstance(config.torso, nn.Module):
        check_module(config.torso, observation_shape)
        return config.torso
    layers = config.hidden_sizes, config.activation, config.layer_norm
    is_image = [len(shape) == 3 for shape in shapes(observation_shape)]
    if config.torso != "mlp" and not any(is_image):
        accepted = f"mlp, for observations of shape {observation_shape}; the others need height, width and channels"
        checks.reject("torso", config.torso, accepted)

    def of_array(shape: tuple[int, ...], hidden_sizes: tuple[int, ...]) -> nn.Module:
        if config.torso == "mlp" or len(shape) != 3:
            return MLP(len(shape), hidden_sizes, *layers[1:])
        # The product is the faster one for weights per worker (see `Convolution`), and for images as small as MinAtar's
        # even for a single set of weights.
        as_product = weights_per_worker or config.torso == "minatar"
        return TORSOS[str(config.torso)](hidden_sizes, *layers[1:], as_product=as_product)

    if isinstance(observation_shape, tuple):
        return of_array(observation_shape, config.hidden_sizes)
    return Structured(tuple(of_array(shape, ()) for shape in shapes(observation_shape)), MLP(1, *layers))
