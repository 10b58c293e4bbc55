"""The host's side of a run: training with progress and checkpoints, and the evaluation after it."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from purejaxrl_a3c.host.lockstep import StepError
from purejaxrl_a3c.host.results import WorkerError
from purejaxrl_a3c.run import checkpoint, devices, folder, load, loggers, prepare
from purejaxrl_a3c.run.chunks import CompiledRun, agreed, agreed_signal, run_in_chunks
from purejaxrl_a3c.run.compare import estimate
from purejaxrl_a3c.run.evaluate import in_environment
from purejaxrl_a3c.run.evaluations import Evaluations
from purejaxrl_a3c.run.interrupts import Interrupts, exit_status
from purejaxrl_a3c.run.metrics_file import MetricsFile, read_columns
from purejaxrl_a3c.run.options import Options, check_options, remembered
from purejaxrl_a3c.run.progress import RunProgress, say, waiting
from purejaxrl_a3c.run.report import (
    Trained,
    describe_returns,
    evaluate_state,
    evaluation_summary,
    not_finite_parameters,
    report,
)
from purejaxrl_a3c.run.request import Request, read_earlier
from purejaxrl_a3c.run.seeds import train_seeds
from purejaxrl_a3c.run.stopped import Stopped, explained
from purejaxrl_a3c.run.train import build
from purejaxrl_a3c.run.where import compile_run

BEST = "best"
"""Folder in that of a run, with the best agent of its evaluations."""

DIVERGED = 3
"""Exit status of a run whose losses or parameters are not finite at its end."""


def train(request: Request, console: Console, interrupts: Interrupts) -> int:
    """Train, evaluate and write the results down.

    Args:
        request: what was asked for.
        console: for everything but the line of JSON.
        interrupts: the signals that this process hears.

    Returns:
        The exit status: 0, `DIVERGED`, or that of the signal which ended the run.

    Raises:
        InputError: for settings that do not fit, before anything is compiled.
        Stopped: if memory or the disk did not suffice.
    """
    setting = prepare.prepare(request, console, interrupts)
    algorithm = build(request.config)
    if request.options.num_seeds > 1:
        return train_seeds(setting, console, interrupts)
    path, total = setting.path, algorithm.iterations * algorithm.frames_per_step
    evaluating = f"the trained agent is in {path}; to evaluate it: purejaxrl-a3c evaluate {path}"
    if setting.state is not None and int(setting.state.iteration) == algorithm.iterations:
        say(console, "note: the run is complete; a larger total-frames extends it", style="yellow")
        trained = _trained_before(setting)
    else:
        run = _compile(setting, console)
        with interrupts.deferred(), explained(f"what was measured is in {path}"):
            trained = _train(setting, run, console, interrupts)
            number = agreed_signal(interrupts.requested)
            interrupts.farewell = lambda: say(console, f"interrupted before the evaluation; {evaluating}")
        number = number or interrupts.requested  # one that came after the last look
        if number is not None:
            done = int(trained.state.iteration) * algorithm.frames_per_step
            go_on = f"to go on: purejaxrl-a3c train --resume {path}"
            say(console, f"interrupted at frame {done:,} of {total:,}; results in {path}; {go_on}")
            return exit_status(number)
    if setting.folder is None:
        return 0
    with explained(evaluating):
        returns = evaluate_state(request.config, trained.state, request.options, console)
        num_devices = 1 if setting.on is None else setting.on.mesh.size
        diverged = report(request, path, total, num_devices, trained, returns, console)
    setting.folder.release()
    return DIVERGED if diverged else 0


class Elsewhere(NamedTuple):
    """Where an agent is evaluated, if not as it was trained."""

    env_id: str | None = None  # another environment
    opponent: str | None = None  # of a game for two: its name, or the folder of another run


def evaluate_runs(paths: list[Path], options: Options, console: Console, elsewhere: Elsewhere) -> None:
    """Evaluate the trained agents in folders of runs, in which nothing is changed, and say how they do together.

    Args:
        paths: of the folders.
        options: of which those of the evaluation count, and the seed.
        console: for everything but the lines of JSON.
        elsewhere: another environment or opponent than that of training.

    Raises:
        InputError: if there is no sound checkpoint in a folder, or the other environment looks otherwise.
    """
    means = []
    for path in paths:
        if len(paths) > 1:
            say(console, f"{path}:")
        means.append(evaluate_run(path, options, console, elsewhere))
    if len(paths) > 1:
        found = estimate(np.array(means))
        interval = f"{found.low:.1f} to {found.high:.1f}"
        say(console, f"interquartile mean of {len(paths)} runs: {found.middle:.1f}, 95 % interval {interval}")
        if options.json:
            summary = {"interquartile_mean": found.middle, "low": found.low, "high": found.high}
            print(json.dumps({"runs": len(paths), **{name: float(x) for name, x in summary.items()}}), flush=True)


def evaluate_run(path: Path, options: Options, console: Console, elsewhere: Elsewhere) -> float:
    """Evaluate the trained agent in a run's folder, in which nothing is changed.

    Args:
        path: of the folder.
        options: of which those of the evaluation count, and the seed.
        console: for everything but the line of JSON.
        elsewhere: another environment or opponent than that of training.

    Returns:
        The mean return.

    Raises:
        InputError: if there is no sound checkpoint in the folder, or the other environment looks otherwise.
    """
    check_options(options)
    prepare.check_platform()
    earlier = read_earlier(path, "run")
    for note in prepare.notes_on_damage(earlier.found):
        say(console, f"note: {note}", style="yellow")
    config, state = earlier.config, load.read_state(earlier)
    if elsewhere.env_id is not None:
        config, state = in_environment(config, state, elsewhere.env_id)
    opponent: Any = elsewhere.opponent
    if opponent is not None and (Path(opponent) / "config.json").exists():
        opponent = load.read_state(read_earlier(Path(opponent), "opponent"))
    request = Request(earlier.name, config, options)
    returns = evaluate_state(config, state, options, console, opponent=opponent)
    frames = earlier.found.iteration * build(earlier.config).frames_per_step
    say(console, f"{describe_returns(returns)}, after {frames:,} frames")
    if options.json:
        print(json.dumps({**evaluation_summary(request, returns), "frames": frames}), flush=True)
    return float(returns.mean())


def _compile(setting: prepare.Setting, console: Console) -> CompiledRun:
    try:
        what = f"compiling a run of {setting.title.partition(',')[0]}"
        with waiting(console, what), explained("nothing was written"):
            return compile_run(setting.request.config, setting.request.options, setting.on, setting.pretrained)
    except BaseException:
        if setting.folder:
            setting.folder.abandon()
        raise


def _train(setting: prepare.Setting, run: CompiledRun, console: Console, interrupts: Interrupts) -> Trained:
    """Train until the end or until a signal. However it ends, the metrics measured until then are in the folder."""
    name, config, options, earlier = setting.request
    record = folder.record(name, config, remembered(options))
    frames_before = None if earlier is None else earlier.found.iteration * run.frames_per_iteration
    file = None
    if setting.folder is not None:
        if earlier is not None:
            checkpoint.set_aside(earlier.found)
        setting.folder.write_config(record)
        file = MetricsFile(setting.path, list(run.metrics.losses), frames_before)
        if file.lost:
            say(console, f"note: {file.lost}", style="yellow")
    every = -(-options.checkpoint_every_frames // run.frames_per_iteration)
    look_every = -(-options.evaluate_every_frames // run.frames_per_iteration)
    looking = 0.0
    evaluations = _evaluations(setting, frames_before) if look_every else None
    started = [] if file is None else [loggers.MAKE[name](setting.path, record) for name in options.logger]
    progress = RunProgress(run, file, setting.path, setting.title, console, started)
    state: Any = setting.state
    began = ended = time.perf_counter()
    with progress, _kept_after_step_error(progress, setting.path, record):
        for result in run_in_chunks(
            run, jax.random.key(options.seed), state, [each for each in (every, look_every) if each]
        ):
            state = result.state
            progress.add(result.metrics)
            ended = time.perf_counter()
            done = int(state.iteration)
            if look_every and done % look_every == 0:
                frames = done * run.frames_per_iteration
                progress.log(frames, _look(setting, evaluations, frames, state, record, console))
                looking += time.perf_counter() - ended
                ended = time.perf_counter()
            stop = agreed_signal(interrupts.requested) is not None or done == run.iterations
            # Only now: the chunk's metrics are in the folder.
            if stop or (every and done % every == 0):
                checkpoint.write(setting.path, state, record)
            if stop:
                break
    assert progress.metrics is not None
    state = devices.fetch(state)
    staleness = float(progress.metrics.losses.get("staleness_mean", np.full(1, np.nan)).mean())
    not_finite = [*progress.not_finite, *not_finite_parameters(state)]
    return Trained(state, progress.trained, ended - began - looking, run.compile_seconds, staleness, not_finite)


def _evaluations(setting: prepare.Setting, frames: int | None) -> Evaluations | None:
    """The file of the evaluations; None in a process that does not write."""
    if setting.folder is None:
        return None
    best = setting.path / BEST
    if setting.request.earlier is not None and (best / "checkpoints").exists():
        checkpoint.set_aside(checkpoint.Found(best, setting.request.earlier.found.iteration, {}))
    return Evaluations(setting.path, frames)


def _look(
    setting: prepare.Setting,
    evaluations: Evaluations | None,
    frames: int,
    state: Any,
    record: dict[str, Any],
    console: Console,
) -> dict[str, float]:
    """Evaluate in the middle of a run, and keep the agent if it is the best so far; what was found by name."""
    whole, best = devices.fetch(state), 0  # all processes take part
    found: dict[str, float] = {}
    if evaluations is not None:
        returns = evaluate_state(setting.request.config, whole, setting.request.options, console, frames)
        best = int(evaluations.add(frames, returns))
        found = {"evaluation_return_mean": float(returns.mean()), "evaluation_return_std": float(returns.std())}
    if agreed(best):
        checkpoint.write(setting.path / BEST, state, record)
    return found


@contextlib.contextmanager
def _kept_after_step_error(progress: RunProgress, path: Path, record: dict[str, Any]) -> Iterator[None]:
    """Keep what was learned before environments outside of JAX could not go on.

    Raises:
        Stopped: with their error.
    """
    try:
        yield
    except (StepError, WorkerError) as error:
        if len(error.result.metrics.frames):
            progress.add(error.result.metrics)
        checkpoint.write(path, error.result.state, record)
        raise Stopped(f"{error}; to go on: purejaxrl-a3c train --resume {path}") from error


def _trained_before(setting: prepare.Setting) -> Trained:
    """What a run that is complete already has left."""
    state = devices.fetch(setting.state)
    staleness = read_columns(setting.path).get("staleness_mean", np.full(1, np.nan)).mean()
    return Trained(state, 0, 0.0, 0.0, float(staleness), not_finite_parameters(state))
