"""Distributions over actions. Each has ``sample``, ``mode``, ``log_prob``, ``entropy`` and ``kl``.

A sample is a function of the distribution and of ``noise``, which does not depend on it. So the noise of a whole
rollout is drawn at once, before the loop over its steps: on a CPU the random bits otherwise cost more than a
small policy network does.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


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

    @staticmethod
    def noise(key, shape):
        """What ``sample`` needs for actions of ``shape``: float32 in [0, 1), of that shape."""
        return jax.random.uniform(key, shape)

    def sample(self, noise):
        """An action, int32 ``[...]``, by inversion of the distribution function; ``noise`` as from `noise`."""
        cumulative = jnp.cumsum(jax.nn.softmax(self.logits), axis=-1)
        # Scaled by the actual sum, so that rounding can not select an action of probability 0 at the end.
        threshold = noise[..., None] * cumulative[..., -1:]
        return jnp.sum(cumulative <= threshold, axis=-1, dtype=jnp.int32)

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
