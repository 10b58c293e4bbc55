"""A3C with workers that really are asynchronous: each pulls, acts and pushes in a process or thread of its own."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.algorithms import a3c
from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.backend.vectors import ravel, ravel_and_back
from purejaxrl_a3c.checks import check_count, reject
from purejaxrl_a3c.host import shared as memory
from purejaxrl_a3c.host.compiled import check_env, check_no_statistics, check_outside, env_key, make_init
from purejaxrl_a3c.host.crew import Crew
from purejaxrl_a3c.host.shared import Backend, Shared
from purejaxrl_a3c.host.vector import HostEnv, make_as_told
from purejaxrl_a3c.host.worker import Assignment, Push, compile_programs
from purejaxrl_a3c.loops import EnvLayout
from purejaxrl_a3c.loops.outside import Outside
from purejaxrl_a3c.types import Key, Metrics, State
from purejaxrl_a3c.updates import Asynchrony, optimizers
from purejaxrl_a3c.updates.staleness import add_to_histogram


class Pushes(NamedTuple):
    """What was measured of each push, in their order. Times are seconds since the first pull."""

    worker: np.ndarray  # int32 [N]: who pushed
    staleness: np.ndarray  # int32 [N]: pushes of others between its pull and its push
    pulled: np.ndarray  # float64 [N]: when the worker had the parameters
    ready: np.ndarray  # float64 [N]: when it had the gradient
    pushed: np.ndarray  # float64 [N]: when that was in the parameters


class AsyncResult(NamedTuple):
    """The result of `train_async`."""

    state: State  # `host.evaluate` takes it
    metrics: Metrics  # NumPy, [I], over W pushes each; ``wall_time`` is that of the last of them
    pushes: Pushes


class WorkerError(RuntimeError):
    """A worker that could not go on, more often than was accepted.

    Attributes:
        result: the `AsyncResult` or `ActorsResult` until then; nothing that was learned is lost.
    """

    def __init__(self, message: str, result: Any) -> None:
        """Keep what was learned."""
        super().__init__(message)
        self.result = result


class _Run(NamedTuple):
    """A run that may begin."""

    config: a3c.Config
    layout: EnvLayout
    start: State
    reports: list[str]  # names
    shared: Shared


def train_async(
    config: a3c.Config,
    key: Key,
    *,
    push: Push = "locked",
    backend: Backend = "processes",
    make_env: Callable[[int], HostEnv] | None = None,
    timeout: float = 60.0,
    max_restarts: int = 3,
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
        backend: processes, or threads of this one, of which only one at a time can run Python.
        make_env: makes as many environments as it is told, in each worker, and once before; with processes it must be
            possible to pickle it. None: makes those of ``env_id``.
        timeout: seconds that a step of a worker's environments may take.
        max_restarts: how often a worker is started again after an error, or after a step that took too long.
        on_progress: called now and then with the number of pushes so far.

    Returns:
        An `AsyncResult`.

    Raises:
        InputError: naming the setting, its value and what is accepted.
        WorkerError: if a worker failed once more than ``max_restarts`` times; it has the result until then.
    """
    if not timeout > 0:
        reject("timeout", timeout, "> 0")
    check_count("max_restarts", max_restarts, least=0)
    _check(config, push, backend)
    run, crew = _prepare(config, randomness.as_key(key), push, backend, make_env)
    try:
        failure = crew.watch(timeout, max_restarts, on_progress)
    finally:
        crew.end()
    result = _result(run)
    if failure is not None:
        where = f"{run.start.origin.env_name}, worker {failure.worker}, rollout {failure.rollout}, step {failure.step}"
        raise WorkerError(f"{where}: {failure.error}", result)
    return result


def _check(config: a3c.Config, push: Push, backend: Backend) -> None:
    if not isinstance(config, a3c.Config):
        reject("config", config, "a3c.Config; other algorithms train in environments outside of JAX with host.train")
    if config.asynchrony != Asynchrony():
        reject("asynchrony", config.asynchrony, "the default: here workers are asynchronous, and nothing is simulated")
    for name, value, known in (("push", push, get_args(Push)), ("backend", backend, get_args(Backend))):
        if value not in known:
            reject(name, value, f"one of {', '.join(known)}")


