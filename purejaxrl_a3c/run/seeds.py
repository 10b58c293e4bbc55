"""``purejaxrl-a3c train --num-seeds N``: the same run with N seeds in one program, each in a folder of its own."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import flat
from purejaxrl_a3c.run import checkpoint, folder
from purejaxrl_a3c.run.chunks import CompiledRun, iterate, next_count
from purejaxrl_a3c.run.compare import compare
from purejaxrl_a3c.run.folder import unused
from purejaxrl_a3c.run.interrupts import Interrupts, exit_status
from purejaxrl_a3c.run.metrics_file import MetricsFile, read_columns
from purejaxrl_a3c.run.options import Options, remembered
from purejaxrl_a3c.run.plots import plot_learning_curve
from purejaxrl_a3c.run.prepare import Setting, notes_on_damage
from purejaxrl_a3c.run.progress import RunProgress, say, waiting
from purejaxrl_a3c.run.report import Trained, evaluate_state, not_finite_parameters, report
from purejaxrl_a3c.run.request import Request
from purejaxrl_a3c.run.stopped import explained
from purejaxrl_a3c.run.train import build
from purejaxrl_a3c.run.where import state_types
from purejaxrl_a3c.types import Key, Metrics, State

PICTURE = "learning_curves.png"


class Earlier(NamedTuple):
    """What an earlier call has left, of all seeds."""

    folders: list[folder.RunFolder]
    found: list[checkpoint.Found]  # all of the same iteration
    states: State | None  # with a leading axis of seeds; None at the start
    iteration: int


def folders(path: Path, options: Options) -> list[Path]:
    """The folders of the runs, one for each seed from that of the options on."""
    return [path / f"seed-{one.seed}" for one in _options(options)]


def _options(options: Options) -> list[Options]:
    """The options of each run."""
    seeds = range(options.seed, options.seed + options.num_seeds)
    return [dataclasses.replace(options, seed=seed, num_seeds=1) for seed in seeds]


def train_seeds(setting: Setting, console: Console, interrupts: Interrupts) -> int:
    """Train and evaluate all seeds.

    Each run is that of ``--seed`` up to rounding, and its folder is one like any other, to evaluate, compare or resume.

    Returns:
        The exit status: 0, 3 if a run diverged, or that of the signal which ended it.

    Raises:
        InputError: if the runs of an earlier call do not go on from the same iteration.
        Stopped: if memory or the disk did not suffice.
    """
    request, path = setting.request, setting.path
    algorithm, paths = build(request.config), folders(path, request.options)
    earlier = None if request.earlier is None else _take_runs(setting, console)
    if earlier is not None and earlier.iteration == algorithm.iterations:
        say(console, "note: the runs are complete; a larger total-frames extends them", style="yellow")
        taken, trained = earlier.folders, _trained_before(earlier)
    else:
        run = _compile(setting, console)
        evaluating = f"to evaluate the agents: purejaxrl-a3c evaluate {' '.join(map(str, paths))}"
        with interrupts.deferred(), explained(f"what was measured is in {path}"):
            taken, trained = _train(setting, run, earlier, console, interrupts)
            number = interrupts.requested
            interrupts.farewell = lambda: say(console, f"interrupted before the evaluation; {evaluating}")
        number = number or interrupts.requested  # one that came after the last look
        if number is not None:
            say(console, f"interrupted; results in {path}; to go on: purejaxrl-a3c train --resume {path}")
            return exit_status(number)
    diverged, total = False, algorithm.iterations * algorithm.frames_per_step
    with explained(f"the trained agents are in {path}"):
        for i, options in enumerate(_options(request.options)):
            returns = evaluate_state(request.config, trained[i].state, options, console)
            own = request._replace(options=options)
            diverged |= report(own, paths[i], total, 1, trained[i], returns, console)
            taken[i].release()
        picture = unused(path / PICTURE, ".png")
        say(console, compare(paths, picture).rstrip())
    say(console, f"drawn to {picture}")
    assert setting.folder is not None
    setting.folder.release()
    return 3 if diverged else 0


def _take_runs(setting: Setting, console: Console) -> Earlier:
    """Take the folders of an earlier call. Nothing in them is changed; after an error others can use them again.

    Raises:
        InputError: if a folder is in use, or as `read_runs`.
    """
    assert setting.folder is not None
    taken = [setting.folder]
    try:
        for one in folders(setting.path, setting.request.options):
            taken.append(folder.claim_again(one) if one.exists() else folder.claim_new(one, ""))
        return read_runs(taken[1:], setting.request, console)
    except BaseException:
        for run in taken:
            run.release()
        raise


def read_runs(taken: list[folder.RunFolder], request: Request, console: Console) -> Earlier:
    """The last iteration that all seeds have a checkpoint of, and their states then.

    Raises:
        InputError: if a folder lacks that checkpoint, or was trained for more frames alone.
    """
    assert request.earlier is not None
    paths, algorithm = [one.path for one in taken], build(request.config)
    found = [checkpoint.find(one, or_start=True) for one in paths]
    common = min(one.iteration for one in found)
    before = flat(request.earlier.config)["total_frames"]
    for i, one in enumerate(found):
        if one.iteration > common:
            total = checkpoint.read_record(one)["config"]["total_frames"]
            if total != before:
                reject("resume", str(paths[i]), f"of {before} frames, as the others; it was trained for {total} alone")
            say(console, f"note: {paths[i]} goes back to iteration {common}, where the others are", style="yellow")
            found[i] = checkpoint.find(one.folder, or_start=common == 0, latest=common)
        for note in notes_on_damage(found[i]):
            say(console, f"note: {paths[i]}: {note}", style="yellow")
        if found[i].iteration != common:
            reject("resume", str(paths[i]), f"a folder with a sound checkpoint of iteration {common}, as the others")
    if common > algorithm.iterations:
        done = common * algorithm.frames_per_step
        reject("total_frames", flat(request.config)["total_frames"], f">= {done}, which the runs have done already")
    states = [checkpoint.read_state(one, state_types(request.config)) for one in found] if common else []
    return Earlier(taken, found, jax.tree.map(lambda *x: jnp.stack(x), *states) if states else None, common)


def _trained_before(earlier: Earlier) -> list[Trained]:
    """What runs that are complete already have left."""
    states, trained = jax.device_get(earlier.states), list[Trained]()
    for i, one in enumerate(earlier.folders):
        state = jax.tree.map(lambda x, i=i: x[i], states)
        staleness = read_columns(one.path).get("staleness_mean", np.full(1, np.nan)).mean()
        trained.append(Trained(state, 0, 0.0, 0.0, float(staleness), not_finite_parameters(state)))
    return trained


def _compile(setting: Setting, console: Console) -> CompiledRun:
    title, number = setting.title.partition(",")[0], setting.request.options.num_seeds
    try:
        with waiting(console, f"compiling {number} runs of {title} side by side"), explained("nothing was written"):
            return compile_seeds(setting.request.config, number)
    except BaseException:
        assert setting.folder is not None
        setting.folder.abandon()
        raise


def compile_seeds(config: Any, number: int) -> CompiledRun:
    """As `chunks.compile_run`, for keys ``[number]`` and states with such a leading axis."""
    algorithm, started = build(config), time.perf_counter()

    def advance(keys: Key, states: State, count: jax.Array) -> tuple[State, Metrics]:
        return jax.vmap(lambda key, state: iterate(algorithm, key, state, count))(keys, states)

    keys = jax.random.split(jax.random.key(0), number)
    init = jax.jit(jax.vmap(algorithm.init)).lower(keys)
    states = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), init.out_info)
    lowered = jax.jit(advance, donate_argnums=1).lower(keys, states, jnp.int32(0))
    init_program, program = init.compile(), lowered.compile()
    return CompiledRun(
        init=init_program,
        advance=lambda keys, states, count: program(keys, states, jnp.int32(count)),
        state=states,
        metrics=lowered.out_info[1],
        iterations=algorithm.iterations,
        frames_per_iteration=algorithm.frames_per_step,
        compile_seconds=time.perf_counter() - started,
    )


class Runs(NamedTuple):
    """The runs of all seeds while they train, each field one entry a seed."""

    folders: list[folder.RunFolder]
    records: list[dict[str, Any]]
    files: list[MetricsFile]
    seen: list[list[Metrics]]  # all metrics, in the pieces that came

    def add(self, metrics: Metrics) -> None:
        """Write down a piece of metrics, ``[seeds, iterations]``."""
        for i, file in enumerate(self.files):
            own = jax.tree.map(lambda x, i=i: x[i], metrics)
            file.append(own)
            self.seen[i].append(own)

    def write(self, states: State) -> None:
        """Write a checkpoint of each."""
        for i, taken in enumerate(self.folders):
            checkpoint.write(taken.path, jax.tree.map(lambda x, i=i: x[i], states), self.records[i])

    def close(self) -> list[Metrics]:
        """Close the files and draw the curves; all metrics of each run."""
        whole = []
        for file, taken, pieces in zip(self.files, self.folders, self.seen, strict=True):
            file.close()
            whole.append(jax.tree.map(lambda *x: np.concatenate(x), *pieces))
            if len(whole[-1].frames):
                plot_learning_curve(taken.path / "learning_curve.png", taken.path.name, whole[-1])
        return whole


def _open(setting: Setting, run: CompiledRun, earlier: Earlier | None, console: Console) -> Runs:
    """Take the folders of all seeds, if that is not done, and write what describes the runs."""
    name, config, options, _ = setting.request
    assert setting.folder is not None
    setting.folder.write_config(folder.record(name, config, remembered(options)))
    runs = Runs([], [], [], [])
    for i, own in enumerate(_options(options)):
        path = folders(setting.path, options)[i]
        taken = folder.claim_new(path, "") if earlier is None else earlier.folders[i]
        record = folder.record(name, config, remembered(own))
        taken.write_config(record)
        if earlier is not None:
            checkpoint.set_aside(earlier.found[i])
        frames = None if earlier is None else earlier.iteration * run.frames_per_iteration
        file = MetricsFile(path, list(run.metrics.losses), frames)
        if file.lost:
            say(console, f"note: {file.lost}", style="yellow")
        runs.folders.append(taken)
        runs.records.append(record)
        runs.files.append(file)
        runs.seen.append([file.before])
    return runs


def _train(
    setting: Setting, run: CompiledRun, earlier: Earlier | None, console: Console, interrupts: Interrupts
) -> tuple[list[folder.RunFolder], list[Trained]]:
    """Train until the end or until a signal, with all metrics and, then, checkpoints in the folders."""
    options = setting.request.options
    number = options.num_seeds
    runs = _open(setting, run, earlier, console)
    together = run._replace(frames_per_iteration=run.frames_per_iteration * number)
    progress = RunProgress(together, None, setting.path, setting.title, console)
    every = -(-options.checkpoint_every_frames // run.frames_per_iteration)
    keys = jnp.stack([jax.random.key(one.seed) for one in _options(options)])
    states = None if earlier is None else earlier.states
    began = time.perf_counter()
    whole = list[Metrics]()
    try:
        with progress:
            for now, metrics in _chunks(run, keys, states, [every] if every else []):
                states = now
                runs.add(metrics)
                progress.add(_sum_of(metrics, number))
                done = int(states.iteration[0])
                stop = interrupts.requested is not None or done == run.iterations
                if stop or (every and done % every == 0):
                    runs.write(states)
                if stop:
                    break
    finally:
        seconds = time.perf_counter() - began
        whole = runs.close()
    host, trained = jax.device_get(states), list[Trained]()
    for i, metrics in enumerate(whole):
        state = jax.tree.map(lambda x, i=i: x[i], host)
        wrong = [name for name, values in metrics.losses.items() if not np.isfinite(values[-1])]
        staleness = float(metrics.losses.get("staleness_mean", np.full(1, np.nan)).mean())
        wrong += not_finite_parameters(state)
        frames = progress.trained // number
        trained.append(Trained(state, frames, seconds, run.compile_seconds, staleness, wrong))
    return runs.folders, trained


def _chunks(run: CompiledRun, keys: Key, states: State | None, every: Sequence[int]) -> Iterator[tuple[State, Metrics]]:
    """As `chunks.run_in_chunks`, for all seeds: states, and metrics of NumPy ``[seeds, iterations of the chunk]``."""
    split = jax.vmap(jax.random.split)(keys)
    states = run.init(split[:, 0]) if states is None else states
    done, count = int(states.iteration[0]), 1
    while done < run.iterations:
        count = min(count, run.iterations - done, *(each - done % each for each in every))
        started = time.perf_counter()
        states, metrics = run.advance(split[:, 1], states, count)
        metrics = jax.tree.map(lambda x, count=count: x[:, :count].copy(), jax.device_get(metrics))
        frames = run.frames_per_iteration * np.arange(done + 1, done + count + 1, dtype=np.int64)
        done += count
        yield states, metrics._replace(frames=np.broadcast_to(frames, metrics.frames.shape))
        count = next_count(count, time.perf_counter() - started)


def _sum_of(metrics: Metrics, number: int) -> Metrics:
    """What all seeds together report: sums of episodes, means of losses."""
    losses = {name: values.mean(0) for name, values in metrics.losses.items()}
    summed = jax.tree.map(lambda x: x.sum(0), metrics._replace(losses={}))
    return summed._replace(frames=metrics.frames[0] * number, losses=losses)
