"""Environments: all of them are an `Env`, whichever library they come from."""

from purejaxrl_a3c.envs.config import Config, Opponents, Wrappers
from purejaxrl_a3c.envs.games import Game, from_game
from purejaxrl_a3c.envs.make import AROUND_STEPS, SUITES, changed, make, make_episodic
from purejaxrl_a3c.envs.names import list_names
from purejaxrl_a3c.envs.observer import Observer, make_observer
from purejaxrl_a3c.envs.suites.gymnax import from_gymnax

__all__ = [
    "AROUND_STEPS",
    "SUITES",
    "Config",
    "Game",
    "Observer",
    "Opponents",
    "Wrappers",
    "changed",
    "from_game",
    "from_gymnax",
    "list_names",
    "make",
    "make_episodic",
    "make_observer",
]
