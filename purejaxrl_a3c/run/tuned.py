"""Settings that were found for single tasks: those of the committed tables of what agents learn."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import from_json, to_json
from purejaxrl_a3c.run.algorithms import ALGORITHMS

FILE = Path(__file__).with_name("tuned.json")
"""Written by ``python -m benchmarks.tuned``."""


class Tuned(NamedTuple):
    """Settings of an algorithm for one task, and what came of them."""

    settings: dict[str, Any]  # that differ from the defaults, as JSON holds them
    table: str  # of the results
    score: float  # interquartile mean over the seeds of that table


def read() -> dict[str, dict[str, Tuned]]:
    """What there is, by the names of algorithm and environment."""
    found = json.loads(FILE.read_text())
    return {name: {env_id: Tuned(**row) for env_id, row in rows.items()} for name, rows in found.items()}


def tuned(name: str, env_id: str) -> Any:
    """The config of an algorithm for a task.

    Args:
        name: of the algorithm.
        env_id: of the environment.

    Raises:
        InputError: if there are no such settings, with those that there are.
    """
    rows = read().get(name, {})
    if env_id not in rows:
        there = f"there are some for {', '.join(sorted(rows))}" if rows else "there are none for this algorithm"
        reject("tuned", env_id, f"left out for {name} on {env_id}: {there}")
    default = ALGORITHMS[name]
    return from_json(type(default), to_json(default) | rows[env_id].settings | {"env_id": env_id})
