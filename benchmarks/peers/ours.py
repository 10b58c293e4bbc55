"""Ours, told and timed as the peers are, but in our own environment. The driver runs this, see ``__main__.py``."""

import time
from importlib.metadata import version
from typing import Any

from benchmarks.peers.protocol import Task, answer, parse, solve, with_tuples

WORKERS = 16


def settings(task: Task):
    """What makes our ``Config`` do the work of ``task``."""
    shared = {
        "env_id": task.env_id,
        "rollout_length": task.rollout_length,
        "hidden_sizes": task.hidden_sizes,
        "total_frames": task.frames,
    }
    replayed = {
        "num_envs": task.num_envs,
        "updates_per_iteration": task.updates,
        "batch_size": task.batch_size,
        "replay_size": task.replay_size,
        "learning_starts": task.learning_starts,
        "activation": "relu",
    }
    own: dict[str, dict[str, Any]] = {
        "a2c": {"num_envs": task.num_envs},
        "a3c": {"num_workers": WORKERS, "envs_per_worker": task.num_envs // WORKERS},
        "ppo": {"num_envs": task.num_envs, "epochs": task.epochs, "num_minibatches": task.num_minibatches},
        "pqn": {"num_envs": task.num_envs},
        "dqn": replayed | {"n_step": 1, "dueling": False},
        "sac": replayed,
    }
    return shared | own[task.algorithm] | _for_images(task) | _memory(task) | with_tuples(task.hyperparameters)


def _for_images(task: Task) -> dict[str, Any]:
    if not task.images:
        return {}
    return {"torso": "nature", "activation": "relu"} | ({"shared_torso": True} if task.algorithm != "dqn" else {})


def _memory(task: Task) -> dict[str, Any]:
    if not task.num_cells:
        return {}
    return {"core": "gru", "num_cells": task.num_cells, "activation": "relu", "shared_torso": True}


def main():
    task = parse()
    began = time.perf_counter()
    import jax

    from purejaxrl_a3c import a2c, a3c, compiler_options, dqn, evaluate, make_train, ppo, pqn, replace, sac
    from purejaxrl_a3c.run.chunks import compile_run, run_in_chunks

    imported = time.perf_counter()
    modules = {"a2c": a2c, "a3c": a3c, "ppo": ppo, "pqn": pqn, "dqn": dqn, "sac": sac}
    config = replace(modules[task.algorithm].Config(), **settings(task))
    about = {
        "import_seconds": imported - began,
        "versions": {name: version(name) for name in ("jax", "jaxlib", "gymnax")},
    }
    key, key_evaluate = jax.random.split(jax.random.key(task.seed))

    if task.threshold is None:
        train = jax.jit(make_train(config), compiler_options=compiler_options(config)).lower(key).compile()
        compiled = time.perf_counter()
        result = jax.block_until_ready(train(key))
        answer(
            frames=int(result.metrics.frames[-1]),
            run_seconds=time.perf_counter() - compiled,
            compile_seconds=compiled - imported,
            **about,
        )
        return

    run = compile_run(config)
    about["compile_seconds"] = time.perf_counter() - imported
    every = -(-task.piece // run.frames_per_iteration)
    chunks = run_in_chunks(run, key, every=[every])
    state: Any = None

    def train_piece():
        nonlocal state
        for chunk in chunks:
            state = chunk.state
            if int(state.iteration) % every == 0:  # a piece takes several chunks
                break
        done = int(state.iteration)
        return task.frames if done == run.iterations else done * run.frames_per_iteration

    def mean_return():
        key = jax.random.fold_in(key_evaluate, state.iteration)
        return float(evaluate(config, state, key, task.episodes, deterministic=True).mean())

    answer(**solve(train_piece, mean_return, task), **about)


if __name__ == "__main__":
    main()
