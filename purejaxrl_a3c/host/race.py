"""A run whose workers race: compiled, started, looked at while it goes on, and ended."""

import functools
import platform
import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.algorithms import a3c
from purejaxrl_a3c.backend.vectors import ravel, ravel_and_back
from purejaxrl_a3c.checks import check_count, reject
from purejaxrl_a3c.host import on_ray, process
from purejaxrl_a3c.host import shared as memory
from purejaxrl_a3c.host.compiled import check_env, check_no_statistics, check_outside, env_key, make_init
from purejaxrl_a3c.host.crew import Crew
from purejaxrl_a3c.host.results import AsyncResult, Pushes, Settings, WorkerError
from purejaxrl_a3c.host.shared import Backend
from purejaxrl_a3c.host.store import Push
from purejaxrl_a3c.host.vector import HostEnv, make_as_told
from purejaxrl_a3c.host.worker import Assignment, Programs, compile_programs
from purejaxrl_a3c.loops.outside import Outside
from purejaxrl_a3c.run.chunks import CompiledRun
from purejaxrl_a3c.types import Key, Metrics, Pretrained, State
from purejaxrl_a3c.updates import Asynchrony, optimizers


class Run:
    """A run that is compiled, whose workers may be at work.

    Its functions and attributes are those of a `CompiledRun`.
    """

    def __init__(
        self,
        config: a3c.Config,
        settings: Settings,
        make_env: Callable[[int], HostEnv] | None = None,
        pretrained: Pretrained | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        """Check and compile; arguments are those of `train_async`, and what the run begins with.

        Raises:
            InputError: naming the setting, its value and what is accepted.
        """
        _check(config, settings)
        outside = check_outside(config, made=make_env is None)
        check_no_statistics(config)
        self._make_env = functools.partial(make_as_told, config) if make_env is None else make_env
        self._config, self._settings, self._on_progress = config, settings, on_progress
        self._layout, self._name = outside.acting.layout, outside.origin.env_name
        self.iterations, self.frames_per_iteration = self._layout.iterations, self._layout.frames
        obs = _look_at(outside, self._make_env)
        everywhere = jax.tree.map(lambda x: np.broadcast_to(x, (self._layout.workers, *x.shape)), obs)
        init = jax.jit(make_init(outside)).lower(jax.random.key(0), everywhere, pretrained).compile()
        self._start: Callable[[Key], Any] = lambda key: init(key, everywhere, pretrained)
        self._compile = functools.partial(_compile, config, make_env is None, settings.push, obs)
        self._programs, self._reports = self._compile()
        self._crew: Crew | on_ray.Workers | None = None
        self._last: Any = None  # the state that workers go on from
        self._seed = 0
        self.state_types = init.out_info
        self.metrics_types = self._metrics(np.zeros(0, memory.log_type(len(self._reports))), 0, 0.0)

    def init(self, key: Key) -> State:
        """The state at the start of the run."""
        self._seed = int(jax.random.randint(env_key(key), (), 0, 2**31 - 1))
        return self._start(key)

    def advance(self, key: Key, state: Any, count: int) -> tuple[State, Metrics]:
        """The state after so many more iterations, of as many pushes as there are workers, and their metrics.

        Workers do not wait for the next call. So the parameters of the state may be a few pushes ahead of its metrics,
        but not at the end of the run. A state that is not the last one which was returned is continued in new episodes.

        Raises:
            WorkerError: if a worker failed too often.
        """
        if self._crew is None or state is not self._last:
            self._begin(key, state)
        assert self._crew is not None
        begin, workers = int(state.iteration), self._layout.workers
        end = (begin + count) * workers
        settings = self._settings
        failure = self._crew.watch(end, settings.timeout, settings.max_restarts, self._on_progress)
        if failure is not None:
            self.close()
            made = self._now.log["pushed"][begin * workers :] > 0
            end = begin * workers + int(made.argmin() if not made.all() else made.size)
        rows = self._now.log[begin * workers : end - end % workers]
        self._last = self._state(state, rows, nullcontext() if failure else self._shared.lock)
        metrics = self._metrics(rows, begin, self._began())
        if failure is not None:
            where = f"{self._name}, worker {failure.worker}, rollout {failure.rollout}, step {failure.step}"
            result = AsyncResult(self._last, metrics, self.pushes())
            raise WorkerError(f"{where}: {failure.error}", result)
        return self._last, metrics

    def close(self) -> None:
        """End all workers."""
        if self._crew is not None:
            self._crew.end()

    def pushes(self) -> Pushes:
        """What was measured since workers were started."""
        log = self._now.log[self._now.log["pushed"] > 0]
        log = log[log["worker"] != memory.NOBODY]
        times = {name: log[name] - self._began() for name in ("pulled", "ready", "pushed")}
        return Pushes(log["worker"].copy(), log["staleness"].copy(), **times)

    def _begin(self, key: Key, state: Any) -> None:
        """Start workers that go on from ``state``."""
        self.close()
        layout, (push, backend, timeout, _, ray_address) = self._layout, self._settings
        iteration, seed = int(state.iteration), self._seed
        if iteration and push != "in_turn":
            key = jax.random.fold_in(key, iteration)  # a worker may have done more rollouts than others
        if iteration:
            seed = int(jax.random.randint(jax.random.fold_in(env_key(key), iteration), (), 0, 2**31 - 1))
        params, opt_state = ravel(state.learner.params), jax.tree.leaves(state.learner.opt_state)
        log = memory.log_type(len(self._reports))
        self._shared = memory.allocate(
            backend, layout.workers, params, opt_state, self.iterations * layout.workers, log
        )
        self._now = memory.arrays(self._shared)
        memory.start(self._now, params, opt_state, iteration)
        self._shared.turns[0].release()
        key_data = np.asarray(jax.random.key_data(key))
        told = [
            Assignment(worker, layout.workers, layout.envs, layout.rollout_length, key_data, seed, push)
            for worker in range(layout.workers)
        ]
        if backend == "ray":
            num_pushes = self.iterations * layout.workers
            start = np.asarray(params), [np.asarray(leaf) for leaf in opt_state]
            compiled = process.save(self._programs), platform.node()
            plan = on_ray.Plan(self._compile, *compiled, self._make_env, *start, log, num_pushes, iteration)
            self._crew = on_ray.Workers(told, plan, self._shared, timeout, ray_address)
        else:
            self._crew = Crew(told, self._programs, self._make_env, self._shared, backend)
        weakref.finalize(self, self._crew.end)  # also when the interpreter exits

    def _began(self) -> float:
        log = self._now.log
        return log["pulled"].min(where=log["pushed"] > 0, initial=np.inf)

    def _state(self, state: Any, rows: np.ndarray, lock: Any) -> Any:
        """The state after these pushes."""
        with lock:
            params = ravel_and_back(state.learner.params)[1](jnp.asarray(self._now.params.copy()))
            opt_state = [leaf.copy() for leaf in self._now.opt_state]
        iteration = int(state.iteration) + len(rows) // self._layout.workers
        version, workers = iteration * self._layout.workers, self._layout.workers
        learner = state.learner._replace(
            params=params,
            opt_state=jax.tree.unflatten(jax.tree.structure(state.learner.opt_state), opt_state),
            version=np.int32(version),
            snapshots=jax.tree.map(lambda x: np.broadcast_to(x, (workers, *x.shape)), params),
            pulled_version=np.full(workers, version, np.int32),
            staleness=_counted(state.learner.staleness, rows["staleness"][rows["worker"] != memory.NOBODY]),
        )
        return jax.device_get(state._replace(learner=learner, iteration=jnp.int32(iteration)))

    def _metrics(self, rows: np.ndarray, begin: int, began: float) -> Metrics:
        """The metrics of these pushes, as many of them an iteration as there are workers."""
        rows = rows.reshape(-1, self._layout.workers)
        made = rows["worker"] != memory.NOBODY
        sums = rows["sums"].sum(1)

        def mean(values: Any) -> Any:
            return values.astype(np.float32).sum(1, where=made) / np.maximum(made.sum(1), 1)

        losses = {
            name: mean(rows["reports"][..., i])
            for i, name in enumerate(self._reports)
            if not name.startswith("staleness")
        }
        limit = optimizers.clip_limit(self._config.optimizer)
        if limit is not None:
            norms = jnp.asarray(rows["reports"][..., self._reports.index("gradient_norm")])
            losses["gradient_clipped"] = mean(np.asarray(optimizers.is_clipped(norms, limit)))
        losses |= {
            "staleness_mean": mean(rows["staleness"]),
            "staleness_max": rows["staleness"].max(1, initial=0),
            "wall_time": rows["pushed"].max(1, initial=0) - began,
        }
        frames: Any = self._layout.frames * np.arange(begin + 1, begin + len(rows) + 1, dtype=np.int64)
        episodes, lengths, returns = sums.T  # by name, in alphabetical order
        return Metrics(frames, episodes.astype(np.int32), returns, lengths, losses)


def _counted(histogram: Any, staleness: np.ndarray) -> np.ndarray:
    """The histogram of `updates.staleness` with more of it; the last entry is for that or more."""
    size = len(histogram)
    return np.asarray(histogram) + np.bincount(np.minimum(staleness, size - 1), minlength=size).astype(np.int32)


def compile_run(config: a3c.Config, settings: Settings, pretrained: Pretrained | None = None) -> CompiledRun:
    """Compile the run that ``config`` describes, as `run.chunks.compile_run` does for environments of JAX.

    Args:
        config: of A3C, with the default ``asynchrony``.
        settings: how workers run.
        pretrained: what the run begins with; None: parameters of its own.

    Returns:
        A `CompiledRun`, see `Run`.

    Raises:
        InputError: naming the setting, its value and what is accepted.
    """
    started = time.perf_counter()
    run = Run(config, settings, pretrained=pretrained)
    return CompiledRun(
        init=run.init,
        advance=run.advance,
        state=run.state_types,
        metrics=run.metrics_types,
        iterations=run.iterations,
        frames_per_iteration=run.frames_per_iteration,
        compile_seconds=time.perf_counter() - started,
    )


def _check(config: a3c.Config, settings: Settings) -> None:
    push, backend, timeout, max_restarts, ray_address = settings
    if not timeout > 0:
        reject("timeout", timeout, "> 0")
    check_count("max_restarts", max_restarts, least=0)
    if not isinstance(config, a3c.Config):
        reject("config", config, "a3c.Config; other algorithms train in environments outside of JAX with host.train")
    if config.asynchrony != Asynchrony():
        reject("asynchrony", config.asynchrony, "the default: here workers are asynchronous, and nothing is simulated")
    for name, value, known in (("push", push, get_args(Push)), ("backend", backend, get_args(Backend))):
        if value not in known:
            reject(name, value, f"one of {', '.join(known)}")

    if backend == "ray" and push != "locked":
        reject("push", push, "locked if backend is ray: a server takes one push at a time")
    if backend != "ray" and ray_address is not None:
        reject("ray_address", ray_address, "None unless backend is ray")


def _compile(config: a3c.Config, made: bool, push: Push, obs: Any) -> tuple[Programs, list[str]]:
    """What workers compute and the names of their reports; see `compile_programs`.

    Args:
        config: of A3C.
        made: whether environments are made of ``config``.
        push: how workers push.
        obs: first observations of one worker's environments, leaves ``[B, ...]``.
    """
    outside = check_outside(config, made=made)
    layout = outside.acting.layout
    key = jax.random.key(0)  # of it, as of parameters, only the type is looked at
    everywhere = jax.tree.map(lambda x: np.broadcast_to(x, (layout.workers, *x.shape)), obs)
    start = jax.eval_shape(make_init(outside), key, everywhere, None)
    start = start._replace(learner=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), start.learner))
    optimizer = config.make_optimizer(layout.iterations * layout.workers)
    return compile_programs(outside, start, optimizer, push, np.asarray(jax.random.key_data(key)), obs)


def _look_at(outside: Outside, make_env: Callable[[int], HostEnv]) -> Any:
    """First observations of one worker's environments, after checking that they are as the run expects."""
    env = make_env(outside.acting.layout.envs)
    try:
        check_env(outside, env, outside.acting.layout.envs)
        return env.reset(0)
    finally:
        env.close()
