"""Loops that act and learn in turn; each builds an `Algorithm` from its parts."""

from purejaxrl_a3c.loops.agent import Agent, Part, TargetConfig, make_part, q_agent
from purejaxrl_a3c.loops.config import Actors, Batch, Workers
from purejaxrl_a3c.loops.experience import Experience, make_plan
from purejaxrl_a3c.loops.exploration import (
    EpsilonConfig,
    Exploration,
    NoiseConfig,
    RepeatConfig,
    WorkerEpsilonConfig,
    epsilon_greedy,
    epsilon_greedy_workers,
    gaussian_noise,
    no_exploration,
)
from purejaxrl_a3c.loops.layout import EnvLayout, make_layout
from purejaxrl_a3c.loops.off_policy import Parts, make_parts, off_policy
from purejaxrl_a3c.loops.on_policy import on_policy

__all__ = [
    "Actors",
    "Agent",
    "Batch",
    "EnvLayout",
    "EpsilonConfig",
    "Experience",
    "Exploration",
    "NoiseConfig",
    "Part",
    "Parts",
    "RepeatConfig",
    "TargetConfig",
    "WorkerEpsilonConfig",
    "Workers",
    "epsilon_greedy",
    "epsilon_greedy_workers",
    "gaussian_noise",
    "make_layout",
    "make_part",
    "make_parts",
    "make_plan",
    "no_exploration",
    "off_policy",
    "on_policy",
    "q_agent",
]
