"""Wall-clock time to solve an environment, with and without the import and the compilation before it.

``python -m benchmarks.solve`` trains in pieces of about a fixed number of frames, and after each looks at the mean
return of 128 whole episodes with the most probable action. The run has taken what training took until the first mean
at or above the threshold. *All in all* is from the start of the process: imports, compilation and run. The time of
evaluations, and of their compilation, is in neither. Every seed is a fresh process without a cache of compiled
programs, on the CPU.

Learning rates are constant or fall to 0 over the ``frames`` of the row, so a run does not know that it will be stopped.
"""

import dataclasses
import json
from typing import Any, NamedTuple

import tyro

from benchmarks.peers import processes
from benchmarks.peers.protocol import Task
from benchmarks.record import describe, markdown_table, rows_of, save, spread
from benchmarks.suites import SUITES
from purejaxrl_a3c import a2c, a3c
from purejaxrl_a3c.config import flat, replace


class Row(NamedTuple):
    """Who solves what, without the seed."""

    script: str
    task: Task


def ours(config, **task):
    """The row of a ``Config`` of ours."""
    values = flat(config)
    if replace(type(config)(), **json.loads(json.dumps(values))) != config:
        raise ValueError(f"a command line does not say this: {config}")
    algorithm = type(config).__module__.rsplit(".", 1)[-1]
    return Row("ours", Task(algorithm, values["env_id"], frames=values["total_frames"], hyperparameters=values, **task))


CARTPOLE: dict[str, Any] = {"threshold": 475.0, "piece": 10_240}
BREAKOUT: dict[str, Any] = {"threshold": 15.0, "piece": 102_400}
# Found for this benchmark, of four settings of A2C and six of A3C with 10 seeds each. The peers have published ones.
FOUND: dict[str, Any] = {
    "rollout_length": 8,
    "total_frames": 500_000,
    "anneal_learning_rate": False,
    "gamma": 0.98,
    "entropy_coefficient": 0.0,
}
# Other settings than those of the tables of learning, which are of later.
ON_BREAKOUT: dict[str, Any] = {
    "env_id": "Breakout-MinAtar",
    "total_frames": 3_000_000,
    "torso": "minatar",
    "hidden_sizes": (128,),
    "activation": "relu",
    "shared_torso": True,
}
CAREFUL: dict[str, Any] = {"rollout_length": 10, "gamma": 0.97, "entropy_coefficient": 0.02, "layer_norm": True}

ROWS = {
    "A2C on CartPole-v1": ours(replace(a2c.Config(), learning_rate=2e-3, **FOUND), **CARTPOLE),
    "A3C on CartPole-v1": ours(
        replace(a3c.Config(), num_workers=8, envs_per_worker=2, learning_rate=1.5e-3, **FOUND), **CARTPOLE
    ),
    "PPO on CartPole-v1": ours(SUITES["ppo"]["CartPole-v1"]["PPO"], **CARTPOLE),
    "PQN on CartPole-v1": ours(SUITES["replay"]["CartPole-v1"]["PQN"], **CARTPOLE),
    # RL Baselines3 Zoo's.
    "SB3 A2C on CartPole-v1": Row(
        "sb3", Task("a2c", num_envs=8, frames=500_000, hyperparameters={"ent_coef": 0.0}, **CARTPOLE)
    ),
    "SB3 PPO on CartPole-v1": Row(
        "sb3",
        Task(
            "ppo",
            num_envs=8,
            rollout_length=32,
            epochs=20,
            frames=100_000,
            hyperparameters={
                "gamma": 0.98,
                "gae_lambda": 0.8,
                "ent_coef": 0.0,
                "learning_rate": "lin_0.001",
                "clip_range": "lin_0.2",
            },
            **CARTPOLE,
        ),
    ),
    # rejax's own for CartPole.
    "rejax PPO on CartPole-v1": Row(
        "rejax_peer",
        Task(
            "ppo",
            num_envs=5,
            rollout_length=100,
            epochs=5,
            num_minibatches=5,
            frames=100_000,
            hyperparameters={"learning_rate": 7.5e-4, "max_grad_norm": 0.5},
            **CARTPOLE,
        ),
    ),
    "A2C on Breakout-MinAtar": ours(
        replace(a2c.Config(), num_envs=16, learning_rate=4e-3, **CAREFUL, **ON_BREAKOUT), **BREAKOUT
    ),
    "A3C on Breakout-MinAtar": ours(replace(a3c.Config(), learning_rate=2e-3, **ON_BREAKOUT), **BREAKOUT),
    "PPO on Breakout-MinAtar": ours(SUITES["ppo_minatar"]["Breakout-MinAtar"]["PPO"], **BREAKOUT),
}


def table(results):
    """Markdown of all rows that were measured."""
    rows = []
    for name in (name for name in ROWS if name in results):
        answers = results[name]["answers"]
        solved = [answer for answer in answers if answer["solved"]]
        spreads = [
            spread([answer[field] for answer in solved], digits) if solved else "-"
            for field, digits in (("frames", 0), ("run_seconds", 2), ("all_in_all_seconds", 1))
        ]
        rows.append([name, f"{results[name]['threshold']:g}", f"{len(solved)} of {len(answers)}", *spreads])
    return (
        "Seconds until the first evaluation at or above a mean return (median over the seeds that got there, and "
        "range), without the time of the evaluations; all in all is from the start of the process, with imports and "
        "compilation.\n\n"
        + markdown_table(["", "return", "solved", "frames", "seconds of training", "seconds all in all"], rows)
    )


def main(seeds: int = 10, only: str = ""):
    """Measure and write results/solve.json and results/solve.md, after every row.

    Rows that were measured before stay. A peer whose environment cannot be made here is left out, with a message.

    Args:
        seeds: how many; the seeds are 0, 1, ...
        only: measure only the rows whose name, "SB3 A2C on CartPole-v1" say, contains this.
    """
    for name, (script, task) in ROWS.items():
        if only not in name:
            continue
        try:
            python = processes.interpreter(script)
        except processes.Unavailable as error:
            print(f"{name}: left out. {error}")
            continue
        measured = {
            "threshold": task.threshold,
            "task": dataclasses.asdict(task),
            "answers": [processes.train(script, python, dataclasses.replace(task, seed=seed)) for seed in range(seeds)],
            "measured": describe(),
        }
        # Read only now: another process may have added rows.
        results = rows_of("solve") | {name: measured}
        save("solve", {"results": results}, table(results), [row["measured"] for row in results.values()])


if __name__ == "__main__":
    tyro.cli(main)
