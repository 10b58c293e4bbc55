"""The host's side of a run: folder, progress, checkpoints, evaluation, and the processes and devices that share it."""

import dataclasses
import datetime
import json
import time
from pathlib import Path

import jax
import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from purejaxrl_a3c.algorithms import a2c, a3c, averaging, impala, ppo, reinforce, rnd
from purejaxrl_a3c.checks import check_count, reject
from purejaxrl_a3c.run import checkpoint, devices, logging
from purejaxrl_a3c.run.evaluate import evaluate
from purejaxrl_a3c.run.train import compile_run, run_in_pieces

ALGORITHMS = {
    "a3c": a3c.Config,
    "a2c": a2c.Config,
    "averaging": averaging.Config,
    "reinforce": reinforce.Config,
    "ppo": ppo.Config,
    "impala": impala.Config,
    "rnd": rnd.Config,
}
DEFAULT = "a3c"


@dataclasses.dataclass(frozen=True)
class Options:
    """How to run, whatever the algorithm."""

    seed: int = 0
    """Seed of every random number of the run and of its evaluation."""
    out: Path | None = None
    """A new or empty folder for config.json, metrics.csv and learning_curve.png [default: one in runs/]."""
    evaluation_episodes: int = 128
    """Whole episodes to evaluate the trained policy on."""
    sample_actions: bool = False
    """Evaluate with sampled instead of the most probable actions."""
    json: bool = False
    """Print one last line of JSON on standard output."""
    checkpoint_every_frames: int = 0
    """Write a checkpoint after so many frames, rounded up to whole iterations; 0: none, or as before if resumed."""
    resume: Path | None = None
    """Go on from the last checkpoint in this folder of an earlier run, with its algorithm, settings and seed."""
    num_devices: int | None = None
    """Devices that share the run out [default: 1, or of several processes all that they have]."""
    distributed: bool = False
    """Be one of several processes that share the run out, as started by Slurm, on a Cloud TPU, or by Open MPI."""
    coordinator_address: str | None = None
    """Likewise, started by hand: HOST:PORT of the first process, with num-processes and process-id."""
    num_processes: int | None = None
    """How many processes there are."""
    process_id: int | None = None
    """Which of them this is, from 0; that one prints and writes."""


def join_processes(options):
    """Make this process one of several, if the options say so. Before anything asks for a device.

    Raises:
        InputError: if the options do not go together, or there are no other processes to be found.
    """
    by_hand = (options.coordinator_address, options.num_processes, options.process_id)
    if by_hand != (None, None, None):
        for field in ("coordinator_address", "num_processes", "process_id"):
            if getattr(options, field) is None:
                reject(field, None, "given, since others of coordinator_address, num_processes and process_id are")
        check_count("num_processes", options.num_processes)
        if not 0 <= options.process_id < options.num_processes:
            reject("process_id", options.process_id, f"in [0, {options.num_processes})")
    elif not options.distributed:
        return
    try:
        jax.distributed.initialize(*by_hand)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        reject(
            "distributed", options.distributed, f"of a job that JAX recognises, or coordinator_address given ({reason})"
        )


def choose_devices(config, options):
    """The `Devices` of the run; None if there is but one device.

    Raises:
        InputError: if there are not so many, or they cannot share the run out evenly.
    """
    available, processes = jax.devices(), jax.process_count()
    count = (1 if processes == 1 else len(available)) if options.num_devices is None else options.num_devices
    check_count("num_devices", count)
    if count > len(available):
        reject("num_devices", count, f"at most {len(available)}, as many as there are")
    if processes > 1 and count != len(available):
        reject("num_devices", count, f"{len(available)}, all that the {processes} processes have")
    return None if count == 1 else devices.spread(config, available[:count])


def resumed(name, config, options):
    """``(name, config, options)`` of the run in the folder ``options.resume``.

    Raises:
        InputError: if there is no whole checkpoint there, or other settings than the defaults or those were asked for.
    """
    record = checkpoint.read_record(options.resume)
    saved = checkpoint.config_from(ALGORITHMS[record["algorithm"]], record["config"])
    if name not in (DEFAULT, record["algorithm"]):
        reject("algorithm", name, f"{record['algorithm']}, as in {options.resume}")
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), getattr(type(config)(), field.name)
        if value not in (default, getattr(saved, field.name, default)):
            reject(field.name, value, f"{getattr(saved, field.name)!r}, as in {options.resume}")
    if options.seed not in (Options.seed, record["seed"]):
        reject("seed", options.seed, f"{record['seed']}, as in {options.resume}")
    if options.out is not None:
        reject("out", str(options.out), f"left out: a run goes on in its folder, {options.resume}")
    every = options.checkpoint_every_frames or record["checkpoint_every_frames"]
    return record["algorithm"], saved, dataclasses.replace(options, seed=record["seed"], checkpoint_every_frames=every)


