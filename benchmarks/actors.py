"""Actors and a learner outside of JAX: what a fixed order of events costs, and how stale the rollouts are.

``python -m benchmarks.actors`` trains IMPALA with `host.train_actors`, racing and in the order of the simulation, and
with `host.train`, where all environments step together and staleness is simulated, in turn in one process.
"""

import time
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro

from benchmarks.record import markdown_table, save, spread
from purejaxrl_a3c import host, impala, replace
from purejaxrl_a3c.updates import Asynchrony, Queue


class Row(NamedTuple):
    """Environments and a network."""

    env_id: str
    frames: int
    settings: dict[str, object]


ROWS = {
    "CartPole": Row("gym/CartPole-v1", 400_000, {"num_workers": 4, "envs_per_worker": 4, "hidden_sizes": (64, 64)}),
    "Pong": Row(
        "ale/Pong",
        20_000,
        {
            "num_workers": 4,
            "envs_per_worker": 4,
            "torso": "nature",
            "activation": "relu",
            "hidden_sizes": (512,),
            "shared_torso": True,
        },
    ),
}
WAYS = ("actors, racing", "actors, fixed order", "lockstep")


def config(row: Row, way: str):
    """The same work each way: 20 steps in each environment, and an update for the rollout of each actor or worker."""
    own = replace(impala.Config(), env_id=row.env_id, total_frames=row.frames, reads="newest", lag=0.0, **row.settings)
    if way == "lockstep":
        return own
    return replace(own, asynchrony=Asynchrony("queue", queue=Queue(batch_rollouts=1, queue_capacity=4)))


def measure(row: Row, way: str, seed: int):
    """Frames per second after the first fifth of the run, and the mean staleness."""
    own, key = config(row, way), jax.random.key(seed)
    seen: list[float] = []

    def note(*_):
        seen.append(time.perf_counter())

    staleness: Any
    if way == "lockstep":
        staleness = host.train(own, key, on_iteration=note).metrics.losses["staleness_mean"]
    else:
        staleness = host.train_actors(own, key, deterministic="fixed" in way, on_progress=note).updates.staleness
    first = len(seen) // 5
    per_iteration = row.frames // len(seen)
    return per_iteration * (len(seen) - 1 - first) / (seen[-1] - seen[first]), float(staleness.mean())


def main(turns: int = 3):
    """Measure, and write results/actors.json and .md.

    Args:
        turns: of every row; each is another seed.
    """
    data, rows = {}, []
    for name, row in ROWS.items():
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for turn in range(turns):
            for way in WAYS:
                found[way].append(measure(row, way, turn))
        data[name] = found
        racing = np.array([rate for rate, _ in found[WAYS[0]]])
        for way in WAYS:
            rates, staleness = np.array(found[way]).T
            rows.append([f"{name}, {way}", spread(rates), spread(rates / racing, 2), f"{staleness.mean():.2f}"])
    table = (
        "IMPALA with 4 actors, or workers, of 4 environments and rollouts of 20 steps: frames per second, the ratio to "
        "the first row within a turn, and the mean staleness in updates.\n\n"
        + markdown_table(["", "frames / s", "ratio", "staleness"], rows)
    )
    save("actors", {"turns": turns, "rows": data}, table)


if __name__ == "__main__":
    tyro.cli(main)
