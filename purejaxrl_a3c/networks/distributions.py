"""Distributions over actions: the classes of `types.Distribution`.

A sample is a function of the distribution and of ``noise``, and the noise does not depend on the distribution. So the
noise of a whole rollout is drawn at once, before the loop over its steps: on a CPU, drawing random bits at every step
takes longer than a small policy network does.

Samples are what rollouts store and ``log_prob`` takes; the environment takes ``to_env_action(sample)``. A squashed
Gaussian is sampled before the tanh, so that the tanh never has to be inverted.
"""

import functools
import operator
from collections.abc import Iterable
from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.types import Action

RULED_OUT = -1e30
"""Logit and Q-value of an action that is not legal. Its probability is exactly 0 in float32, and the number is finite,
so that its product with 0 is 0."""
_LOG_2 = float(np.log(2))
_LOG_2PI = float(np.log(2 * np.pi))
# A mixture of normal distributions with mean 0 that is close to the logistic distribution with scale 1/2, as in
# Stefanski 1991 (Statistics & Probability Letters 11): probabilities and standard deviations, fitted by least squares.
# For U from the mixture, the mean of abs(x + U) differs from log(2 cosh(x)) by at most 1.1e-6, and its derivative by
# 1.8e-6.
_WEIGHTS = np.array([0.05069751, 0.31454614, 0.42679085, 0.18928746, 0.01867804])
_SCALES = np.array([0.45127742, 0.63313959, 0.88653425, 1.24469629, 1.75238123])


class Categorical(NamedTuple):
    """One of ``A`` actions.

    Attributes:
        logits: ``[..., A]`` unnormalised log-probabilities.
    """

    logits: jax.Array

    def masked(self, legal: jax.Array) -> "Categorical":
        """The distribution that rules out what is not ``legal``, bool ``[..., A]``; no gradient goes there.

        Where nothing is legal it is uniform.
        """
        return Categorical(jnp.where(legal, self.logits, RULED_OUT))

    @property
    def log_probs(self) -> jax.Array:
        """Normalised log-probabilities ``[..., A]``."""
        return jax.nn.log_softmax(self.logits)

    def sample(self, noise: jax.Array) -> Action:
        """An action, int32 ``[...]``, by inverse transform sampling; ``noise [...]`` is uniform in [0, 1)."""
        cumulative = jnp.cumsum(jax.nn.softmax(self.logits), axis=-1)
        # The noise is scaled by the actual sum of the probabilities, which rounding puts a little off 1. Otherwise the
        # largest noise could select an action of probability 0 at the end.
        threshold = noise[..., None] * cumulative[..., -1:]
        return jnp.sum(cumulative <= threshold, axis=-1, dtype=jnp.int32)

    @staticmethod
    def to_env_action(action: Action) -> Action:
        """The action that the environment takes: the sample itself."""
        return action

    def mode(self) -> Action:
        """The most probable action, int32 ``[...]``; the lowest one among equals."""
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def log_prob(self, action: Action) -> jax.Array:
        """The log-probability ``[...]`` of ``action``, int32 ``[...]``."""
        # The product with one-hot rows replaces a gather: the gradient of a product is a product, not a scatter.
        chosen = jax.nn.one_hot(action, self.logits.shape[-1], dtype=self.logits.dtype)
        return jnp.sum(self.log_probs * chosen, axis=-1)

    def entropy(self) -> jax.Array:
        """Entropy in nats ``[...]``."""
        log_probs = self.log_probs
        return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)

    def kl(self, other: "Categorical") -> jax.Array:
        """Kullback-Leibler divergence ``KL(self || other)`` in nats ``[...]``."""
        log_probs = self.log_probs
        return jnp.sum(jnp.exp(log_probs) * (log_probs - other.log_probs), axis=-1)


