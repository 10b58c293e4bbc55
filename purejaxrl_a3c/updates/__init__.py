"""Update rules: whose gradients, taken at which parameters, are applied to what, and in which order."""

from purejaxrl_a3c.updates.asynchronous import ORDERS, READS, Asynchrony, asynchronous
from purejaxrl_a3c.updates.averaging import averaging, mean, ring
from purejaxrl_a3c.updates.clock import LAWS, Service
from purejaxrl_a3c.updates.minibatches import Adaptive, adaptive_kl, minibatches
from purejaxrl_a3c.updates.overlapped import overlapped
from purejaxrl_a3c.updates.synchronous import synchronous

CHOICES = {"schedule": (*ORDERS, "clock"), "service_law": tuple(LAWS), "reads": READS}
"""What the fields of `Asynchrony` that name something accept."""

__all__ = [
    "CHOICES",
    "Adaptive",
    "Asynchrony",
    "Service",
    "adaptive_kl",
    "asynchronous",
    "averaging",
    "mean",
    "minibatches",
    "overlapped",
    "ring",
    "synchronous",
]
