"""How an agent explores while it learns: how much, and how its policy then differs from the learned one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import Count, CountOrZero, NonNegative, UnitInterval, configuration
from purejaxrl_a3c.networks.distributions import ClippedGaussian, EpsilonGreedy
from purejaxrl_a3c.types import Noise, Scalars


class Exploration(NamedTuple):
    """How the acting policy differs from the learned one."""

    level: Callable[[jax.Array, jax.Array], Any]
    """(frames [] of the run so far, numbers of environments [...]) -> how much each of them explores, leaves [...]."""
    behave: Callable[[Any, Any], Any]
    """(policy, level of one environment) -> the policy that acts there."""
    repeat: int = 1
    """Steps of a rollout for which an environment keeps the noise of its actions."""
    report: Callable[[Any], Scalars] = lambda level: {}
    """The mean of the environments' levels -> scalars to report."""


def lasting_noise(exploration: Exploration, noise: Noise, axis: int) -> Noise:
    """The noise of the actions of a rollout, where every ``repeat`` steps have that of the first of them.

    Args:
        exploration: the `Exploration`.
        noise: from `rollout.draw`.
        axis: the axis of steps in its leaves.
    """
    if exploration.repeat == 1:
        return noise

    def keep(x: jax.Array) -> jax.Array:
        steps = jnp.arange(x.shape[axis], dtype=jnp.int32)
        return jnp.take(x, steps - steps % exploration.repeat, axis=axis)

    return jax.tree.map(keep, noise)


@configuration
class RepeatConfig:
    """Settings of noise that lasts."""

    noise_repeat: Count = 1
    """Steps of a rollout for which an environment keeps the noise of its actions. Noise that lasts explores further
    where single actions have little effect (gSDE, Raffin et al. 2022, arXiv 2005.05719; for random discrete actions
    Dabney et al. 2021, arXiv 2006.01782)."""


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
    lasting: RepeatConfig = RepeatConfig()


@configuration
class WorkerEpsilonConfig:
    """Settings of epsilon-greedy exploration in which workers explore by different amounts."""

    # Interleaved, so that the first workers, however many there are, have nearly the proportions of all.
    epsilon_final: tuple[UnitInterval, ...] = (0.1, 0.01, 0.5, 0.1, 0.01, 0.5, 0.1, 0.01, 0.5, 0.1)
    """Probabilities of a random action after epsilon_frames: the first one is that of the first worker and so on, and
    after the last one they start again. Mnih et al. 2016 draw each worker's from 0.1, 0.01 and 0.5 with probabilities
    0.4, 0.3 and 0.3; these ten entries have exactly these proportions. A single entry is that of all workers."""
    epsilon_frames: CountOrZero = 50_000
    """Frames, summed over all workers, over which every worker's probability of a random action falls linearly from 1
    to its final one (4M for Atari in Mnih et al. 2016; this default is a tenth of the default run)."""


def epsilon_greedy(config: EpsilonConfig, random_frames: int = 0) -> Exploration:
    """Random actions with a probability epsilon that falls linearly, for a policy that is an `EpsilonGreedy` one.

    Args:
        config: the settings.
        random_frames: epsilon is 1 for this many frames, whatever the settings say.
    """

    def level(frames: jax.Array, numbers: jax.Array) -> jax.Array:
        epsilon = _annealed(config.epsilon_final, frames, config.epsilon_frames)
        epsilon = jnp.where(frames < random_frames, 1.0, epsilon)
        return jnp.broadcast_to(epsilon.astype(jnp.float32), numbers.shape)

    return Exploration(level, _with_epsilon, config.lasting.noise_repeat, _report_epsilon)


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


def epsilon_greedy_workers(config: WorkerEpsilonConfig, envs_per_worker: int) -> Exploration:
    """As `epsilon_greedy`, with a final epsilon for each worker.

    Args:
        config: the settings.
        envs_per_worker: environments of a worker, which all have its epsilon.

    Raises:
        InputError: if there is no final epsilon.
    """
    if not config.epsilon_final:
        reject("epsilon_final", config.epsilon_final, "a tuple with at least one number in [0, 1]")

    def level(frames: jax.Array, numbers: jax.Array) -> jax.Array:
        final = jnp.stack([jnp.asarray(one, jnp.float32) for one in config.epsilon_final])
        return _annealed(final[numbers // envs_per_worker % final.size], frames, config.epsilon_frames)

    return Exploration(level, _with_epsilon, report=_report_epsilon)


def _annealed(final: Any, frames: jax.Array, annealing_frames: int) -> jax.Array:
    """Epsilon after ``frames``, of the shape of ``final``: it falls linearly from 1 to ``final``."""
    share = jnp.clip(frames / annealing_frames, 0, 1) if annealing_frames else jnp.float32(1)
    return 1.0 + (final - 1.0) * share


def _with_epsilon(policy: EpsilonGreedy, level: jax.Array) -> EpsilonGreedy:
    return policy._replace(epsilon=jnp.broadcast_to(level, policy.epsilon.shape))


def _report_epsilon(level: jax.Array) -> Scalars:
    return {"epsilon": level}