class EpsilonGreedy(NamedTuple):
    """The action of the largest Q-value or, with probability epsilon, any of the ``A`` actions.

    Attributes:
        q: ``[..., A]`` Q-values; `RULED_OUT` for actions that are not legal.
        epsilon: ``[...]`` in [0, 1].
        legal: bool ``[..., A]``, which actions are legal; None: all are.
    """

    q: jax.Array
    epsilon: jax.Array
    legal: jax.Array | None = None

    def masked(self, legal: jax.Array) -> "EpsilonGreedy":
        """The distribution that rules out what is not ``legal``, bool ``[..., A]``; no gradient goes there.

        Where nothing is legal all actions are.
        """
        legal = legal | ~legal.any(-1, keepdims=True)
        return EpsilonGreedy(jnp.where(legal, self.q, RULED_OUT), self.epsilon, legal)

    @property
    def probs(self) -> jax.Array:
        """Probabilities ``[..., A]``."""
        num_actions = self.q.shape[-1]
        greedy = jax.nn.one_hot(self.mode(), num_actions, dtype=self.q.dtype)
        if self.legal is None:
            return self.epsilon[..., None] / num_actions + (1 - self.epsilon[..., None]) * greedy
        random = self.legal / self.legal.sum(-1, keepdims=True, dtype=self.q.dtype)
        return self.epsilon[..., None] * random + (1 - self.epsilon[..., None]) * greedy

    def sample(self, noise: jax.Array) -> Action:
        """An action, int32 ``[...]``; ``noise [...]`` is uniform in [0, 1)."""
        num_actions = self.q.shape[-1]
        # Where the noise is below epsilon, its ratio to epsilon is uniform too, and chooses the action.
        share = jnp.minimum(noise / jnp.maximum(self.epsilon, jnp.finfo(jnp.float32).tiny), 1.0)
        if self.legal is None:
            other = jnp.minimum((share * num_actions).astype(jnp.int32), num_actions - 1)
        else:
            number = jnp.cumsum(self.legal, axis=-1, dtype=jnp.int32)  # of legal actions up to and with each
            count = number[..., -1]
            chosen = jnp.minimum((share * count).astype(jnp.int32), count - 1)
            other = jnp.sum(number <= chosen[..., None], axis=-1, dtype=jnp.int32)
        return jnp.where(noise < self.epsilon, other, self.mode())

    @staticmethod
    def to_env_action(action: Action) -> Action:
        """The action that the environment takes: the sample itself."""
        return action

    def mode(self) -> Action:
        """The action of the largest Q-value, int32 ``[...]``; the lowest one among equals."""
        return jnp.argmax(self.q, axis=-1).astype(jnp.int32)

    def log_prob(self, action: Action) -> jax.Array:
        """The log-probability ``[...]`` of ``action``, int32 ``[...]``."""
        chosen = jax.nn.one_hot(action, self.q.shape[-1], dtype=self.q.dtype)
        return jnp.log(jnp.sum(self.probs * chosen, axis=-1))

    def entropy(self) -> jax.Array:
        """Entropy in nats ``[...]``."""
        return jnp.sum(jax.scipy.special.entr(self.probs), axis=-1)

    def kl(self, other: "EpsilonGreedy") -> jax.Array:
        """Kullback-Leibler divergence ``KL(self || other)`` in nats ``[...]``; infinite where ``other`` rules out."""
        return jnp.sum(jax.scipy.special.rel_entr(self.probs, other.probs), axis=-1)


