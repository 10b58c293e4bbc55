"""Update rules: whose gradients, taken at which parameters, are applied to what, and in which order."""

from purejaxrl_a3c.updates.asynchronous import asynchronous
from purejaxrl_a3c.updates.synchronous import synchronous

__all__ = ["asynchronous", "synchronous"]
