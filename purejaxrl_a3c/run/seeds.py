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
from purejaxrl_a3c.run import checkpoint, folder
from purejaxrl_a3c.run.chunks import CompiledRun, iterate, next_count
from purejaxrl_a3c.run.compare import compare
from purejaxrl_a3c.run.folder import unused
from purejaxrl_a3c.run.interrupts import Interrupts, exit_status
from purejaxrl_a3c.run.metrics_file import MetricsFile
from purejaxrl_a3c.run.options import Options, remembered
from purejaxrl_a3c.run.plots import plot_learning_curve
from purejaxrl_a3c.run.prepare import Setting
from purejaxrl_a3c.run.progress import RunProgress, say, waiting
from purejaxrl_a3c.run.report import Trained, evaluate_state, not_finite_parameters, report
from purejaxrl_a3c.run.train import build
from purejaxrl_a3c.run.where import state_types
from purejaxrl_a3c.types import Key, Metrics, State

PICTURE = "learning_curves.png"


def folders(path: Path, options: Options) -> list[Path]:
    """The folders of the runs, one for each seed from that of the options on."""
    return [path / f"seed-{seed}" for seed in _seeds(options)]


def _seeds(options: Options) -> range:
    return range(options.seed, options.seed + options.num_seeds)


class Seeds(NamedTuple):
    """The runs of all seeds, each field one entry a seed."""

    folders: list[folder.RunFolder]
    records: list[dict[str, Any]]
    files: list[MetricsFile]
    options: list[Options]


def train_seeds(setting: Setting, console: Console, interrupts: Interrupts) -> int:
    """Train and evaluate all seeds.

    Each run is that of ``--seed`` up to rounding, and its folder is one like any other, to evaluate, compare or resume.

    Returns:
        The exit status: 0, 3 if a run diverged, or that of the signal which ended it.

    Raises:
        InputError: if the runs of an earlier call do not go on from the same iteration.
    """
    request = setting.request
    states, frames = (None, None) if request.earlier is None else read_states(setting.path, request)
    title = setting.title.partition(",")[0]
    with waiting(console, f"compiling {request.options.num_seeds} runs of {title} side by side"):
        run = compile_seeds(request.config, request.options.num_seeds)
    with interrupts.deferred():
        seeds = _claim(setting, run, frames)
        trained = _train(setting, run, seeds, states, console, interrupts)
        number = interrupts.requested
    if number is not None:
        say(console, f"interrupted; results in {setting.path}; to go on: purejaxrl-a3c train --resume {setting.path}")
        return exit_status(number)
    diverged = False
    for i, options in enumerate(seeds.options):
        own = request._replace(options=options)
        returns = evaluate_state(request.config, trained[i].state, options, console)
        path = seeds.folders[i].path
        total = run.iterations * run.frames_per_iteration
        diverged |= report(own, path, total, 1, trained[i], returns, console)
        seeds.folders[i].release()
    picture = unused(setting.path / PICTURE, ".png")
    say(console, compare(folders(setting.path, request.options), picture).rstrip())
    say(console, f"drawn to {picture}")
    assert setting.folder is not None
    setting.folder.release()
    return 3 if diverged else 0


def read_states(path: Path, request: Any) -> tuple[State, int]:
    """The states of all seeds, stacked, after the last iteration that all of them have a checkpoint of, and its frames.

    Raises:
        InputError: if a folder has none.
    """
    found = [checkpoint.find(one) for one in folders(path, request.options)]
    common = min(one.iteration for one in found)
    found = [one if one.iteration == common else checkpoint.find(one.folder, latest=common) for one in found]
    for one in found:
        if one.iteration != common:
            reject("resume", str(one.folder), f"a folder with a sound checkpoint of iteration {common}, as the others")
    states = [checkpoint.read_state(one, state_types(request.config)) for one in found]
    for one in found:
        checkpoint.set_aside(one)
    frames = common * build(request.config).frames_per_step
    return jax.tree.map(lambda *x: jnp.stack(x), *states), frames


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


def _claim(setting: Setting, run: CompiledRun, frames: int | None) -> Seeds:
    """Take the folders of all seeds, and write what describes them."""
    name, config, options, _ = setting.request
    found = Seeds([], [], [], [])
    for seed, path in zip(_seeds(options), folders(setting.path, options), strict=True):
        own = dataclasses.replace(options, seed=seed, num_seeds=1)
        taken = folder.claim_new(path, "") if frames is None else folder.claim_again(path)
        record = folder.record(name, config, remembered(own))
        taken.write_config(record)
        found.folders.append(taken)
        found.records.append(record)
        found.files.append(MetricsFile(path, list(run.metrics.losses), frames))
        found.options.append(own)
    return found


def _train(
    setting: Setting, run: CompiledRun, seeds: Seeds, states: State | None, console: Console, interrupts: Interrupts
) -> list[Trained]:
    """Train until the end or until a signal, with all metrics and, then, checkpoints in the folders."""
    options = setting.request.options
    number = options.num_seeds
    together = run._replace(frames_per_iteration=run.frames_per_iteration * number)
    progress = RunProgress(together, None, setting.path, setting.title, console)
    every = -(-options.checkpoint_every_frames // run.frames_per_iteration)
    keys = jnp.stack([jax.random.key(seed) for seed in _seeds(options)])
    seen: list[Metrics] = [file.before for file in seeds.files]
    began, done = time.perf_counter(), 0
    with progress:
        for now, metrics in _chunks(run, keys, states, [every] if every else []):
            states = now
            for i, file in enumerate(seeds.files):
                own = jax.tree.map(lambda x, i=i: x[i], metrics)
                file.append(own)
                seen[i] = jax.tree.map(lambda *x: np.concatenate(x), seen[i], own)
            progress.add(_sum_of(metrics, number))
            done = int(states.iteration[0])
            stop = interrupts.requested is not None or done == run.iterations
            if stop or (every and done % every == 0):
                for i, taken in enumerate(seeds.folders):
                    one = jax.tree.map(lambda x, i=i: x[i], states)
                    checkpoint.write(taken.path, one, seeds.records[i])
            if stop:
                break
    seconds = time.perf_counter() - began
    host, found = jax.device_get(states), list[Trained]()
    for i, file in enumerate(seeds.files):
        file.close()
        state, last = jax.tree.map(lambda x, i=i: x[i], host), seen[i].losses
        plot_learning_curve(seeds.folders[i].path / "learning_curve.png", seeds.folders[i].path.name, seen[i])
        wrong = [name for name, values in last.items() if not np.isfinite(values[-1])]
        staleness = float(last.get("staleness_mean", np.full(1, np.nan)).mean())
        frames = progress.trained // number
        wrong += not_finite_parameters(state)
        found.append(Trained(state, frames, seconds, run.compile_seconds, staleness, wrong))
    return found


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
