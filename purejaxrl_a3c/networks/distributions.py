"""Distributions over actions. Each has ``sample``, ``executed``, ``mode``, ``log_prob``, ``entropy`` and ``kl``.

A sample is a function of the distribution and of ``noise``, which does not depend on it. So the noise of a whole
rollout is drawn at once, before the loop over its steps: on a CPU the random bits otherwise cost more than a
small policy network does.

What is sampled, stored and given to ``log_prob`` need not be what the environment is given: that is
``executed(sample)``. A squashed Gaussian is sampled before the squashing, so that it never has to be inverted.
"""

from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np

_LOG_2PI = float(np.log(2 * np.pi))
# Gauss-Hermite nodes and weights of a standard normal: E f(x) = sum weights f(nodes).
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(64)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


class Categorical(NamedTuple):
    """One of ``A`` actions.

    Attributes:
        logits: ``[..., A]`` unnormalised log-probabilities.
    """

    logits: jax.Array

    @property
    def log_probs(self):
        """Normalised log-probabilities ``[..., A]``."""
        return jax.nn.log_softmax(self.logits)

    def sample(self, noise):
        """An action, int32 ``[...]``, by inversion of the distribution function; ``noise [...]`` uniform in [0, 1)."""
        cumulative = jnp.cumsum(jax.nn.softmax(self.logits), axis=-1)
        # Scaled by the actual sum, so that rounding can not select an action of probability 0 at the end.
        threshold = noise[..., None] * cumulative[..., -1:]
        return jnp.sum(cumulative <= threshold, axis=-1, dtype=jnp.int32)

    @staticmethod
    def executed(action):
        """What the environment is given: the action itself."""
        return action

    def mode(self):
        """The most probable action, int32 ``[...]``; the lowest of equals."""
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def log_prob(self, action):
        """The log-probability ``[...]`` of ``action``, int32 ``[...]``."""
        # A product with one-hot rows instead of a gather: its gradient is a product too, not a scatter.
        chosen = jax.nn.one_hot(action, self.logits.shape[-1], dtype=self.logits.dtype)
        return jnp.sum(self.log_probs * chosen, axis=-1)

    def entropy(self):
        """Entropy in nats ``[...]``."""
        log_probs = self.log_probs
        return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)

    def kl(self, other):
        """Kullback-Leibler divergence ``KL(self || other)`` in nats ``[...]``."""
        log_probs = self.log_probs
        return jnp.sum(jnp.exp(log_probs) * (log_probs - other.log_probs), axis=-1)


@flax.struct.dataclass
class MultiCategorical:
    """Several independent choices at once.

    Attributes:
        logits: ``[..., sum(sizes)]`` unnormalised log-probabilities, one choice after the other.
        sizes: the number of actions of each of ``K`` choices; static.
    """

    logits: jax.Array
    sizes: tuple[int, ...] = flax.struct.field(pytree_node=False)

    @property
    def choices(self):
        """Each choice as a `Categorical`."""
        ends = np.cumsum(self.sizes)[:-1].tolist()
        return [Categorical(logits) for logits in jnp.split(self.logits, ends, axis=-1)]

    def sample(self, noise):
        """An action, int32 ``[..., K]``; ``noise [..., K]`` uniform in [0, 1)."""
        return jnp.stack([choice.sample(noise[..., i]) for i, choice in enumerate(self.choices)], axis=-1)

    @staticmethod
    def executed(action):
        """What the environment is given: the action itself."""
        return action

    def mode(self):
        """The most probable action, int32 ``[..., K]``."""
        return jnp.stack([choice.mode() for choice in self.choices], axis=-1)

    def log_prob(self, action):
        """The log-probability ``[...]`` of ``action``, int32 ``[..., K]``."""
        return sum(choice.log_prob(action[..., i]) for i, choice in enumerate(self.choices))

    def entropy(self):
        """Entropy in nats ``[...]``."""
        return sum(choice.entropy() for choice in self.choices)

    def kl(self, other):
        """Kullback-Leibler divergence ``KL(self || other)`` in nats ``[...]``."""
        return sum(mine.kl(its) for mine, its in zip(self.choices, other.choices, strict=True))


