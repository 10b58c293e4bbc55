"""Whole reinforcement-learning runs as pure functions, and A3C on an exact schedule."""

import importlib.metadata

from purejaxrl_a3c import starting  # noqa: F401  first: it listens for Ctrl-C while JAX is imported
from purejaxrl_a3c.algorithms import (
    a2c,
    a3c,
    averaging,
    d4pg,
    dqn,
    impala,
    nstep_q,
    ppo,
    pqn,
    r2d2,
    reinforce,
    rnd,
    sac,
    td3,
)
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.run import devices
from purejaxrl_a3c.run.act import make_act
from purejaxrl_a3c.run.callbacks import evaluate_every, train_in_pieces
from purejaxrl_a3c.run.evaluate import evaluate
from purejaxrl_a3c.run.export import load_policy
from purejaxrl_a3c.run.load import load
from purejaxrl_a3c.run.many import train_many
from purejaxrl_a3c.run.population import Population, make_population
from purejaxrl_a3c.run.sweep import Sweep, sweep
from purejaxrl_a3c.run.train import Result, compiler_options, make_train
from purejaxrl_a3c.run.watch import watch

__version__ = importlib.metadata.version("purejaxrl-a3c")

__all__ = [
    "InputError",
    "Population",
    "Result",
    "Sweep",
    "__version__",
    "a2c",
    "a3c",
    "averaging",
    "compiler_options",
    "d4pg",
    "devices",
    "dqn",
    "evaluate",
    "evaluate_every",
    "impala",
    "load",
    "load_policy",
    "make_act",
    "make_population",
    "make_train",
    "nstep_q",
    "ppo",
    "pqn",
    "r2d2",
    "reinforce",
    "replace",
    "rnd",
    "sac",
    "sweep",
    "td3",
    "train_in_pieces",
    "train_many",
    "watch",
]
