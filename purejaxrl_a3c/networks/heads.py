"""Heads: a network's last layers, which turn features into a distribution over actions and into values."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl_a3c import checks
from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.networks.config import Config
from purejaxrl_a3c.networks.distributions import (
    Categorical,
    ClippedGaussian,
    DiagGaussian,
    EpsilonGreedy,
    MultiCategorical,
    TanhGaussian,
)
from purejaxrl_a3c.networks.initializers import orthogonal
from purejaxrl_a3c.types import ActionSpace, Distribution, Key, Noise, Outputs, Params

# Limits of the log of a standard deviation. Useful values lie well between them, and exp of them and its square are
# finite in float32.
_LOG_SCALE_LIMITS = (-10.0, 3.0)


class Heads(NamedTuple):
    """The last layers of the policy and the value function as pure functions."""

    init: Callable[[Key, Key, jax.Array], Params]
    """(key of the policy's head, key of the value function's, features [F]) -> params."""
    apply: Callable[[Params, jax.Array, jax.Array], Outputs]
    """(params, features [..., F] for the policy, features [..., F] for the value function) -> outputs [...]."""


def rule_out(outputs: Outputs, legal: jax.Array | None) -> Outputs:
    """``outputs`` whose policy takes only the actions that are ``legal``, bool ``[..., A]``; None: all are.

    The value beside Q-values becomes the largest one of a legal action.
    """
    if legal is None:
        return outputs
    policy = outputs.policy.masked(legal)
    value = policy.q.max(-1) if isinstance(policy, EpsilonGreedy) else outputs.value
    return Outputs(policy, value)


class PolicyHead(nn.Module):
    """Features ``[..., F]`` to a distribution over the actions of a space.

    Attributes:
        action_space: one of the classes in `envs.spaces`.
        squash_actions: use a `TanhGaussian` for continuous actions instead of a `DiagGaussian`.
        state_dependent_scale: compute the scale of a Gaussian from the features; otherwise it is a parameter.
        initial_scale: initial standard deviation of a Gaussian; may be traced.
    """

    action_space: ActionSpace
    squash_actions: bool = False
    state_dependent_scale: bool = False
    initial_scale: float | jax.Array = 1.0

    @nn.compact
    def __call__(self, features: jax.Array) -> Distribution:
        """The distribution ``[...]``."""
        space = self.action_space

        def dense(size: int, name: str) -> jax.Array:
            return nn.Dense(size, kernel_init=orthogonal(0.01), name=name)(features)

        if isinstance(space, spaces.Discrete):
            return Categorical(dense(space.n, "logits"))
        if isinstance(space, spaces.MultiDiscrete):
            return MultiCategorical(dense(sum(space.sizes), "logits"), space.sizes)
        assert isinstance(space, spaces.Continuous)
        loc = dense(space.size, "loc")
        if self.state_dependent_scale:
            log_scale = dense(space.size, "log_scale")
        else:
            log_scale = self.param("log_scale", nn.initializers.zeros, (space.size,), jnp.float32)
        log_scale = jnp.clip(log_scale + jnp.log(self.initial_scale), *_LOG_SCALE_LIMITS)
        kind = TanhGaussian if self.squash_actions else DiagGaussian
        return kind(loc, jnp.broadcast_to(log_scale, loc.shape))


def make_heads(config: Config, action_space: ActionSpace, num_values: int) -> Heads:
    """The heads that ``config`` describes, with the parameters ``policy_head`` and ``value_head``.

    Args:
        config: the network's settings.
        action_space: one of the classes in `envs.spaces`.
        num_values: how many values the value function has; with more than one they are on a last axis.

    Raises:
        InputError: if the policy cannot be squashed, or the action space is of an unknown class.
    """
    _check_actions(config, action_space)
    policy_head = PolicyHead(
        action_space, config.squash_actions, config.state_dependent_scale, config.scale.initial_scale
    )
    value_head = nn.Dense(num_values, kernel_init=orthogonal(1.0))

    def init(key_policy: Key, key_value: Key, features: jax.Array) -> Params:
        return {
            "policy_head": policy_head.init(key_policy, features),
            "value_head": value_head.init(key_value, features),
        }

    def apply(params: Params, policy_features: jax.Array, value_features: jax.Array) -> Outputs:
        policy = policy_head.apply(params["policy_head"], policy_features)
        value: Any = value_head.apply(params["value_head"], value_features)
        return Outputs(policy, jnp.squeeze(value, -1) if num_values == 1 else value)

    return Heads(init, apply)


def q_heads(action_space: ActionSpace, dueling: bool) -> Heads:
    """Q-values of discrete actions, with the parameters ``q_head`` and, if dueling, ``value_head``.

    Dueling (Wang et al. 2016, arXiv 1511.06581, equation 9): ``Q(s, a) = V(s) + A(s, a) - mean over b of A(s, b)``.

    Args:
        action_space: a `spaces.Discrete`.
        dueling: whether there is a value beside the advantages.

    Raises:
        InputError: for any other action space.
    """
    if not isinstance(action_space, spaces.Discrete):
        checks.reject("action_space", action_space, "discrete, for an algorithm that learns a Q-value of every action")
    q_head = nn.Dense(action_space.n, kernel_init=orthogonal(0.01))
    value_head = nn.Dense(1, kernel_init=orthogonal(1.0))

    def init(key_q: Key, key_value: Key, features: jax.Array) -> Params:
        params = {"q_head": q_head.init(key_q, features)}
        return params | {"value_head": value_head.init(key_value, features)} if dueling else params

    def apply(params: Params, features: jax.Array, value_features: jax.Array) -> Outputs:
        q: Any = q_head.apply(params["q_head"], features)
        if dueling:
            value: Any = value_head.apply(params["value_head"], value_features)
            q = value + q - q.mean(-1, keepdims=True)
        return Outputs(EpsilonGreedy(q, jnp.zeros(q.shape[:-1], q.dtype)), q.max(-1))

    return Heads(init, apply)


def stochastic_heads(action_space: ActionSpace, initial_scale: float | jax.Array) -> Heads:
    """A policy alone: a `Categorical`, or a `TanhGaussian` whose scale depends on the state. All values are 0.

    Args:
        action_space: a `spaces.Discrete`, or a bounded `spaces.Continuous`.
        initial_scale: standard deviation of continuous actions before the tanh, at the start of training.

    Raises:
        InputError: for any other action space.
    """
    if not (isinstance(action_space, spaces.Discrete) or _is_bounded(action_space)):
        checks.reject("action_space", action_space, "discrete, or continuous with bounds")
    return _policy_alone(PolicyHead(action_space, True, True, initial_scale))


def deterministic_heads(action_space: ActionSpace) -> Heads:
    """A deterministic policy alone: a `ClippedGaussian` with a scale of 0. All values are 0.

    Raises:
        InputError: if the actions are not continuous with bounds.
    """
    if not _is_bounded(action_space):
        checks.reject("action_space", action_space, "continuous with bounds, for a deterministic policy")
    return _policy_alone(DeterministicHead(action_space.size))  # type: ignore[attr-defined]


class DeterministicHead(nn.Module):
    """Features ``[..., F]`` to actions in (-1, 1), as a `ClippedGaussian` with a scale of 0.

    Attributes:
        size: ``D``, numbers of an action.
    """

    size: int

    @nn.compact
    def __call__(self, features: jax.Array) -> Distribution:
        """The distribution ``[...]``."""
        loc = jnp.tanh(nn.Dense(self.size, kernel_init=orthogonal(0.01), name="loc")(features))
        return ClippedGaussian(loc, jnp.zeros_like(loc))


def _policy_alone(head: nn.Module) -> Heads:
    def init(key_policy: Key, key_value: Key, features: jax.Array) -> Params:
        del key_value
        return {"policy_head": head.init(key_policy, features)}

    def apply(params: Params, policy_features: jax.Array, value_features: jax.Array) -> Outputs:
        policy: Any = head.apply(params["policy_head"], policy_features)
        return Outputs(policy, jnp.zeros(value_features.shape[:-1], jnp.float32))

    return Heads(init, apply)


def _is_bounded(action_space: ActionSpace) -> bool:
    return isinstance(action_space, spaces.Continuous) and action_space.bounded


def _check_actions(config: Config, action_space: ActionSpace) -> None:
    if not isinstance(action_space, spaces.Discrete | spaces.MultiDiscrete | spaces.Continuous):
        checks.reject(
            "action_space", action_space, "an instance of Discrete, MultiDiscrete or Continuous in envs.spaces"
        )
    if config.squash_actions and not _is_bounded(action_space):
        accepted = (
            f"False for the actions {action_space}: only continuous actions, all of them bounded, can be squashed"
        )
        checks.reject("squash_actions", config.squash_actions, accepted)


def action_noise(action_space: ActionSpace, key: Key, index: jax.Array) -> Noise:
    """The random numbers from which a policy samples actions.

    Args:
        action_space: one of the classes in `envs.spaces`.
        key: consumed; the same for all actions.
        index: number of each action, int32 ``[...]``; actions with different numbers get independent noise.

    Returns:
        The argument of the distribution's ``sample``: float32 ``[...]`` (discrete), ``[..., K]`` (multi-discrete) or
        ``[..., D]`` (continuous).
    """
    if isinstance(action_space, spaces.Discrete):
        return randomness.uniform_at(key, index)
    if isinstance(action_space, spaces.MultiDiscrete):
        return randomness.uniform_at(key, randomness.components(index, len(action_space.sizes)))
    assert isinstance(action_space, spaces.Continuous)
    return randomness.normal_at(key, randomness.components(index, action_space.size))
