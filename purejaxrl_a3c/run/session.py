"""The host's side of a run: folder, progress, checkpoints, evaluation, and the processes and devices that share it."""

import dataclasses
import datetime
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from purejaxrl_a3c.checks import check_count, reject
from purejaxrl_a3c.config import flat, from_json
from purejaxrl_a3c.run import checkpoint, devices, folder, quiet
from purejaxrl_a3c.run.algorithms import ALGORITHMS, DEFAULT
from purejaxrl_a3c.run.chunks import CompiledRun, compile_run, run_in_chunks
from purejaxrl_a3c.run.evaluate import evaluate
from purejaxrl_a3c.run.metrics_file import MetricsFile
from purejaxrl_a3c.run.progress import RunProgress
from purejaxrl_a3c.run.train import Result, build
from purejaxrl_a3c.types import Metrics, State


@dataclasses.dataclass(frozen=True)
class Options:
    """How to run, whatever the algorithm."""

    seed: int = 0
    """Seed of every random number of the run and of its evaluation."""
    out: Path | None = None
    """New or empty folder for config.json, metrics.csv and learning_curve.png; by default a new one in runs/."""
    evaluation_episodes: int = 128
    """Number of whole episodes on which the trained policy is evaluated."""
    sample_actions: bool = False
    """Evaluate with sampled actions instead of the most probable ones."""
    json: bool = False
    """Print one last line of JSON on standard output."""
    checkpoint_every_frames: int = 0
    """Write a checkpoint after this many frames, rounded up to whole iterations; 0 writes none, and in a resumed run
    keeps the earlier setting."""
    resume: Path | None = None
    """Continue from the last checkpoint in this folder of an earlier run, with its algorithm, settings and seed."""
    num_devices: int | None = None
    """Number of devices that share the run; by default 1, or with several processes all that they have."""
    distributed: bool = False
    """Join the other processes of a job started by Slurm, Open MPI or a Cloud TPU; they share the run."""
    coordinator_address: str | None = None
    """Address HOST:PORT of the first of several processes that were started by hand; needs num-processes and
    process-id."""
    num_processes: int | None = None
    """Number of processes that share the run, if they were started by hand."""
    process_id: int | None = None
    """Number of this process, from 0, if they were started by hand. Process 0 prints and writes."""


def join_processes(options: Options) -> None:
    """Make this process one of several, if the options say so. This must come before anything asks for a device.

    Raises:
        InputError: if the options do not go together, or there are no other processes to be found.
    """
    by_hand = (options.coordinator_address, options.num_processes, options.process_id)
    if by_hand != (None, None, None):
        for field in ("coordinator_address", "num_processes", "process_id"):
            if getattr(options, field) is None:
                reject(field, None, "given, since others of coordinator_address, num_processes and process_id are")
        check_count("num_processes", options.num_processes)
        if not 0 <= (options.process_id or 0) < (options.num_processes or 1):
            reject("process_id", options.process_id, f"in [0, {options.num_processes})")
    elif not options.distributed:
        return
    try:
        jax.distributed.initialize(*by_hand)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        accepted = f"of a job that JAX recognises, or coordinator_address given ({reason})"
        reject("distributed", options.distributed, accepted)


def choose_devices(config: Any, options: Options) -> devices.Devices | None:
    """The `Devices` of the run; None if there is but one device.

    Raises:
        InputError: if there are not so many, or they cannot share the run evenly.
    """
    available, processes = jax.devices(), jax.process_count()
    count = (1 if processes == 1 else len(available)) if options.num_devices is None else options.num_devices
    check_count("num_devices", count)
    if count > len(available):
        reject("num_devices", count, f"at most {len(available)}, as many as there are")
    if processes > 1 and count != len(available):
        reject("num_devices", count, f"{len(available)}, all that the {processes} processes have")
    return None if count == 1 else devices.spread(config, available[:count])


class Request(NamedTuple):
    """What was asked for."""

    name: str  # of the algorithm
    config: Any
    options: Options


def resumed(request: Request, run: Path) -> Request:
    """The request of the run in the folder ``run``.

    Raises:
        InputError: if there is no whole checkpoint there, or other settings than the defaults or those were asked for.
    """
    name, config, options = request
    record = checkpoint.read_record(run)
    saved = from_json(type(ALGORITHMS[record["algorithm"]]), record["config"])
    if name not in (DEFAULT, record["algorithm"]):
        reject("algorithm", name, f"{record['algorithm']}, as in {run}")
    before, defaults = flat(saved), flat(ALGORITHMS[name])
    for field, value in flat(config).items():
        if value not in (defaults[field], before.get(field, defaults[field])):
            reject(field, value, f"{before.get(field)!r}, as in {run}")
    if options.seed not in (Options.seed, record["seed"]):
        reject("seed", options.seed, f"{record['seed']}, as in {run}")
    if options.out is not None:
        reject("out", str(options.out), f"left out: a resumed run stays in its folder, {run}")
    every = options.checkpoint_every_frames or record["checkpoint_every_frames"]
    options = dataclasses.replace(options, seed=record["seed"], checkpoint_every_frames=every)
    return Request(record["algorithm"], saved, options)


