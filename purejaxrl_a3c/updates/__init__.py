"""Update rules: whose gradients, taken at which parameters, are applied to what, and in which order."""

from purejaxrl_a3c.updates import optimizers
from purejaxrl_a3c.updates.asynchronous import asynchronous
from purejaxrl_a3c.updates.asynchrony import Asynchrony
from purejaxrl_a3c.updates.averaging import averaging, mean, ring
from purejaxrl_a3c.updates.clock import PushBatch, Service
from purejaxrl_a3c.updates.corrections import CORRECTIONS, Correction
from purejaxrl_a3c.updates.gradient import apply_gradient
from purejaxrl_a3c.updates.minibatches import Adaptive, Passes, adaptive_kl, check_passes, minibatches
from purejaxrl_a3c.updates.optimizers import Adam, RAdam, RMSProp
from purejaxrl_a3c.updates.overlapped import overlapped
from purejaxrl_a3c.updates.synchronous import synchronous

__all__ = [
    "CORRECTIONS",
    "Adam",
    "Adaptive",
    "Asynchrony",
    "Correction",
    "Passes",
    "PushBatch",
    "RAdam",
    "RMSProp",
    "Service",
    "adaptive_kl",
    "apply_gradient",
    "asynchronous",
    "averaging",
    "check_passes",
    "mean",
    "minibatches",
    "optimizers",
    "overlapped",
    "ring",
    "synchronous",
]
