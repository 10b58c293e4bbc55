"""What agents learn in environments outside of JAX: Atari, ViZDoom, MuJoCo and driving.

``python -m benchmarks.outside`` trains with the command line, each seed in a process with a core of its own, as many at
a time as there are cores. Runs are kept in ``runs/outside``: after an interruption each goes on from its last
checkpoint, and what is complete is not trained again.
"""

import concurrent.futures
import hashlib
import json
import os
import queue
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from matplotlib.ticker import EngFormatter, MaxNLocator

from benchmarks.figures import caption, color_of, panels
from benchmarks.learning import interquartile_mean, interval
from benchmarks.record import describe, markdown_table, rows_of, save
from purejaxrl_a3c import host
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.run.plots import binned_mean

RUNS = Path("runs") / "outside"
FIRST_SEED = 10  # settings were tried on those before


class Row(NamedTuple):
    """Runs of one algorithm in one environment."""

    algorithm: str
    env_id: str
    frames: int
    seeds: int
    episodes: int  # of an evaluation
    settings: dict[str, object]  # options of the command line


ROWS = {
    # RL Baselines3 Zoo's settings for Atari, with three passes; a hidden layer of 512 as in Mnih et al. 2015.
    "PPO on Pong": Row(
        "ppo",
        "ale/Pong",
        2_500_000,
        2,
        16,
        {
            "num-envs": 8,
            "rollout-length": 128,
            "epochs": 3,
            "num-minibatches": 4,
            "learning-rate": 5e-4,
            "clip-range": 0.1,
            "entropy-coefficient": 0.01,
            "torso": "nature",
            "activation": "relu",
            "hidden-sizes": 512,
            "shared-torso": True,
        },
    ),
    # The settings of Haarnoja et al. 2018.
    "SAC on HalfCheetah": Row(
        "sac",
        "gym/HalfCheetah-v5",
        150_000,
        2,
        32,
        {
            "num-envs": 1,
            "updates-per-iteration": 1,
            "batch-size": 256,
            "hidden-sizes": (256, 256),
            "learning-rate": 3e-4,
            "replay-size": 150_000,
            "learning-starts": 10_000,
            "target-update-rate": 0.005,
            "anneal-learning-rate": False,
        },
    ),
    "PPO on ViZDoom Basic": Row(
        "ppo",
        "vizdoom/VizdoomBasic-v1",
        200_000,
        5,
        64,
        {
            "num-envs": 8,
            "rollout-length": 64,
            "epochs": 3,
            "num-minibatches": 4,
            "learning-rate": 5e-4,
            "entropy-coefficient": 0.05,  # with 0.01 two of five seeds did not learn
            "torso": "nature",
            "activation": "relu",
            "hidden-sizes": 256,
            "shared-torso": True,
            "scale-rewards": True,
        },
    ),
    # highway-env's own settings for DQN, and its faster variant of the environment, as its documentation trains in.
    "DQN on highway-fast": Row(
        "dqn",
        "gym/highway_env:highway-fast-v0",
        20_000,
        5,
        32,
        {
            "num-envs": 1,
            "rollout-length": 1,
            "updates-per-iteration": 1,
            "batch-size": 32,
            "hidden-sizes": (256, 256),
            "learning-rate": 5e-4,
            "replay-size": 15_000,
            "learning-starts": 200,
            "target-update-every": 50,
            "gamma": 0.8,
            "n-step": 1,
            "flatten": True,
            "epsilon-frames": 2_000,
        },
    ),
}


