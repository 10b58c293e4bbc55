"""Frames per second of A3C on each schedule, beside plain A3C in the same run.

``python -m benchmarks.schedules`` measures CartPole-v1 with 16 workers, rollouts of 5 steps and networks of 2x64 tanh,
in turns (A B C A B C ...); every ratio is a median of ratios within one turn.
"""

import numpy as np
import tyro

from benchmarks.parts import algorithm_loop
from benchmarks.record import markdown_table, save
from benchmarks.speed import actor_critics
from benchmarks.timing import in_turns, rate
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.updates import Asynchrony, Service

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


def main(num_envs: tuple[int, ...] = (64, 512), repetitions: int = 7, seconds: float = 0.5):
    """Measure and write results/schedules.json and results/schedules.md.

    Args:
        num_envs: environments in all, over 16 workers.
        repetitions: turns, of which the median counts.
        seconds: of one measurement.
    """
    rows, data = {name: [name] for name in SCHEDULES}, {}
    for n in num_envs:
        config = actor_critics("CartPole-v1", n).configs["A3C"]
        loops = {name: algorithm_loop(replace(config, asynchrony=settings)) for name, settings in SCHEDULES.items()}
        took = {name: np.array(one.seconds) for name, one in in_turns(loops, repetitions, seconds).items()}
        for name, x in took.items():
            rows[name] += [rate(n * config.rollouts.rollout_length, x), f"{np.median(took[PLAIN] / x):.2f}"]
        data[str(n)] = {name: x.tolist() for name, x in took.items()}
    header = ["schedule"] + [text for n in num_envs for text in (f"{n} environments", "of plain A3C")]
    table = (
        "Million frames per second of A3C with 16 workers (median, and range), CartPole-v1, rollouts of 5 steps, 2x64 "
        "tanh.\n\n" + markdown_table(header, list(rows.values()))
    )
    save("schedules", {"repetitions": repetitions, "seconds_per_iteration": data}, table)


if __name__ == "__main__":
    tyro.cli(main)