def train(name, config, options, console):
    """Train, evaluate and write the results down.

    Args:
        name: the algorithm's name.
        config: its ``Config``.
        options: `Options`.
        console: a rich console for everything that is not the line of JSON.

    Raises:
        InputError: for settings that do not fit, before anything is compiled.
    """
    check_count("evaluation_episodes", options.evaluation_episodes)
    if not 0 <= options.seed < 2**32:
        reject("seed", options.seed, "in [0, 2**32)")
    if options.checkpoint_every_frames < 0:
        reject("checkpoint_every_frames", options.checkpoint_every_frames, ">= 0")
    if options.resume:
        name, config, options = resumed(name, config, options)
    config.build()
    on = choose_devices(config, options)
    writes = jax.process_index() == 0
    folder = Path(options.resume or options.out or _new_folder(name, config, options))
    if writes and not options.resume:
        logging.make_folder(folder)
    title = f"{name.upper()} on {config.env_id}, seed {options.seed}"
    device, count = jax.devices()[0], 1 if on is None else on.mesh.size
    where = f"{count} x {device.platform}" if count > 1 else device.platform
    console.print(f"{title}: {config.total_frames:,} frames on {where} ({device.device_kind})")
    with console.status("compiling"):
        run = compile_run(config, on)
    record = logging.record(name, config, options.seed)
    record["checkpoint_every_frames"] = options.checkpoint_every_frames
    state, frames_before = None, None
    if options.resume:
        state = checkpoint.read_state(options.resume, run.state)
        frames_before = int(state.iteration) * run.frames_per_iteration
    file = logging.MetricsFile(folder, frames_before) if writes else None
    if writes and not options.resume:
        logging.write_config(folder, record)
    key_run, key_evaluate = jax.random.split(jax.random.key(options.seed))
    every = -(-options.checkpoint_every_frames // run.frames_per_iteration) or None
    pieces = run_in_pieces(run, key_run, state, every)
    if every:
        pieces = _with_checkpoints(pieces, run, folder, record, every)
    state, metrics, seconds, trained = _run(run, pieces, file, folder, title, console)
    state = devices.fetch(state)
    if not writes:
        return
    with console.status("evaluating"):
        returns = np.asarray(
            evaluate(config, state, key_evaluate, options.evaluation_episodes, not options.sample_actions)
        )
    console.print(
        f"return {returns.mean():.1f} +- {returns.std():.1f} over {len(returns)} episodes, "
        f"{trained / seconds:,.0f} frames/s, compiled in {run.compile_seconds:.1f} s; results in {folder}",
        highlight=False,
    )
    if options.json:
        summary = {
            "algorithm": name,
            "env_id": config.env_id,
            "seed": options.seed,
            "frames": run.iterations * run.frames_per_iteration,
            "compile_seconds": round(run.compile_seconds, 3),
            "train_seconds": round(seconds, 3),
            "frames_per_second": round(trained / seconds),
            "devices": count,
            "evaluation_return_mean": float(returns.mean()),
            "evaluation_return_std": float(returns.std()),
            "evaluation_episodes": len(returns),
            "staleness_mean": float(metrics.staleness_mean.mean()),
        }
        print(json.dumps(summary))


def _new_folder(name, config, options):
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    if jax.process_count() > 1 and options.checkpoint_every_frames:
        reject("out", None, "given, so that all processes write their checkpoints to the same folder")
    return f"runs/{stamp}-{name}-{config.env_id.replace('/', '-')}-seed{options.seed}"


def _with_checkpoints(pieces, run, folder, record, every):
    for piece in pieces:
        yield piece
        # Only now: its metrics are in the folder.
        done = int(piece.state.iteration)
        if done % every == 0 and done < run.iterations:
            checkpoint.write(folder, piece.state, record)


def _run(run, pieces, file, folder, title, console):
    """Train with a progress bar: the final state, all metrics in the folder, the seconds it took, and the frames.

    However it ends, what was measured until then is in the folder.
    """
    progress = Progress(
        TextColumn("{task.percentage:3.0f}%"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} frames  {task.fields[rate]:,.0f}/s  return {task.fields[score]}"),
        TimeRemainingColumn(),
        console=console,
    )
    task = progress.add_task("train", total=run.iterations * run.frames_per_iteration, rate=0, score="-")
    seen = [file.before] if file is not None and len(file.before.frames) else []
    state = metrics = None
    trained = 0
    started = time.perf_counter()
    try:
        with progress:
            for result in pieces:
                state = result.state
                seen.append(result.metrics)
                if file is not None:
                    file.append(result.metrics)
                frames = int(result.metrics.frames[-1])
                trained += len(result.metrics.frames) * run.frames_per_iteration
                rate = trained / (time.perf_counter() - started)
                progress.update(task, completed=frames, rate=rate, score=_recent_return(seen))
    finally:
        seconds = time.perf_counter() - started
        if file is not None:
            file.close()
        if seen:
            metrics = jax.tree.map(lambda *columns: np.concatenate(columns), *seen)
            if file is not None:
                logging.plot_learning_curve(folder / "learning_curve.png", title, metrics)
    return state, metrics, seconds, trained


def _recent_return(pieces):
    """Mean return of the episodes that ended in the last few pieces, as text."""
    episodes = np.concatenate([piece.episodes for piece in pieces[-5:]])
    returns = np.concatenate([piece.episode_return for piece in pieces[-5:]])
    ended = episodes > 0
    return f"{np.average(returns[ended], weights=episodes[ended]):.1f}" if ended.any() else "-"