def options(row: Row, seed: int, folder: Path):
    """Arguments of the command line."""
    texts = ["train", row.algorithm, "--env-id", row.env_id, "--total-frames", str(row.frames), "--seed", str(seed)]
    for name, value in row.settings.items():
        if isinstance(value, bool):
            texts.append(f"--{'' if value else 'no-'}{name}")
        else:
            texts += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
    every = ["--checkpoint-every-frames", str(max(1, row.frames // 20))]
    return [*texts, *every, "--evaluation-episodes", str(row.episodes), "--out", str(folder)]


def train(row: Row, seed: int, folder: Path, core: int):
    """Train, or go on with it, on one core; the mean return of the evaluation at its end."""
    arguments = ["train", "--resume", str(folder)] if (folder / "config.json").exists() else options(row, seed, folder)
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "purejaxrl_a3c", *arguments]

    def pin():
        os.sched_setaffinity(0, {core})

    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, preexec_fn=pin)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{run.stderr[-2000:]}")
    return measured(folder)


def about_of(row: Row) -> dict[str, Any]:
    """What a row of the results says of its runs; a row that says something else is measured again."""
    return {"frames": row.frames, "settings": json.loads(json.dumps(row.settings))}


def folder_of(row: Row, name: str) -> Path:
    """Where the runs of a row are; another folder for other settings, so that a run goes on only as it began."""
    settings = hashlib.sha256(repr(options(row, 0, RUNS)).encode()).hexdigest()[:8]
    return RUNS / f"{name.replace(' ', '_')}_{settings}"


def measured(folder: Path, bins: int = 50):
    """The curve of a complete run, and the evaluation at its end."""
    with (folder / "metrics.csv").open() as file:
        names = file.readline().strip().split(",")
        table = np.genfromtxt(file, delimiter=",")
    column = {name: table[:, i] for i, name in enumerate(names)}
    frames, means = binned_mean(column["frames"], column["episode_return"], column["episodes"], bins)
    last = json.loads((folder / "results.jsonl").read_text().splitlines()[-1])
    return {
        "frames": frames,
        "means": means,
        "return": last["evaluation_return_mean"],
    }


def random_returns(env_id: str, episodes: int):
    """Mean return of uniformly random actions."""
    env = host.make(env_id, min(episodes, 16))
    rng, found, space = np.random.default_rng(0), list[float](), env.action_space
    env.reset(0)
    while len(found) < episodes:
        if isinstance(space, spaces.Discrete):
            action = rng.integers(space.n, size=env.num_envs).astype(np.int32)
        else:
            assert isinstance(space, spaces.Continuous)
            action = rng.uniform(-1, 1, (env.num_envs, space.size)).astype(np.float32)
        answer = env.step(action)
        found += answer.episode_return[answer.terminated | answer.truncated].tolist()
    env.close()
    return float(np.mean(found))


def table(results):
    """Markdown of all rows that were measured."""
    rows = []
    for name, row in results.items():
        returns = [run["return"] for run in row["runs"]]
        low, high = interval(np.array(returns))
        rows.append(
            [
                name,
                f"{row['frames']:,}",
                len(returns),
                f"{row['random']:.1f}",
                f"{interquartile_mean(returns):.1f}",
                f"{low:.1f} to {high:.1f}",
                f"{min(returns):.1f}",
            ]
        )
    return (
        "Return of the most probable action after training in environments outside of JAX: interquartile mean over the "
        "seeds with its bootstrap 95 % interval, and the mean return of random actions.\n\n"
        + markdown_table(["", "frames", "seeds", "random", "return", "95 % interval", "worst seed"], rows)
    )


def draw(found):
    """Figure of the learning curves, a line for each seed."""
    results = found["results"]
    figure, axes = panels(min(2, len(results)), -(-len(results) // 2), height=3.4)
    for one, (name, row) in zip(axes, results.items(), strict=False):
        for run in row["runs"]:
            one.plot(run["frames"], run["means"], color=color_of(name.split()[0]), lw=1.5)
        one.axhline(row["random"], color="0.5", ls=":", lw=1.5)
        one.set(title=name, xlabel="frames", xlim=(0, None))
        one.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        one.xaxis.set_major_formatter(EngFormatter(sep=""))
    for one in axes[len(results) :]:
        one.axis("off")
    for one in axes[::2]:
        one.set_ylabel("return while training")
    caption(figure, "A line for each of the seeds. Dotted: random actions.")
    return figure


def main(only: str = "", jobs: int = 0):
    """Train what is not complete, and write results/outside.json, .md and .png after every row.

    Args:
        only: only the rows whose name contains this.
        jobs: runs at a time; 0: as many as there are cores.
    """
    cores: queue.Queue[int] = queue.Queue()
    for core in sorted(os.sched_getaffinity(0))[: jobs or None]:
        cores.put(core)

    def one(row, name, seed):
        core = cores.get()
        try:
            return train(row, seed, folder_of(row, name) / str(seed), core)
        finally:
            cores.put(core)

    for name, row in ROWS.items():
        about = about_of(row)
        if only not in name or about.items() <= rows_of("outside").get(name, {}).items():
            continue
        with concurrent.futures.ThreadPoolExecutor(cores.qsize()) as pool:
            runs = list(
                pool.map(
                    lambda seed, row=row, name=name: one(row, name, seed), range(FIRST_SEED, FIRST_SEED + row.seeds)
                )
            )
        about["random"] = random_returns(row.env_id, row.episodes)
        found = rows_of("outside") | {name: {**about, "runs": runs, "measured": describe()}}
        results = {name: found[name] for name in ROWS if name in found}
        save("outside", {"results": results}, table(results), [r["measured"] for r in results.values()], draw)


if __name__ == "__main__":
    tyro.cli(main)