class Trained(NamedTuple):
    """What training left."""

    state: State
    metrics: Metrics
    frames: int  # trained here, without those before a checkpoint
    seconds: float


def train(name: str, config: Any, options: Options, console: Console) -> None:
    """Train, evaluate and write the results down.

    Args:
        name: the algorithm's name.
        config: its ``Config``.
        options: how to run.
        console: for everything but the line of JSON.

    Raises:
        InputError: for settings that do not fit, before anything is compiled.
    """
    _check_options(options)
    request = Request(name, config, options)
    request = resumed(request, options.resume) if options.resume else request
    name, config, options = request
    build(config)
    on = choose_devices(config, options)
    out = _claim_folder(request)
    title = f"{name.upper()} on {flat(config)['env_id']}, seed {options.seed}"
    console.print(f"{title}: {flat(config)['total_frames']:,} frames on {_describe(on)}")
    with console.status("compiling"), quiet.quiet_cache():
        run = compile_run(config, on)
    key_run, key_evaluate = jax.random.split(jax.random.key(options.seed))
    trained = _train(request, run, key_run, out, title, console)
    state = devices.fetch(trained.state)
    if jax.process_index() != 0:
        return
    with console.status("evaluating"), quiet.quiet_cache():
        deterministic = not options.sample_actions
        returns = np.asarray(evaluate(config, state, key_evaluate, options.evaluation_episodes, deterministic))
    console.print(
        f"return {returns.mean():.1f} +- {returns.std():.1f} over {len(returns)} episodes, "
        f"{trained.frames / trained.seconds:,.0f} frames/s, compiled in {run.compile_seconds:.1f} s; results in {out}",
        highlight=False,
    )
    if options.json:
        print(json.dumps(_summary(request, run, trained, returns, 1 if on is None else on.mesh.size)))


def _check_options(options: Options) -> None:
    check_count("evaluation_episodes", options.evaluation_episodes)
    if not 0 <= options.seed < 2**32:
        reject("seed", options.seed, "in [0, 2**32)")
    if options.checkpoint_every_frames < 0:
        reject("checkpoint_every_frames", options.checkpoint_every_frames, ">= 0")


def _claim_folder(request: Request) -> Path:
    """The folder of the run, which process 0 makes unless the run is resumed."""
    name, config, options = request
    if options.resume:
        return options.resume
    if options.out is None and jax.process_count() > 1 and options.checkpoint_every_frames:
        reject("out", None, "given, so that all processes write their checkpoints to the same folder")
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    env_id = str(flat(config)["env_id"]).replace("/", "-")
    out = options.out or Path(f"runs/{stamp}-{name}-{env_id}-seed{options.seed}")
    return folder.make_folder(out) if jax.process_index() == 0 else out


def _describe(on: devices.Devices | None) -> str:
    device = jax.devices()[0]
    where = device.platform if on is None else f"{on.mesh.size} x {device.platform}"
    return f"{where} ({device.device_kind})"


def _train(request: Request, run: CompiledRun, key: jax.Array, out: Path, title: str, console: Console) -> Trained:
    """Train with a progress bar. However it ends, the metrics measured until then are in the folder."""
    name, config, options = request
    record = folder.record(name, config, options.seed)
    record["checkpoint_every_frames"] = options.checkpoint_every_frames
    state, frames_before = None, None
    if options.resume:
        state = checkpoint.read_state(options.resume, run.state)
        frames_before = int(state.iteration) * run.frames_per_iteration
    file = None
    if jax.process_index() == 0:
        file = MetricsFile(out, list(run.metrics.losses), frames_before)
        if not options.resume:
            folder.write_config(out, record)
    every = -(-options.checkpoint_every_frames // run.frames_per_iteration) or None
    chunks = run_in_chunks(run, key, state, every)
    if every:
        chunks = _with_checkpoints(chunks, run, out, record, every)
    progress = RunProgress(run, file, out, title, console)
    started = time.perf_counter()
    with progress:
        for result in chunks:
            state = result.state
            progress.add(result.metrics)
    assert progress.metrics is not None
    return Trained(state, progress.metrics, progress.trained, time.perf_counter() - started)


def _with_checkpoints(
    chunks: Iterator[Result], run: CompiledRun, out: Path, record: dict[str, Any], every: int
) -> Iterator[Result]:
    for chunk in chunks:
        yield chunk
        # Only now: the chunk's metrics are in the folder.
        done = int(chunk.state.iteration)
        if done % every == 0 and done < run.iterations:
            checkpoint.write(out, chunk.state, record)


def _summary(
    request: Request, run: CompiledRun, trained: Trained, returns: np.ndarray, num_devices: int
) -> dict[str, Any]:
    return {
        "algorithm": request.name,
        "env_id": flat(request.config)["env_id"],
        "seed": request.options.seed,
        "frames": run.iterations * run.frames_per_iteration,
        "compile_seconds": round(run.compile_seconds, 3),
        "train_seconds": round(trained.seconds, 3),
        "frames_per_second": round(trained.frames / trained.seconds),
        "devices": num_devices,
        "evaluation_return_mean": float(returns.mean()),
        "evaluation_return_std": float(returns.std()),
        "evaluation_episodes": len(returns),
        "staleness_mean": float(trained.metrics.losses["staleness_mean"].mean()),
    }