@flax.struct.dataclass
class MultiCategorical:
    """``K`` independent choices at once.

    Attributes:
        logits: ``[..., sum(sizes)]`` unnormalised log-probabilities, one choice after the other.
        sizes: number of actions of each choice; static.
    """

    logits: jax.Array
    sizes: tuple[int, ...] = flax.struct.field(pytree_node=False)

    def masked(self, legal: jax.Array) -> "MultiCategorical":
        """As `Categorical.masked`, of each choice; ``legal`` is bool ``[..., sum(sizes)]``."""
        return MultiCategorical(jnp.where(legal, self.logits, RULED_OUT), self.sizes)

    @property
    def choices(self) -> list[Categorical]:
        """Each choice as a `Categorical`."""
        ends = np.cumsum(self.sizes)[:-1].tolist()
        return [Categorical(logits) for logits in jnp.split(self.logits, ends, axis=-1)]

    def sample(self, noise: jax.Array) -> Action:
        """An action, int32 ``[..., K]``; ``noise [..., K]`` is uniform in [0, 1)."""
        return jnp.stack([choice.sample(noise[..., i]) for i, choice in enumerate(self.choices)], axis=-1)

    @staticmethod
    def to_env_action(action: Action) -> Action:
        """The action that the environment takes: the sample itself."""
        return action

    def mode(self) -> Action:
        """The most probable action, int32 ``[..., K]``."""
        return jnp.stack([choice.mode() for choice in self.choices], axis=-1)

    def log_prob(self, action: Action) -> jax.Array:
        """The log-probability ``[...]`` of ``action``, int32 ``[..., K]``."""
        return _total(choice.log_prob(action[..., i]) for i, choice in enumerate(self.choices))

    def entropy(self) -> jax.Array:
        """Entropy in nats ``[...]``."""
        return _total(choice.entropy() for choice in self.choices)

    def kl(self, other: "MultiCategorical") -> jax.Array:
        """Kullback-Leibler divergence ``KL(self || other)`` in nats ``[...]``."""
        return _total(mine.kl(its) for mine, its in zip(self.choices, other.choices, strict=True))


def _total(terms: Iterable[jax.Array]) -> jax.Array:
    return functools.reduce(operator.add, terms)


class DiagGaussian(NamedTuple):
    """Independent normal distributions over ``D`` numbers, without bounds.

    Attributes:
        loc: means ``[..., D]``.
        log_scale: logs of the standard deviations ``[..., D]``.
    """

    loc: jax.Array
    log_scale: jax.Array

    def sample(self, noise: jax.Array) -> Action:
        """An action, float32 ``[..., D]``; ``noise [..., D]`` is standard normal."""
        return self.loc + jnp.exp(self.log_scale) * noise

    @staticmethod
    def to_env_action(action: Action) -> Action:
        """The action that the environment takes: the sample itself, which a bounded environment clips."""
        return action

    def mode(self) -> Action:
        """The most probable action, float32 ``[..., D]``."""
        return self.loc

    def log_prob(self, action: Action) -> jax.Array:
        """The log-density ``[...]`` of ``action [..., D]``."""
        standardised = (action - self.loc) * jnp.exp(-self.log_scale)
        return -jnp.sum(0.5 * jnp.square(standardised) + self.log_scale + 0.5 * _LOG_2PI, axis=-1)

    def entropy(self) -> jax.Array:
        """Differential entropy in nats ``[...]``."""
        return jnp.sum(self.log_scale + 0.5 * (1 + _LOG_2PI), axis=-1)

    def kl(self, other: "DiagGaussian") -> jax.Array:
        """Kullback-Leibler divergence ``KL(self || other)`` in nats ``[...]``."""
        log_ratio = self.log_scale - other.log_scale
        distance = jnp.square((self.loc - other.loc) * jnp.exp(-other.log_scale))
        return jnp.sum(0.5 * (jnp.exp(2 * log_ratio) + distance - 1) - log_ratio, axis=-1)


class ClippedGaussian(NamedTuple):
    """Actions of a deterministic policy with Gaussian noise, clipped to [-1, 1] (Fujimoto et al. 2018).

    A sample is the clipped action, as the environment takes it and a critic must see it. Densities and entropies are
    those before the clip.

    Attributes:
        loc: the policy's actions ``[..., D]`` in [-1, 1].
        scale: standard deviations of the noise ``[..., D]``; may be 0.
    """

    loc: jax.Array
    scale: jax.Array

    @property
    def base(self) -> DiagGaussian:
        """The distribution before the clip, with a scale that is not quite 0."""
        return DiagGaussian(self.loc, jnp.log(jnp.maximum(self.scale, 1e-6)))

    def sample(self, noise: jax.Array) -> Action:
        """An action, float32 ``[..., D]``; ``noise [..., D]`` is standard normal."""
        return jnp.clip(self.loc + self.scale * noise, -1.0, 1.0)

    @staticmethod
    def to_env_action(action: Action) -> Action:
        """The action that the environment takes: the sample itself."""
        return action

    def mode(self) -> Action:
        """The policy's action, float32 ``[..., D]``."""
        return self.loc

    def log_prob(self, action: Action) -> jax.Array:
        """The log-density ``[...]`` of ``action [..., D]`` before the clip."""
        return self.base.log_prob(action)

    def entropy(self) -> jax.Array:
        """Differential entropy before the clip in nats ``[...]``."""
        return self.base.entropy()

    def kl(self, other: "ClippedGaussian") -> jax.Array:
        """Kullback-Leibler divergence ``KL(self || other)`` before the clip in nats ``[...]``."""
        return self.base.kl(other.base)