class DiagGaussian(NamedTuple):
    """Independent normal distributions over ``D`` numbers, without bounds.

    Attributes:
        loc: ``[..., D]``.
        log_scale: ``[..., D]``, the log of the standard deviation.
    """

    loc: jax.Array
    log_scale: jax.Array

    def sample(self, noise):
        """An action, float32 ``[..., D]``; ``noise [..., D]`` standard normal."""
        return self.loc + jnp.exp(self.log_scale) * noise

    @staticmethod
    def executed(action):
        """What the environment is given: the action itself. A bounded environment clips it."""
        return action

    def mode(self):
        """The most probable action, float32 ``[..., D]``."""
        return self.loc

    def log_prob(self, action):
        """The log-density ``[...]`` of ``action [..., D]``."""
        standardised = (action - self.loc) * jnp.exp(-self.log_scale)
        return -jnp.sum(0.5 * jnp.square(standardised) + self.log_scale + 0.5 * _LOG_2PI, axis=-1)

    def entropy(self):
        """Differential entropy in nats ``[...]``."""
        return jnp.sum(self.log_scale + 0.5 * (1 + _LOG_2PI), axis=-1)

    def kl(self, other):
        """Kullback-Leibler divergence ``KL(self || other)`` in nats ``[...]``."""
        log_ratio = self.log_scale - other.log_scale
        distance = jnp.square((self.loc - other.loc) * jnp.exp(-other.log_scale))
        return jnp.sum(0.5 * (jnp.exp(2 * log_ratio) + distance - 1) - log_ratio, axis=-1)


class TanhGaussian(NamedTuple):
    """``tanh`` of a `DiagGaussian`: ``D`` numbers in (-1, 1) (Haarnoja et al. 2018, arXiv 1812.05905, appendix C).

    Samples, and the argument of ``log_prob``, are the numbers *before* the tanh; densities are those of the
    executed action, after it.

    Attributes:
        loc: ``[..., D]``.
        log_scale: ``[..., D]``.
    """

    loc: jax.Array
    log_scale: jax.Array

    @property
    def base(self):
        """The distribution before the tanh."""
        return DiagGaussian(self.loc, self.log_scale)

    def sample(self, noise):
        """A number before the tanh, float32 ``[..., D]``; ``noise [..., D]`` standard normal."""
        return self.base.sample(noise)

    @staticmethod
    def executed(action):
        """What the environment is given, ``[..., D]`` in [-1, 1]."""
        return jnp.tanh(action)

    def mode(self):
        """The centre of the distribution before the tanh, ``[..., D]``."""
        return self.loc

    def log_prob(self, action):
        """The log-density ``[...]`` of ``executed(action)``, exact for any finite ``action [..., D]``."""
        return self.base.log_prob(action) - jnp.sum(_log_slope(action), axis=-1)

    def entropy(self):
        """Differential entropy of the executed action in nats ``[...]``, by Gauss-Hermite quadrature of 64 nodes."""
        nodes = jnp.asarray(_NODES, jnp.float32)
        x = self.loc[..., None] + jnp.exp(self.log_scale)[..., None] * nodes.reshape((1,) * self.loc.ndim + (-1,))
        return self.base.entropy() + jnp.sum(_log_slope(x) @ jnp.asarray(_WEIGHTS, jnp.float32), axis=-1)

    def kl(self, other):
        """Kullback-Leibler divergence in nats ``[...]``: the same before and after the tanh."""
        return self.base.kl(other.base)


def _log_slope(x):
    """``log d tanh(x) / dx``, without the cancellation in ``1 - tanh(x)^2``."""
    return 2 * (float(np.log(2)) - x - jax.nn.softplus(-2 * x))
