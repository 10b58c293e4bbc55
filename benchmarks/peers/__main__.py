"""Frames per second of ours beside those of other packages, at the same work.

``python -m benchmarks.peers`` trains ours and theirs in turn (A B A B ...), each time in a fresh process and every peer
in an environment of its own, which uv makes from the header of the peer's script: the same environment, number of
environments, length of rollouts, passes over them, minibatches and networks, on the CPU, without evaluation or logging.
Compilation and first calls are not counted. Every ratio is a median of ratios within one turn.

The peers: Stable-Baselines3 (PyTorch, environments in Python), rejax (JAX, whole runs compiled, as ours), PureJaxRL out
of a checkout of its sources (``--purejaxrl DIR``; it is not on PyPI), and PPO as a plain loop in JAX. That one is ours,
too, and has the structure of PureJaxRL's for who has no checkout: see ``plain_ppo.py``.
Not here: brax's PPO, which does not run with the JAX that ours is measured with: brax 0.14.2 calls
`jax.device_put_replicated`, which JAX 0.10.1 no longer has.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro

from benchmarks.peers import processes
from benchmarks.peers.protocol import Task
from benchmarks.record import describe, markdown_table, rows_of, save, spread
from purejaxrl_a3c.checks import reject


class Comparison(NamedTuple):
    """One peer, and whom of ours it is compared with, at the same work."""

    peer: str  # a script
    algorithm: str  # the peer's
    ours: tuple[str, ...]  # algorithms
    work: Task  # of both; its frames are the peer's
    frames_of_ours: int  # enough for seconds
    script: str = "ours"  # ours

    def task_of_peer(self):
        """What the peer's script is told."""
        return replace(self.work, algorithm=self.algorithm)

    def task_of_ours(self, algorithm):
        """What `ours.py` is told: the same work for another number of frames."""
        return replace(self.work, algorithm=algorithm, frames=self.frames_of_ours)


def _sb3_ppo(frames_of_ours, **work):
    return Comparison("sb3", "ppo", ("ppo",), Task(frames=40_960, **work), frames_of_ours)


def _rejax_ppo(frames, **work):
    return Comparison("rejax_peer", "ppo", ("ppo",), Task(frames=frames, **work), frames)


def _plain_ppo(num_envs):
    # PureJaxRL's settings for CartPole.
    work = Task(frames=1024 * 1024, num_envs=num_envs, rollout_length=128, epochs=4, num_minibatches=4)
    return Comparison("plain_ppo", "ppo", ("ppo",), replace(work, hyperparameters={"clip_values": True}), work.frames)


def _purejaxrl(num_envs, frames, **work):
    own = Task(frames=frames, num_envs=num_envs, rollout_length=128, epochs=4, num_minibatches=4, **work)
    return Comparison("purejaxrl_peer", "ppo", ("ppo",), replace(own, hyperparameters={"clip_values": True}), frames)


# rejax's settings for CartPole: 10 environments, and 5 updates on 100 transitions after each step of them.
_DQN = Task(num_envs=10, rollout_length=1, updates=5, batch_size=100, frames=20_000, learning_starts=2_000)
_DQN_MINATAR = Task(
    env_id="Breakout-MinAtar", num_envs=4, rollout_length=1, batch_size=64, frames=20_000, learning_starts=1_000
)
_SAC = Task(
    env_id="Pendulum-v1",
    num_envs=1,
    rollout_length=1,
    batch_size=256,
    hidden_sizes=(256, 256),
    frames=4_000,
    learning_starts=256,
    replay_size=20_000,
)

