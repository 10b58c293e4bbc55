"""What a script that trains is told on its command line and what it answers, the same for ours and for every peer.

Only the standard library: this is imported in the environments of the peers, too.
"""

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Task:
    """One run. Every field is an option of the command line; its values are JSON, except for strings."""

    algorithm: str = ""
    env_id: str = "CartPole-v1"
    num_envs: int = 16
    """Environments in all: A3C's workers share them out."""
    rollout_length: int = 5
    epochs: int = 1
    """Over each rollout; 1 in A2C and A3C, which know no other."""
    num_minibatches: int = 1
    updates: int = 1
    """Gradient steps after each rollout of an algorithm that learns from replay, each on a batch of its own."""
    batch_size: int = 64
    """Of these gradient steps."""
    replay_size: int = 50_000
    """Frames that the replay buffer holds."""
    learning_starts: int = 1_000
    """Frames before the first of these gradient steps."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Of policy and value, which share nothing; tanh. In algorithms that learn from replay relu. After the convolutions
    of Mnih et al. 2015, if observations are images: shared, and relu."""
    num_cells: int = 0
    """Of a GRU between the layers, which then are shared and relu, and the heads; 0: no memory."""
    frames: int = 100_000
    """Of the run; at most, if there is a threshold."""
    seed: int = 0
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    """What the trainer is told besides, by its own names."""
    checkout: str = ""
    """Folder of the peer's sources, where it is no package."""
    threshold: float | None = None
    """Stop at the first evaluation with a mean return of at least this; None: train on, and never evaluate."""
    piece: int = 10_240
    """Frames between two evaluations, rounded up to whole rollouts."""
    episodes: int = 128
    """Of each evaluation, with the most probable action."""
    memory_schedule: bool = False
    """Whether XLA's CPU backend orders the peer's kernels to save memory, as ours are where that is faster, see
    `purejaxrl_a3c.compiler_options`; by default it orders them so that threads can share them."""
    launched: float = 0.0
    """`time.time` before the driver started the process."""

    @property
    def images(self):
        """Whether observations are images, of the Arcade Learning Environment."""
        return self.env_id.startswith("ale/")

    @property
    def rollouts_per_piece(self):
        """At least `piece` frames."""
        return -(-self.piece // (self.num_envs * self.rollout_length))


def arguments(task):
    """The command line that `parse` reads."""
    values = {name: value if isinstance(value, str) else json.dumps(value) for name, value in asdict(task).items()}
    return [text for name, value in values.items() for text in (_option(name), value)]


def parse(argv=None):
    """The `Task` on a command line; None: this process's."""
    parser = argparse.ArgumentParser()
    for each in fields(Task):
        read = str if isinstance(each.default, str) else json.loads
        parser.add_argument(_option(each.name), type=read, default=argparse.SUPPRESS)
    given: dict[str, Any] = vars(parser.parse_args(argv))
    return Task(**with_tuples(given))


def with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists only; a hashable config has tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _option(name):
    return "--" + name.replace("_", "-")


def answer(**row):
    """Print what was measured: one line of JSON, the last of the output."""
    print(json.dumps(row), flush=True)


def cores():
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def solve(train, evaluate, task, clock=time.perf_counter):
    """Train piece by piece until an evaluation reaches ``task.threshold`` or ``task.frames`` are used up.

    The time of evaluations, and of their compilation, is not that of training.

    Args:
        train: trains for one more piece, waits until it is done, and returns the frames so far.
        evaluate: returns the mean return of the policy as it is now.
        task: a `Task`.
        clock: seconds.

    Returns:
        A row for `answer`.
    """
    run_seconds = evaluation_seconds = 0.0
    frames, returns = 0, []
    while frames < task.frames:
        began = clock()
        frames = train()
        trained = clock()
        returns.append(evaluate())
        run_seconds += trained - began
        evaluation_seconds += clock() - trained
        if returns[-1] >= task.threshold:
            break
    return {
        "solved": returns[-1] >= task.threshold,
        "frames": frames,
        "run_seconds": run_seconds,
        "evaluation_seconds": evaluation_seconds,
        "all_in_all_seconds": time.time() - task.launched - evaluation_seconds,  # import, compilation and run
        "returns": returns,
    }
