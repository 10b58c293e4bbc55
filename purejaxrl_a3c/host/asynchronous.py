"""A3C with workers that really are asynchronous: each pulls, acts and pushes in a process or thread of its own."""

from collections.abc import Callable

import jax

from purejaxrl_a3c.algorithms import a3c
from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.host.race import Run
from purejaxrl_a3c.host.results import AsyncResult, Settings
from purejaxrl_a3c.host.shared import Backend
from purejaxrl_a3c.host.store import Push
from purejaxrl_a3c.host.vector import HostEnv
from purejaxrl_a3c.types import Key


def train_async(
    config: a3c.Config,
    key: Key,
    *,
    push: Push = "locked",
    backend: Backend = "processes",
    make_env: Callable[[int], HostEnv] | None = None,
    timeout: float = 60.0,
    max_restarts: int = 3,
    ray_address: str | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> AsyncResult:
    """A run of A3C whose ``num_workers`` workers run at the same time, in environments outside of JAX.

    Parameters and the optimizer's statistics lie in memory that all workers share (Mnih et al. 2016, arXiv 1602.01783).
    A run with ``push="in_turn"`` repeats, if its environments do, and is that of `host.train` with the schedule
    round_robin; workers wait for each other then. The others do not repeat: who pushes when is up to the machine. All
    workers begin together, when the last of them has its environments.

    Processes are started from a server, as Python's `multiprocessing` does it: a script must begin its work below
    ``if __name__ == "__main__":``, and each process imports the script anew, with all that it imports. Workers compute
    on the CPU. What is measured of each push takes some 100 bytes of memory.

    Args:
        config: of A3C, with the default ``asynchrony``, as nothing of it is simulated here.
        key: consumed; also the environments' seeds are made of it.
        push: locked, hogwild or in_turn, see `Push`.
        backend: processes; or threads of this one, of which only one at a time can run Python; or actors of Ray, with a
            parameter server among them.
        make_env: makes as many environments as it is told, in each worker, and once before; with processes it must be
            possible to pickle it. None: makes those of ``env_id``.
        timeout: seconds that a step of a worker's environments may take.
        max_restarts: how often a worker is started again after an error, or after a step that took too long.
        ray_address: of a cluster, if ``backend`` is ray; None: Ray is started on this machine, if it does not run yet.
        on_progress: called now and then with the number of pushes so far.

    Returns:
        An `AsyncResult`.

    Raises:
        InputError: naming the setting, its value and what is accepted.
        WorkerError: if a worker failed once more than ``max_restarts`` times; it has the result until then.
    """
    settings = Settings(push, backend, timeout, max_restarts, ray_address)
    run = Run(config, settings, make_env, on_progress=on_progress)
    key_init, key_run = jax.random.split(randomness.as_key(key))
    try:
        state, metrics = run.advance(key_run, run.init(key_init), run.iterations)
    finally:
        run.close()
    return AsyncResult(state, metrics, run.pushes())
