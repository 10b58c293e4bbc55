"""Frames per second of A3C and of PPO on each schedule, beside plain A3C and plain PPO in the same run.

``python -m benchmarks.schedules`` measures CartPole-v1 with networks of 2x64 tanh, in turns (A B C A B C ...): A3C with
16 workers and rollouts of 5 steps, and PPO with 128 steps and 4 epochs of 4 minibatches. Every ratio is a median of
ratios within one turn.
"""

from typing import Any

import numpy as np
import tyro

from benchmarks.parts import algorithm_loop
from benchmarks.record import markdown_table, save
from benchmarks.speed import actor_critics, proximal
from benchmarks.timing import in_turns, rate
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.updates import Asynchrony, Queue, Service

PLAIN = "random order, once a round"
SCHEDULES = {
    PLAIN: Asynchrony(),
    "round robin": Asynchrony("round_robin"),
    "clock, constant service": Asynchrony("clock", Service("constant")),
    "clock, gamma CV 0.1": Asynchrony("clock", Service("gamma", 0.1)),
    "clock, gamma CV 0.3": Asynchrony("clock", Service("gamma", 0.3)),
    "clock, gamma CV 0.6": Asynchrony("clock", Service("gamma", 0.6)),
    "clock, exponential": Asynchrony("clock", Service("exponential")),
    "clock, gamma CV 0.3, at most 1 task ahead": Asynchrony("clock", Service("gamma", 0.3), max_lead=1),
    "torn reads, by leaf": Asynchrony(reads="torn_leaves"),
    "torn reads, by element": Asynchrony(reads="torn_elements"),
    "reads 15 versions late": Asynchrony(reads="lagged", lag=15.0, max_lag=15),
}


SYNCHRONOUS = "synchronous"
WORKERS = 4
ACTORS: dict[str, Any] = {
    SYNCHRONOUS: {},
    "lag of 4 updates": {"asynchrony": Asynchrony(reads="lagged", lag=4.0, max_lag=4)},
    "random order": {"num_workers": WORKERS},
    "clock, gamma CV 0.3": {"num_workers": WORKERS, "asynchrony": Asynchrony("clock", Service("gamma", 0.3))},
    "clock, exponential": {"num_workers": WORKERS, "asynchrony": Asynchrony("clock", Service("exponential"))},
    "queue, batches of 4, exponential": {
        "num_workers": WORKERS,
        "asynchrony": Asynchrony("queue", Service("exponential"), queue=Queue(batch_rollouts=WORKERS)),
    },
}


def measure(configs, plain, num_envs, repetitions, seconds):
    """The rows of a table, and the seconds of an iteration, of ``configs(n)`` by name for each number of environments.

    Args:
        configs: number of environments to configs by name.
        plain: the name of the one that the others are compared with.
        num_envs: environments in all.
        repetitions: turns, of which the median counts.
        seconds: of one measurement.
    """
    rows: dict[str, list[str]] = {}
    data = {}
    for n in num_envs:
        some = configs(n)
        loops = {name: algorithm_loop(config) for name, config in some.items()}
        took = {name: np.array(one.seconds) for name, one in in_turns(loops, repetitions, seconds).items()}
        for name, x in took.items():
            frames = some[name].build().frames_per_step
            rows.setdefault(name, [name]).extend([rate(frames, x), f"{np.median(took[plain] / x):.2f}"])
        data[str(n)] = {name: x.tolist() for name, x in took.items()}
    return list(rows.values()), data


def main(num_envs: tuple[int, ...] = (64, 512), repetitions: int = 7, seconds: float = 0.5):
    """Measure and write results/schedules.json and results/schedules.md.

    Args:
        num_envs: environments in all.
        repetitions: turns, of which the median counts.
        seconds: of one measurement.
    """

    def a3c(n):
        config = actor_critics("CartPole-v1", n).configs["A3C"]
        return {name: replace(config, asynchrony=settings) for name, settings in SCHEDULES.items()}

    def ppo(n):
        return {name: replace(proximal("CartPole-v1", n).configs["PPO"], **x) for name, x in ACTORS.items()}

    rows, data = measure(a3c, PLAIN, num_envs, repetitions, seconds)
    header = ["schedule"] + [text for n in num_envs for text in (f"{n} environments", "of plain A3C")]
    table = (
        "Million frames per second of A3C with 16 workers (median, and range), CartPole-v1, rollouts of 5 steps, 2x64 "
        "tanh.\n\n" + markdown_table(header, rows)
    )
    rows, ppo_data = measure(ppo, SYNCHRONOUS, num_envs, repetitions, seconds)
    header = ["schedule"] + [text for n in num_envs for text in (f"{n} environments", "of synchronous PPO")]
    table += (
        f"\nLikewise of PPO, rollouts of 128 steps, 4 epochs of 4 minibatches. Where there are {WORKERS} workers, they "
        "share the environments out; all but the queue learn from the rollouts of one worker at a time.\n\n"
        + markdown_table(header, rows)
    )
    save("schedules", {"repetitions": repetitions, "seconds_per_iteration": data, "seconds_of_ppo": ppo_data}, table)


if __name__ == "__main__":
    tyro.cli(main)
