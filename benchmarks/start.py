"""How long it takes until many workers are all acting. ``benchmarks.workers`` runs it as a script of its own.

Each process imports the script that it was started from, so this one imports nothing else.
"""

import sys
import time

import jax

from purejaxrl_a3c import a3c, host, replace


def start_seconds(workers):
    """Seconds from the call to the first push of the last of so many workers, with compilation."""
    own = replace(
        a3c.Config(),
        env_id="gym/CartPole-v1",
        num_workers=workers,
        envs_per_worker=1,
        total_frames=10 * workers * a3c.Config().rollouts.rollout_length,
    )
    started = time.monotonic()
    # In turn, nobody can do all the work before another has started.
    pushes = host.train_async(own, jax.random.key(0), push="in_turn").pushes
    whole = time.monotonic() - started
    firsts = [pushes.pushed[pushes.worker == worker].min() for worker in range(workers)]
    # What is after the last push is counted too, and is short.
    return whole - float(pushes.pushed.max()) + max(firsts)


if __name__ == "__main__":
    print(start_seconds(int(sys.argv[1])))
