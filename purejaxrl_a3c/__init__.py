"""Whole reinforcement-learning runs as pure functions, and A3C on an exact schedule."""

from purejaxrl_a3c.algorithms import a2c, a3c, averaging, impala, ppo, reinforce, rnd
from purejaxrl_a3c.run import devices
from purejaxrl_a3c.run.evaluate import evaluate
from purejaxrl_a3c.run.train import Result, make_train

__all__ = [
    "Result",
    "a2c",
    "a3c",
    "averaging",
    "devices",
    "evaluate",
    "impala",
    "make_train",
    "ppo",
    "reinforce",
    "rnd",
]
