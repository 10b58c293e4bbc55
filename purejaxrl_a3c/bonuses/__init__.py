"""Intrinsic rewards, from which an actor-critic can learn beside the environment's rewards."""

from purejaxrl_a3c.bonuses.rnd import RNDSettings, RNDState, random_network_distillation
from purejaxrl_a3c.bonuses.streams import two_streams

__all__ = ["RNDSettings", "RNDState", "random_network_distillation", "two_streams"]
