"""Many settings of an algorithm, compared: floats in one compiled program, and a program for every other setting."""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.checks import check_count, reject
from purejaxrl_a3c.config import flat, is_float_setting, replace
from purejaxrl_a3c.run import memory
from purejaxrl_a3c.run.evaluate import run_episodes
from purejaxrl_a3c.run.many import even
from purejaxrl_a3c.run.train import build
from purejaxrl_a3c.run.where import is_outside, state_types
from purejaxrl_a3c.types import Key, State

BINS = 50
"""Stretches of a learning curve."""
_MEASURED_SECONDS = 0.3
"""How long a number of runs side by side is measured."""


class Sweep(NamedTuple):
    """The result of a `sweep` of ``P`` points and ``S`` seeds."""

    points: list[dict[str, Any]]  # settings by name
    returns: np.ndarray  # float64 [P, S]: mean return of whole episodes after training, as far as it went
    frames: np.ndarray  # int64 [P]: trained, less where halving has dropped a point
    curves: np.ndarray  # float64 [P, S, BINS]: mean return while training; NaN where no episode ended

    @property
    def scores(self) -> np.ndarray:
        """Interquartile means over the seeds, ``[P]`` (Agarwal et al. 2021, arXiv 2108.13264)."""
        from scipy import stats  # comes with JAX

        return stats.trim_mean(self.returns, 0.25, axis=1)

    @property
    def order(self) -> np.ndarray:
        """The points, best first: those that were trained for longer come first, and what is not finite comes last."""
        scores = np.where(np.isfinite(self.scores), self.scores, -np.inf)
        return np.lexsort((-scores, -self.frames))

    @property
    def best(self) -> dict[str, Any]:
        """The settings of the best point."""
        return self.points[int(self.order[0])]


class Done(NamedTuple):
    """What is known of one run of a sweep."""

    point: int
    seed: int  # which of the keys
    iterations: int
    score: float
    curve: list[float]


