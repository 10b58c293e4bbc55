"""Update rules: whose gradients, taken at which parameters, are applied to what, and in which order."""

from purejaxrl_a3c.updates import optimizers
from purejaxrl_a3c.updates.asynchronous import asynchronous, asynchronous_actors
from purejaxrl_a3c.updates.asynchrony import Asynchrony, learned_at_once
from purejaxrl_a3c.updates.averaging import averaging, mean, ring
from purejaxrl_a3c.updates.clock import PushBatch
from purejaxrl_a3c.updates.corrections import CORRECTIONS, Correction
from purejaxrl_a3c.updates.gradient import apply_gradient
from purejaxrl_a3c.updates.learning import Learning, one_step
from purejaxrl_a3c.updates.minibatches import (
    Adaptive,
    Passes,
    adaptive_kl,
    check_passes,
    in_passes,
    lockstep,
    whole_rollouts,
)
from purejaxrl_a3c.updates.optimizers import Adam, RAdam, RMSProp
from purejaxrl_a3c.updates.overlapped import overlapped
from purejaxrl_a3c.updates.queue import Queue
from purejaxrl_a3c.updates.service import Service
from purejaxrl_a3c.updates.synchronous import synchronous

__all__ = [
    "CORRECTIONS",
    "Adam",
    "Adaptive",
    "Asynchrony",
    "Correction",
    "Learning",
    "Passes",
    "PushBatch",
    "Queue",
    "RAdam",
    "RMSProp",
    "Service",
    "adaptive_kl",
    "apply_gradient",
    "asynchronous",
    "asynchronous_actors",
    "averaging",
    "check_passes",
    "in_passes",
    "learned_at_once",
    "lockstep",
    "mean",
    "one_step",
    "optimizers",
    "overlapped",
    "ring",
    "synchronous",
    "whole_rollouts",
]
