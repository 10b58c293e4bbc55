"""Intrinsic rewards, which an actor-critic can learn from beside the environment's."""

from purejaxrl_a3c.bonuses.rnd import random_network_distillation

__all__ = ["random_network_distillation"]
