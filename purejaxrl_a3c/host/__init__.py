"""Environments that step outside of JAX, and the loops that train and evaluate in them."""

from purejaxrl_a3c.host.evaluate import evaluate
from purejaxrl_a3c.host.train import train
from purejaxrl_a3c.host.vector import HostEnv, HostStep, from_gymnasium, make

__all__ = ["HostEnv", "HostStep", "evaluate", "from_gymnasium", "make", "train"]