class TanhGaussian(NamedTuple):
    """``tanh`` of a `DiagGaussian`: ``D`` numbers in (-1, 1) (Haarnoja et al. 2018, arXiv 1812.05905, appendix C).

    A sample is the vector *before* the tanh. Densities and entropies are those of the environment's action, after it.

    Attributes:
        loc: means before the tanh, ``[..., D]``.
        log_scale: logs of the standard deviations before the tanh, ``[..., D]``.
    """

    loc: jax.Array
    log_scale: jax.Array

    @property
    def base(self) -> DiagGaussian:
        """The distribution before the tanh."""
        return DiagGaussian(self.loc, self.log_scale)

    def sample(self, noise: jax.Array) -> Action:
        """A vector before the tanh, float32 ``[..., D]``; ``noise [..., D]`` is standard normal."""
        return self.base.sample(noise)

    @staticmethod
    def to_env_action(action: Action) -> Action:
        """The action that the environment takes: the tanh of a sample, ``[..., D]`` in [-1, 1]."""
        return jnp.tanh(action)

    def mode(self) -> Action:
        """The mean before the tanh, ``[..., D]``."""
        return self.loc

    def log_prob(self, action: Action) -> jax.Array:
        """The log-density ``[...]`` of ``to_env_action(action)``, exact for any finite ``action [..., D]``."""
        return self.base.log_prob(action) - jnp.sum(_log_slope(action), axis=-1)

    def entropy(self) -> jax.Array:
        """Differential entropy of the environment's action in nats ``[...]``.

        It is the entropy before the tanh plus the mean of the log of tanh's derivative. The error is below 1e-5 and
        rounding, for any ``loc`` and ``log_scale``.
        """
        mean_log_slope = 2 * (_LOG_2 - _mean_log_2cosh(self.loc, self.log_scale))
        return self.base.entropy() + jnp.sum(mean_log_slope, axis=-1)

    def kl(self, other: "TanhGaussian") -> jax.Array:
        """Kullback-Leibler divergence ``KL(self || other)`` in nats ``[...]``, which the tanh does not change."""
        return self.base.kl(other.base)


def _log_slope(x: jax.Array) -> jax.Array:
    """The log of the derivative of tanh at ``x``, without the cancellation in ``1 - tanh(x)^2``."""
    return 2 * (_LOG_2 - x - jax.nn.softplus(-2 * x))


def _mean_log_2cosh(loc: jax.Array, log_scale: jax.Array) -> jax.Array:
    """The mean of ``log(2 cosh(x))`` over a normal ``x``, of the shape of both arguments.

    For ``U`` from the logistic distribution with scale 1/2, ``log(2 cosh(x))`` is the mean of ``abs(x + U)``: both have
    the second derivative ``sech(x)^2`` and approach ``abs(x)``. The logistic distribution is close to a mixture of
    normal distributions, so ``x + U`` is a mixture too, and the mean of the absolute value of a normal number has a
    closed form. Gauss-Hermite quadrature fails for a large scale: around 0, where the function bends, its nodes are far
    apart.
    """
    weights, scales = (jnp.asarray(x, jnp.float32).reshape((1,) * loc.ndim + (-1,)) for x in (_WEIGHTS, _SCALES))
    mean = loc[..., None]
    deviation = jnp.sqrt(jnp.exp(2 * log_scale)[..., None] + jnp.square(scales))
    ratio = mean / deviation
    density = float(np.sqrt(2 / np.pi)) * jnp.exp(-0.5 * jnp.square(ratio))
    mean_abs = deviation * density + mean * jax.lax.erf(ratio * float(np.sqrt(0.5)))
    return jnp.sum(weights * mean_abs, axis=-1)
