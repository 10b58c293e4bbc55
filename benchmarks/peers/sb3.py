# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "stable-baselines3==2.9.2", "gymnasium[mujoco]==1.4.0", "torch==2.15.0", "ale-py==0.12.1",
#   "opencv-python-headless==5.0.0.93",
# ]
# ///
"""Stable-Baselines3's A2C, PPO, DQN and SAC, told and timed as ours are. The driver runs this, see ``__main__.py``.

By hand, from the checkout:
``PYTHONPATH=. uv run --script benchmarks/peers/sb3.py --algorithm ppo --num-envs 8 --rollout-length 128 --epochs 4``
"""

import time
from importlib.metadata import version
from typing import Any

from benchmarks.peers.protocol import Task, answer, cores, parse, solve

REPLAYED = ("dqn", "sac")  # what is timed begins after learning has


def settings(task: Task):
    """What makes Stable-Baselines3's algorithm do the work of ``task``.

    The networks of its A2C and PPO have tanh by default, those of DQN and SAC relu.
    """
    sizes = list(task.hidden_sizes)
    actor_critic: dict[str, Any] = {"net_arch": {"pi": sizes, "vf": sizes}}
    q_network: dict[str, Any] = {"net_arch": sizes}
    if task.images:
        # The convolutions of Mnih et al. 2015 and one layer, which policy and value share.
        actor_critic = q_network = {"net_arch": [], "features_extractor_kwargs": {"features_dim": sizes[0]}}
    on_policy = {"n_steps": task.rollout_length, "policy_kwargs": actor_critic}
    replayed = {
        "train_freq": task.rollout_length,  # steps of all environments
        "gradient_steps": task.updates,
        "batch_size": task.batch_size,
        "buffer_size": task.replay_size,
        "learning_starts": task.learning_starts,
        "policy_kwargs": q_network,
    }
    own: dict[str, Any] = {
        "a2c": on_policy,
        "ppo": on_policy
        | {
            "n_epochs": task.epochs,
            "batch_size": task.num_envs * task.rollout_length // task.num_minibatches,
        },
        "dqn": replayed,
        "sac": replayed,
    }
    return own[task.algorithm] | task.hyperparameters


def main():
    task = parse()
    began = time.perf_counter()
    import gymnasium
    import torch
    from stable_baselines3 import A2C, DQN, PPO, SAC
    from stable_baselines3.common.atari_wrappers import AtariWrapper
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

    imported = time.perf_counter()
    torch.set_num_threads(cores())

    def environments(count):
        # In this process, and without SB3's Monitor: for CartPole that is its fastest way, and for Pong, too.
        if not task.images:
            return DummyVecEnv([lambda: gymnasium.make(task.env_id)] * count)
        import ale_py

        gymnasium.register_envs(ale_py)
        name = task.env_id.removeprefix("ale/") + "NoFrameskip-v4"
        return VecFrameStack(DummyVecEnv([lambda: AtariWrapper(gymnasium.make(name))] * count), 4)

    def read(value):
        """``lin_0.001`` is what RL Baselines3 Zoo writes for a linear schedule to 0, here over all of the frames."""
        if not str(value).startswith("lin_"):
            return value
        start = float(value.removeprefix("lin_"))
        # The progress that SB3 passes is that of one call of `learn`, and a run is many.
        return lambda _: start * (1 - (model.num_timesteps if model else 0) / task.frames)

    model = None  # its schedules are asked before it is made
    model = {"a2c": A2C, "ppo": PPO, "dqn": DQN, "sac": SAC}[task.algorithm](
        "CnnPolicy" if task.images else "MlpPolicy",
        environments(task.num_envs),
        seed=task.seed,
        device="cpu",
        **{name: read(value) for name, value in settings(task).items()},
    )
    model.set_logger(Logger(None, []))
    about = {
        "import_seconds": imported - began,
        "compile_seconds": 0.0,
        "versions": {name: version(name) for name in ("stable-baselines3", "gymnasium", "torch")},
    }
    rollout = task.num_envs * task.rollout_length

    def train(frames):
        model.learn(frames, reset_num_timesteps=False, log_interval=None)
        return model.num_timesteps

    if task.threshold is None:
        before = train(
            max(2 * rollout, task.learning_starts + 10 * rollout) if task.algorithm in REPLAYED else 2 * rollout
        )
        about["compile_seconds"] = time.perf_counter() - imported  # nothing is compiled, but first calls are slow
        warm = time.perf_counter()
        after = train(task.frames)
        answer(frames=after - before, run_seconds=time.perf_counter() - warm, **about)
        return

    tests = environments(task.episodes)
    tests.seed(task.seed + 1000)

    def mean_return():
        mean, _ = evaluate_policy(model, tests, task.episodes, deterministic=True, warn=False)
        return float(mean)

    answer(**solve(lambda: train(task.rollouts_per_piece * rollout), mean_return, task), **about)


if __name__ == "__main__":
    main()