COMPARISONS = {
    f"SB3 A2C, {n} environments": Comparison(
        "sb3", "a2c", ("a2c", "a3c"), Task(frames=51_200, num_envs=n, rollout_length=5), 1_024_000
    )
    for n in (16, 64)
} | {
    # In the same environments of Gymnasium: A2C in one process, A3C in two.
    "SB3 A2C, 16 environments of Gymnasium": Comparison(
        "sb3", "a2c", ("a2c", "a3c"), Task(frames=51_200, num_envs=16, rollout_length=5), 400_000, "ours_outside"
    ),
    "SB3 PPO, 8 environments of Gymnasium, 128 steps, 4 x 4 updates": _sb3_ppo(
        200_000, num_envs=8, rollout_length=128, epochs=4, num_minibatches=4
    )._replace(script="ours_outside"),
    "SB3 DQN, CartPole of Gymnasium, 10 environments, 5 updates of 100": Comparison(
        "sb3", "dqn", ("dqn",), replace(_DQN, frames=10_000), 60_000, "ours_outside"
    ),
    "SB3 SAC, Pendulum of Gymnasium, 1 environment, 1 update of 256": Comparison(
        "sb3", "sac", ("sac",), replace(_SAC, frames=2_000), 4_000, "ours_outside"
    ),
    # Atari with the settings of Schulman et al. 2017, and those of Mnih et al. 2015 but for the number of environments.
    "SB3 PPO, Pong, 8 environments, 128 steps, 4 x 4 updates": Comparison(
        "sb3",
        "ppo",
        ("ppo",),
        Task(
            env_id="ale/Pong",
            num_envs=8,
            rollout_length=128,
            epochs=4,
            num_minibatches=4,
            hidden_sizes=(512,),
            frames=8_192,
        ),
        16_384,
        "ours_outside",
    ),
    "SB3 DQN, Pong, 8 environments, 2 updates of 32": Comparison(
        "sb3",
        "dqn",
        ("dqn",),
        Task(
            env_id="ale/Pong",
            num_envs=8,
            rollout_length=1,
            updates=2,
            batch_size=32,
            replay_size=20_000,
            learning_starts=1_000,
            hidden_sizes=(512,),
            frames=6_000,
        ),
        10_000,
        "ours_outside",
    ),
    "SB3 SAC, HalfCheetah of Gymnasium, 1 environment, 1 update of 256": Comparison(
        "sb3", "sac", ("sac",), replace(_SAC, env_id="HalfCheetah-v5", frames=3_000), 6_000, "ours_outside"
    ),
    # RL Baselines3 Zoo's settings for CartPole; those of Schulman et al. 2017 for Atari.
    "SB3 PPO, 8 environments, 32 steps, 20 x 1 updates": _sb3_ppo(512_000, num_envs=8, rollout_length=32, epochs=20),
    "SB3 PPO, 8 environments, 128 steps, 4 x 4 updates": _sb3_ppo(
        1_024_000, num_envs=8, rollout_length=128, epochs=4, num_minibatches=4
    ),
    # rejax's defaults; more environments, as one would have on an accelerator.
    "rejax PPO, 64 environments, 64 steps, 8 x 16 updates": _rejax_ppo(
        512 * 1024, num_envs=64, rollout_length=64, epochs=8, num_minibatches=16
    ),
    "rejax PPO, 2048 environments, 64 steps, 4 x 32 updates": _rejax_ppo(
        1024 * 1024, num_envs=2048, rollout_length=64, epochs=4, num_minibatches=32
    ),
    "rejax DQN, CartPole, 10 environments, 5 updates of 100": Comparison("rejax_peer", "dqn", ("dqn",), _DQN, 100_000),
    # rejax as its users compile it, and then with the options that ours is compiled with.
    "rejax DQN, CartPole, 10 environments, 5 updates of 100, kernels not ordered for threads": Comparison(
        "rejax_peer", "dqn", ("dqn",), replace(_DQN, memory_schedule=True), 100_000
    ),
    "rejax DQN, Breakout-MinAtar, 4 environments, 1 update of 64": Comparison(
        "rejax_peer", "dqn", ("dqn",), _DQN_MINATAR, 40_000
    ),
    "rejax SAC, Pendulum, 1 environment, 1 update of 256": Comparison("rejax_peer", "sac", ("sac",), _SAC, 4_000),
    "SB3 DQN, CartPole, 10 environments, 5 updates of 100": Comparison(
        "sb3", "dqn", ("dqn",), replace(_DQN, frames=10_000), 100_000
    ),
    "SB3 SAC, Pendulum, 1 environment, 1 update of 256": Comparison(
        "sb3", "sac", ("sac",), replace(_SAC, frames=2_000), 4_000
    ),
    **{f"PureJaxRL PPO, {n} environments, 128 steps, 4 x 4 updates": _purejaxrl(n, 1024 * 1024) for n in (4, 64, 512)},
    "PureJaxRL PPO, Breakout-MinAtar, 64 environments, 128 steps, 4 x 4 updates": _purejaxrl(
        64, 512 * 1024, env_id="Breakout-MinAtar"
    ),
    # Theirs has a layer of 128, a GRU, and a layer of 128 for each head; ours two layers and the GRU, which is an
    # eighth less to compute.
    "PureJaxRL PPO with a GRU of 128, 64 environments, 128 steps, 4 x 4 updates": _purejaxrl(
        64, 128 * 1024, hidden_sizes=(128, 128), num_cells=128
    ),
    **{f"plain PPO, {n} environments, 128 steps, 4 x 4 updates": _plain_ppo(n) for n in (4, 64, 512)},
}


