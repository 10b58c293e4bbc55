"""How an agent that learns off its policy explores: how often, and how its policy then differs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.config import Count, CountOrZero, NonNegative, UnitInterval, configuration
from purejaxrl_a3c.networks.distributions import ClippedGaussian, EpsilonGreedy


class Exploration(NamedTuple):
    """How the acting policy differs from the learned one."""

    level: Callable[[jax.Array, jax.Array], Any]
    """(frames [] of the run so far, numbers of environments [...]) -> how much each of them explores, leaves [...]."""
    behave: Callable[[Any, Any], Any]
    """(policy, level of one environment) -> the policy that acts there."""
    repeat: int = 1
    """Steps of a rollout for which an environment keeps the noise of its actions."""


@configuration
class RepeatConfig:
    """Settings of noise that lasts."""

    noise_repeat: Count = 1
    """Steps of a rollout for which an environment keeps the noise of its actions. Noise that lasts explores further
    where single actions have little effect; it is what gSDE is for (Raffin et al. 2022, arXiv 2005.05719)."""


def no_exploration(repeat: int = 1) -> Exploration:
    """The learned policy itself acts, with noise that lasts ``repeat`` steps."""
    return Exploration(lambda frames, numbers: (), lambda policy, level: policy, repeat)


@configuration
class EpsilonConfig:
    """Settings of epsilon-greedy exploration."""

    epsilon_final: UnitInterval = 0.05
    """Probability of a random action after epsilon_frames (0.05 in Stable-Baselines3)."""
    epsilon_frames: CountOrZero = 10_000
    """Frames over which the probability of a random action falls linearly from 1 to epsilon_final (1M for Atari in Mnih
    et al. 2015)."""


def epsilon_greedy(config: EpsilonConfig, random_frames: int = 0) -> Exploration:
    """Random actions with a probability epsilon that falls linearly, for a policy that is an `EpsilonGreedy` one.

    Args:
        config: the settings.
        random_frames: epsilon is 1 for this many frames, whatever the settings say.
    """

    def level(frames: jax.Array, numbers: jax.Array) -> jax.Array:
        share = jnp.clip(frames / max(config.epsilon_frames, 1), 0, 1) if config.epsilon_frames else 1.0
        epsilon = jnp.where(frames < random_frames, 1.0, 1.0 + (config.epsilon_final - 1.0) * share)
        return jnp.broadcast_to(epsilon.astype(jnp.float32), numbers.shape)

    def behave(policy: EpsilonGreedy, level: jax.Array) -> EpsilonGreedy:
        return policy._replace(epsilon=jnp.broadcast_to(level, policy.epsilon.shape))

    return Exploration(level, behave)


@configuration
class NoiseConfig:
    """Settings of the noise with which a deterministic policy explores."""

    exploration_noise: NonNegative = 0.1
    """Standard deviation of the noise on actions, whose bounds are -1 and 1 (0.1 in Fujimoto et al. 2018)."""
    lasting: RepeatConfig = RepeatConfig()


def gaussian_noise(config: NoiseConfig, random_frames: int = 0) -> Exploration:
    """Gaussian noise on the actions of a policy that is a `ClippedGaussian` one.

    Args:
        config: the settings.
        random_frames: the noise has a standard deviation of 1 for this many frames, whatever the settings say. Around
            an untrained policy's actions, which are close to 0, it reaches every action and both bounds.
    """

    def level(frames: jax.Array, numbers: jax.Array) -> jax.Array:
        scale = jnp.where(frames < random_frames, 1.0, config.exploration_noise)
        return jnp.broadcast_to(scale.astype(jnp.float32), numbers.shape)

    def behave(policy: ClippedGaussian, level: jax.Array) -> ClippedGaussian:
        return policy._replace(scale=jnp.broadcast_to(level, policy.scale.shape))

    return Exploration(level, behave, config.lasting.noise_repeat)
