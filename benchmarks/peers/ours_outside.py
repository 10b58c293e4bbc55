"""Ours in the environments of Gymnasium, told and timed as the peers are. The driver runs this, see ``__main__.py``.

A3C has real workers: two processes, which share the environments out.
"""

import time
from importlib.metadata import version
from typing import Any

from benchmarks.peers import ours
from benchmarks.peers.protocol import Task, answer, parse

WORKERS = 2
WARM = 1_600  # frames that are not timed, those of the first calls


def settings(task: Task) -> dict[str, Any]:
    """What makes our ``Config`` do the work of ``task`` here."""
    own = ours.settings(task) | {"env_id": task.env_id if "/" in task.env_id else f"gym/{task.env_id}"}
    if task.algorithm == "dqn":
        own["double"] = False  # Stable-Baselines3's is not, either
    if task.algorithm == "a3c":
        own |= {"num_workers": WORKERS, "envs_per_worker": task.num_envs // WORKERS}
    return own


def in_lockstep(config, task: Task):
    """Frames and seconds, of compilation and of the run."""
    import jax

    from purejaxrl_a3c.backend.compiling import compute_where_called
    from purejaxrl_a3c.host.lockstep import compile_run

    compute_where_called()  # as the command line does
    began = time.perf_counter()
    run = compile_run(config)
    key_init, key_run = jax.random.split(jax.random.key(task.seed))
    warm_frames = task.learning_starts + WARM if task.algorithm in ("dqn", "sac") else WARM
    first = -(-warm_frames // run.frames_per_iteration)
    state, _ = run.advance(key_run, run.init(key_init), first)
    jax.block_until_ready(state)
    warm = time.perf_counter()
    count = run.iterations - first
    jax.block_until_ready(run.advance(key_run, state, count))
    return count * run.frames_per_iteration, warm - began, time.perf_counter() - warm


def with_workers(config, task: Task):
    """Frames and seconds, of compilation and start, and of the run."""
    import jax
    import numpy as np

    from purejaxrl_a3c import host

    began = time.perf_counter()
    result = host.train_async(config, jax.random.key(task.seed), push="hogwild")
    pushed = result.pushes.pushed
    # From when all workers push.
    first = max(np.flatnonzero(result.pushes.worker == worker)[0] for worker in range(WORKERS)) + 1
    per_push = config.rollouts.envs_per_worker * config.rollouts.rollout_length
    seconds = float(pushed.max() - np.sort(pushed)[first])
    return int((len(pushed) - first - 1) * per_push), time.perf_counter() - began - seconds, seconds


def main():
    task = parse()
    began = time.perf_counter()
    from purejaxrl_a3c import a2c, a3c, dqn, ppo, replace, sac

    imported = time.perf_counter()
    modules = {"a2c": a2c, "a3c": a3c, "ppo": ppo, "dqn": dqn, "sac": sac}
    config = replace(modules[task.algorithm].Config(), **settings(task))
    frames, before, seconds = (with_workers if task.algorithm == "a3c" else in_lockstep)(config, task)
    answer(
        frames=frames,
        run_seconds=seconds,
        compile_seconds=before,
        import_seconds=imported - began,
        versions={name: version(name) for name in ("jax", "jaxlib", "gymnasium")},
    )


if __name__ == "__main__":
    main()
