"""Environments that step outside of JAX, and the loops that train and evaluate in them."""

from purejaxrl_a3c.host.actors import train_actors
from purejaxrl_a3c.host.actors_run import ActorsResult, Updates
from purejaxrl_a3c.host.asynchronous import train_async
from purejaxrl_a3c.host.evaluation import evaluate
from purejaxrl_a3c.host.lockstep import StepError, train
from purejaxrl_a3c.host.results import AsyncResult, Pushes, WorkerError
from purejaxrl_a3c.host.vector import HostEnv, HostStep, from_gymnasium, make

__all__ = [
    "ActorsResult",
    "AsyncResult",
    "HostEnv",
    "HostStep",
    "Pushes",
    "StepError",
    "Updates",
    "WorkerError",
    "evaluate",
    "from_gymnasium",
    "make",
    "train",
    "train_actors",
    "train_async",
]