def grid(settings: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the values, the last setting fastest."""
    return [dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())]


def sweep(
    config: Any,
    points: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
    keys: Key,
    *,
    episodes: int = 32,
    batch_size: int = 0,
    halvings: int = 0,
    done: Iterable[Done] = (),
    on_done: Callable[[list[Done]], None] | None = None,
) -> Sweep:
    """Train an algorithm with each of many settings, on the same keys.

    Floats are arguments of a compiled program, which trains several runs side by side; each combination of other
    settings is a program of its own. A run is that of `make_train`, up to rounding::

        found = sweep(a3c.Config(), {"learning_rate": [1e-4, 1e-3], "hidden_sizes": [(64,), (64, 64)]}, keys)
        config = replace(a3c.Config(), **found.best)

    Args:
        config: the ``Config`` of an algorithm, with environments of JAX.
        points: values by name of a setting, of which all combinations are tried; or the points themselves.
        keys: ``[S]``, one for each seed.
        episodes: whole episodes with the most probable action, by which a run is judged.
        batch_size: runs side by side; 0 chooses it by measuring, where there are more than 8 runs for a program.
        halvings: successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943): so often, at a half, a quarter, an
            eighth of the frames and so on, the worse half of the points is dropped.
        done: of an earlier call with the same arguments, from ``on_done``: what is in it is not trained again.
        on_done: called with the runs that have just been trained and judged.

    Returns:
        A `Sweep`.

    Raises:
        InputError: for a setting that is not accepted, before anything is compiled.
    """
    for name, value, least in (("episodes", episodes, 1), ("batch_size", batch_size, 0), ("halvings", halvings, 0)):
        check_count(name, value, least=least)
    listed = grid(points) if isinstance(points, Mapping) else [dict(point) for point in points]
    if not listed or any(point.keys() != listed[0].keys() for point in listed):
        reject("points", listed, "at least one point, all of the same settings")
    keys = randomness.as_keys(keys)
    plans = [_plan(config, point) for point in listed]
    known = {(one.point, one.seed, one.iterations): one for one in done}
    programs: dict[Any, _Programs] = {}
    states: dict[tuple[int, int], Any] = {}
    alive = list(range(len(listed)))
    reached = np.zeros(len(listed), int)
    last: dict[tuple[int, int], Done] = {}
    for stage in range(halvings + 1):
        ends = [max(1, plan.iterations >> (halvings - stage)) for plan in plans]
        runs = [(point, seed) for point in alive for seed in range(keys.shape[0])]
        missing = [run for run in runs if (*run, ends[run[0]]) not in known]
        for group in _groups(missing, plans):
            plan = plans[group[0][0]]
            made = programs.get(plan.static)
            if made is None:
                programs[plan.static] = _programs(plan, episodes, batch_size, group, plans, keys)
            elif len(group) < made.width:  # after a halving
                programs[plan.static] = _compile(plan, episodes, len(group))
            for new, kept in programs[plan.static].train(group, plans, keys, ends[group[0][0]], states):
                known |= {(one.point, one.seed, one.iterations): one for one in new}
                if stage < halvings:
                    states |= kept
                if on_done is not None:
                    on_done(new)
        for point, seed in runs:
            last[point, seed] = known[point, seed, ends[point]]
        for point in alive:
            reached[point] = ends[point]
        if stage < halvings:
            scores = np.array([_middle([last[point, seed].score for seed in range(keys.shape[0])]) for point in alive])
            keep = np.argsort(-scores, kind="stable")[: max(1, -(-len(alive) // 2))]
            alive = sorted(alive[i] for i in keep)
            states = {run: state for run, state in states.items() if run[0] in alive}
    shape = range(len(listed)), range(keys.shape[0])
    return Sweep(
        points=listed,
        returns=np.array([[last[point, seed].score for seed in shape[1]] for point in shape[0]], np.float64),
        frames=reached.astype(np.int64) * np.array([plan.frames for plan in plans]),
        curves=np.array([[last[point, seed].curve for seed in shape[1]] for point in shape[0]], np.float64),
    )


class _Plan(NamedTuple):
    """A point, as it is trained."""

    config: Any
    static: tuple[Any, ...]  # what needs a program of its own
    floats: dict[str, float]
    iterations: int
    frames: int  # of an iteration


def _plan(config: Any, point: Mapping[str, Any]) -> _Plan:
    """Check a point."""
    own = replace(config, **point)
    algorithm = build(own)
    if is_outside(own):
        reject("env_id", flat(own)["env_id"], "an environment of JAX")
    floats = {name: float(value) for name, value in point.items() if is_float_setting(own, name)}
    static = tuple((name, value) for name, value in point.items() if name not in floats)
    return _Plan(own, static, floats, algorithm.iterations, algorithm.frames_per_step)


def _groups(runs: list[tuple[int, int]], plans: list[_Plan]) -> Iterable[list[tuple[int, int]]]:
    """The runs by the program that they need."""
    found: dict[Any, list[tuple[int, int]]] = {}
    for run in runs:
        found.setdefault(plans[run[0]].static, []).append(run)
    return found.values()


def _programs(
    plan: _Plan, episodes: int, batch_size: int, runs: list[tuple[int, int]], plans: list[_Plan], keys: Key
) -> "_Programs":
    """The programs for these runs, ``batch_size`` side by side or, if that is 0, as many as are fastest."""
    if batch_size or len(runs) <= _FIRST_WIDTH:
        return _compile(plan, episodes, even(len(runs), batch_size or _FIRST_WIDTH))
    best, rate, width = None, 0.0, _FIRST_WIDTH
    size = memory.size_of(state_types(plan.config))
    while width < 2 * len(runs):
        tried = _compile(plan, episodes, even(len(runs), width))
        try:
            found = tried.rate(runs, plans, keys)
        except jax.errors.JaxRuntimeError:  # such as out of memory
            if best is None:
                raise
            break
        if found < _FASTER * rate:
            break
        best, rate, width = tried, found, 2 * width
        room = memory.available(jax.local_devices()[0])
        if room is not None and 3 * width * size > room:
            break
    assert best is not None
    return best


_FIRST_WIDTH = 8
"""Runs side by side; the first number that is tried."""
_FASTER = 1.05
"""How much faster twice as many runs side by side must be."""


def _middle(scores: list[float]) -> float:
    from scipy import stats

    middle = float(stats.trim_mean(scores, 0.25))
    return middle if math.isfinite(middle) else -math.inf


class _Programs(NamedTuple):
    """The compiled programs of the points that differ in floats only."""

    width: int
    start: Callable[..., Any]
    advance: Callable[..., Any]
    judge: Callable[..., Any]

    def rate(self, runs: list[tuple[int, int]], plans: list[_Plan], keys: Key) -> float:
        """Iterations of all runs side by side in a second, measured for a moment."""
        _, own_keys, floats = self._arguments(runs[: self.width], plans, keys)
        loop = self.advance(own_keys, floats, *self.start(own_keys, floats), jnp.int32(0), jnp.int32(1))
        jax.block_until_ready(loop)
        count, begin = 1, 1
        while True:
            started, end = time.perf_counter(), begin + count
            loop = jax.block_until_ready(self.advance(own_keys, floats, *loop, jnp.int32(begin), jnp.int32(end)))
            seconds = time.perf_counter() - started
            if seconds > _MEASURED_SECONDS:
                return self.width * count / seconds
            begin, count = end, 4 * count

    def _arguments(
        self, batch: list[tuple[int, int]], plans: list[_Plan], keys: Key
    ) -> tuple[list[tuple[int, int]], Key, dict[str, jax.Array]]:
        """A full batch, its keys and its floats; the last run is trained again where it would not be full."""
        padded = [*batch, *[batch[-1]] * (self.width - len(batch))]
        floats = {
            name: jnp.array([plans[point].floats[name] for point, _ in padded], jnp.float32)
            for name in plans[padded[0][0]].floats
        }
        return padded, keys[np.array([seed for _, seed in padded])], floats

    def train(
        self, runs: list[tuple[int, int]], plans: list[_Plan], keys: Key, end: int, states: dict[tuple[int, int], Any]
    ) -> Iterable[tuple[list[Done], dict[tuple[int, int], Any]]]:
        """Train these runs until iteration ``end``; for each batch what is known of it, and its states."""
        for begin in range(0, len(runs), self.width):
            batch = runs[begin : begin + self.width]
            padded, own_keys, floats = self._arguments(batch, plans, keys)
            if all(run in states for run in padded):
                state, sums = jax.tree.map(lambda *x: jnp.stack(x), *[states[run] for run in padded])
            else:
                state, sums = self.start(own_keys, floats)
            done = state.iteration[0]
            state, sums = self.advance(own_keys, floats, state, sums, done, jnp.int32(end))
            scores, sums_now = jax.device_get((self.judge(own_keys, floats, state), sums))
            with np.errstate(invalid="ignore", divide="ignore"):
                curves = sums_now[:, 0] / sums_now[:, 1]
            found = [
                Done(point, seed, end, float(scores[i]), curves[i].tolist()) for i, (point, seed) in enumerate(batch)
            ]
            kept = jax.device_get((state, sums))
            yield found, {run: jax.tree.map(lambda x, i=i: x[i], kept) for i, run in enumerate(batch)}


def _compile(plan: _Plan, episodes: int, width: int) -> _Programs:
    """The `_Programs` of the points of which ``plan`` is one, for so many runs side by side."""

    def algorithm(floats: dict[str, jax.Array]) -> Any:
        return build(replace(plan.config, **floats))

    def start(key: Key, floats: dict[str, jax.Array]) -> tuple[State, jax.Array]:
        return algorithm(floats).init(jax.random.split(key)[0]), jnp.zeros((2, BINS), jnp.float32)

    def advance(
        key: Key, floats: dict[str, jax.Array], state: State, sums: jax.Array, begin: jax.Array, end: jax.Array
    ) -> tuple[State, jax.Array]:
        own, key_run = algorithm(floats), jax.random.split(key)[1]

        def step(iteration: jax.Array, loop: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
            state, sums = loop
            state, metrics = own.step(jax.random.fold_in(key_run, iteration), state)
            place = jnp.minimum(iteration.astype(jnp.float32) * (BINS / plan.iterations), BINS - 1).astype(jnp.int32)
            return state, sums.at[:, place].add(jnp.stack([metrics.return_sum, metrics.episodes.astype(jnp.float32)]))

        return jax.lax.fori_loop(begin, end, step, (state, sums))

    def judge(key: Key, floats: dict[str, jax.Array], state: State) -> jax.Array:
        key = jax.random.fold_in(key, state.iteration)
        return run_episodes(algorithm(floats), state, key, episodes, deterministic=True).returns.mean()

    # All runs of a batch have done as many iterations, which are not mapped over: so the loop remains one.
    return _Programs(
        width,
        jax.jit(jax.vmap(start)),
        jax.jit(jax.vmap(advance, in_axes=(0, 0, 0, 0, None, None)), donate_argnums=(2, 3)),
        jax.jit(jax.vmap(judge)),
    )