def _prepare(
    config: a3c.Config, key: Key, push: Push, backend: Backend, make_env: Callable[[int], HostEnv] | None
) -> tuple[_Run, Crew]:
    """Check, compile, and write the start of the run into the memory."""
    outside = check_outside(config, made=make_env is None)
    layout = outside.acting.layout
    check_no_statistics(config)
    make_env = functools.partial(make_as_told, config) if make_env is None else make_env
    key_init, key_run = jax.random.split(key)
    seed = int(jax.random.randint(env_key(key_init), (), 0, 2**31 - 1))
    obs = _look_at(outside, make_env, seed)
    everywhere = np.broadcast_to(obs, (layout.workers, *obs.shape))
    start: Any = jax.jit(make_init(outside))(key_init, everywhere, None)
    num_pushes = layout.iterations * layout.workers
    key_data = np.asarray(jax.random.key_data(key_run))
    programs, reports = compile_programs(outside, start, config.make_optimizer(num_pushes), push, key_data, obs)
    params, opt_state = ravel(start.learner.params), jax.tree.leaves(start.learner.opt_state)
    log = memory.log_type(len(reports))
    shared = memory.allocate(backend, layout.workers, params, opt_state, num_pushes, log)
    now = memory.arrays(shared)
    memory.write(now, params, opt_state)
    now.pushing[0] = memory.NOBODY
    shared.turns[0].release()
    told = [
        Assignment(worker, layout.envs, layout.rollout_length, key_data, seed, push) for worker in range(layout.workers)
    ]
    return _Run(config, layout, start, reports, shared), Crew(told, programs, make_env, shared, backend)


def _look_at(outside: Outside, make_env: Callable[[int], HostEnv], seed: int) -> Any:
    """First observations of one worker's environments, after checking that they are as the run expects."""
    env = make_env(outside.acting.layout.envs)
    try:
        check_env(outside, env, outside.acting.layout.envs)
        return env.reset(seed)
    finally:
        env.close()


def _result(run: _Run) -> AsyncResult:
    """What is in the memory, after all workers have ended."""
    now, layout = memory.arrays(run.shared), run.layout
    learner: Any = run.start.learner
    log = now.log[now.log["pushed"] > 0]  # without the push of a worker that was killed in the middle of it
    began = log["pulled"].min() if len(log) else 0.0
    times = {name: log[name] - began for name in ("pulled", "ready", "pushed")}
    pushes: Any = Pushes(log["worker"].copy(), log["staleness"].copy(), **times)
    params = ravel_and_back(learner.params)[1](jnp.asarray(now.params.copy()))
    learner = learner._replace(
        params=params,
        opt_state=jax.tree.unflatten(jax.tree.structure(learner.opt_state), [leaf.copy() for leaf in now.opt_state]),
        version=np.int32(len(log)),
        snapshots=jax.tree.map(lambda x: np.broadcast_to(x, (layout.workers, *x.shape)), params),
        pulled_version=np.full(layout.workers, len(log), np.int32),
        staleness=add_to_histogram(learner.staleness, pushes.staleness),
    )
    state = run.start._replace(learner=learner, iteration=jnp.int32(len(log) // layout.workers))
    return AsyncResult(jax.device_get(state), _metrics(run, log, pushes), pushes)


def _metrics(run: _Run, log: np.ndarray, pushes: Pushes) -> Metrics:
    """The metrics of as many pushes at a time as there are workers."""
    layout = run.layout
    iterations = len(log) // layout.workers

    def rounds(values: Any) -> Any:
        return values[: iterations * layout.workers].reshape(iterations, layout.workers, *values.shape[1:])

    reports, sums = rounds(log["reports"]), rounds(log["sums"]).sum(1)
    losses = {name: reports[..., i].mean(1) for i, name in enumerate(run.reports) if not name.startswith("staleness")}
    limit = optimizers.clip_limit(run.config.optimizer)
    if limit is not None:
        norms = reports[..., run.reports.index("gradient_norm")]
        losses["gradient_clipped"] = np.asarray(optimizers.is_clipped(norms, limit)).mean(1)
    staleness = rounds(pushes.staleness)
    losses |= {
        "staleness_mean": staleness.astype(np.float32).mean(1),
        "staleness_max": staleness.max(1, initial=0),
        "wall_time": rounds(pushes.pushed).max(1, initial=0),
    }
    frames: Any = layout.frames * np.arange(1, iterations + 1, dtype=np.int64)
    episodes, lengths, returns = sums.T  # by name, in alphabetical order
    return Metrics(frames, episodes.astype(np.int32), returns, lengths, losses)