def compare(comparison: Comparison, python: str, turns: int):
    """Answers of the peer and of ours, ``{name: [turns]}``; the peer is ``"peer"``."""
    answers: dict[str, list[Any]] = {name: [] for name in (*comparison.ours, "peer")}
    for _ in range(turns):
        for algorithm in comparison.ours:
            task = comparison.task_of_ours(algorithm)
            answers[algorithm].append(
                processes.train(comparison.script, processes.interpreter(comparison.script), task)
            )
        answers["peer"].append(processes.train(comparison.peer, python, comparison.task_of_peer()))
    return answers


def rates(answers):
    """Frames per second ``[turns]``."""
    return np.array([answer["frames"] / answer["run_seconds"] for answer in answers])


def ratios(ours, theirs):
    """Ours over theirs within each turn ``[turns]``: the speed of a shared machine drifts from turn to turn."""
    return rates(ours) / rates(theirs)


def _waiting(answers):
    return f"{np.median([answer['import_seconds'] + answer['compile_seconds'] for answer in answers]):.1f}"


def table(results):
    """Markdown of all rows that were measured."""
    rows = []
    for name, comparison in COMPARISONS.items():
        if name not in results:
            continue
        answers = results[name]["answers"]
        for algorithm in comparison.ours:
            ours, theirs = answers[algorithm], answers["peer"]
            rows.append(
                [
                    f"{algorithm.upper()} and {name}",
                    spread(rates(ours)),
                    spread(rates(theirs)),
                    spread(ratios(ours, theirs), 1),
                    _waiting(ours),
                    _waiting(theirs),
                ]
            )
    return (
        "Frames per second (median, and range), on CartPole-v1 and with layers of 64 and 64 unless the row says "
        "otherwise, at the same work, each in a process of its own; SAC's layers are of 256 and 256. "
        "Ours / theirs is within one turn. Then the seconds before the first frame: "
        "imports, and compilation or first calls.\n\n"
        + markdown_table(
            ["ours and peer", "ours", "theirs", "ours / theirs", "ours starts in s", "theirs starts in s"], rows
        )
        + "\nVersions of the peers: "
        + "; ".join(
            dict.fromkeys(_versions(results[name]["answers"]["peer"]) for name in COMPARISONS if name in results)
        )
        + ".\n"
    )


def _versions(answers):
    return ", ".join(f"{package} {version}" for package, version in answers[0]["versions"].items())


def main(turns: int = 5, only: str = "", purejaxrl: str = ""):
    """Measure and write results/peers.json and results/peers.md, after every comparison.

    Rows that were measured before stay. A peer whose environment cannot be made here is left out, with a message.

    Args:
        turns: of every comparison.
        only: measure only the comparisons whose name, "SB3 A2C, 16 environments" say, contains this.
        purejaxrl: a checkout of github.com/luchris429/purejaxrl; without, its comparisons are left out.
    """
    if purejaxrl and not (Path(purejaxrl) / "purejaxrl" / "ppo.py").is_file():
        reject("purejaxrl", purejaxrl, "a checkout of PureJaxRL, with purejaxrl/ppo.py in it")
    for name, comparison in COMPARISONS.items():
        if only not in name:
            continue
        if comparison.peer == "purejaxrl_peer":
            if not purejaxrl:
                print(f"{name}: left out without --purejaxrl")
                continue
            work = replace(comparison.work, checkout=str(Path(purejaxrl).resolve()))
            comparison = comparison._replace(work=work)
        try:
            python = processes.interpreter(comparison.peer)
        except processes.Unavailable as error:
            print(f"{name}: left out. {error}")
            continue
        measured = {
            "work": asdict(replace(comparison.work, checkout="")),
            "answers": compare(comparison, python, turns),
            "measured": describe(),
        }
        # Read only now: another process may have added rows.
        results = rows_of("peers") | {name: measured}
        save("peers", {"results": results}, table(results), [row["measured"] for row in results.values()])


if __name__ == "__main__":
    tyro.cli(main)
