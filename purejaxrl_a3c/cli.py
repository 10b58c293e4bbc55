"""The command line: ``purejaxrl-a3c train [algorithm] [--option value ...]``."""

import dataclasses
import datetime
import functools
import json
import operator
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from purejaxrl_a3c import logging
from purejaxrl_a3c.algorithms import a2c, a3c, averaging, impala, ppo, reinforce, rnd
from purejaxrl_a3c.checks import InputError, check_count, reject
from purejaxrl_a3c.evaluate import evaluate
from purejaxrl_a3c.train import compile_run, run_in_pieces

ALGORITHMS = {
    "a3c": a3c.Config,
    "a2c": a2c.Config,
    "averaging": averaging.Config,
    "reinforce": reinforce.Config,
    "ppo": ppo.Config,
    "impala": impala.Config,
    "rnd": rnd.Config,
}
_DEFAULT = "a3c"
_INTERRUPTED = 130  # the exit status of a program ended by Ctrl-C


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


def main(argv=None):
    """Run the command line; the exit status is 2 for bad input and 130 after Ctrl-C.

    Args:
        argv: arguments without the program's name; those of the process if None.
    """
    console = Console(stderr=True)
    try:
        name, config, options = parse(sys.argv[1:] if argv is None else list(argv))
        _cache_compilations()
        train(name, config, options, console)
    except InputError as error:
        console.print(f"error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def parse(argv):
    """``(algorithm's name, its Config, Options)`` from the arguments; exits with a message if they do not parse."""
    # An algorithm need not be named: options right after "train" are those of the default one.
    rest = argv[1:]
    if argv[:1] == ["train"] and (not rest or rest[0].startswith("-")) and rest not in (["-h"], ["--help"]):
        argv = ["train", _DEFAULT, *rest]

    def train(algorithm):
        """Train an agent and evaluate it. The algorithm may be left out; the default is a3c."""
        return type(algorithm).__name__, algorithm.config, algorithm.options

    algorithms = (_arguments(name, config_type) for name, config_type in ALGORITHMS.items())
    train.__annotations__["algorithm"] = functools.reduce(operator.or_, algorithms)
    app = tyro.extras.SubcommandApp()
    app.command(train)
    return app.cli(
        prog="purejaxrl-a3c",
        args=argv,
        description="Reinforcement-learning runs as pure functions.",
        config=(tyro.conf.OmitArgPrefixes,),
    )


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
    algorithm = config.build()
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = logging.make_folder(options.out or f"runs/{stamp}-{name}-{config.env_id}-seed{options.seed}")
    title = f"{name.upper()} on {config.env_id}, seed {options.seed}"
    device = jax.devices()[0]
    console.print(f"{title}: {config.total_frames:,} frames on {device.platform} ({device.device_kind})")
    with console.status("compiling"):
        run = compile_run(config)
    logging.write_config(folder, name, config, options.seed)
    key_run, key_evaluate = jax.random.split(jax.random.key(options.seed))
    state, metrics, seconds = _run(run, key_run, folder, title, console)
    with console.status("evaluating"):
        returns = np.asarray(
            evaluate(config, state, key_evaluate, options.evaluation_episodes, not options.sample_actions)
        )
    frames = run.iterations * algorithm.frames_per_step
    summary = {
        "algorithm": name,
        "env_id": config.env_id,
        "seed": options.seed,
        "frames": frames,
        "compile_seconds": round(run.compile_seconds, 3),
        "train_seconds": round(seconds, 3),
        "frames_per_second": round(frames / seconds),
        "evaluation_return_mean": float(returns.mean()),
        "evaluation_return_std": float(returns.std()),
        "evaluation_episodes": len(returns),
        "staleness_mean": float(metrics.staleness_mean.mean()),
    }
    console.print(
        f"return {returns.mean():.1f} +- {returns.std():.1f} over {len(returns)} episodes, "
        f"{frames / seconds:,.0f} frames/s, compiled in {run.compile_seconds:.1f} s; results in {folder}",
        highlight=False,
    )
    if options.json:
        print(json.dumps(summary))


def _run(run, key, folder, title, console):
    """Train with a progress bar: the final state, the metrics of all iterations, and the seconds it took.

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
    pieces = []
    state = None
    started = time.perf_counter()
    file = logging.MetricsFile(folder)
    try:
        with progress:
            for result in run_in_pieces(run, key):
                state = result.state
                pieces.append(result.metrics)
                file.append(result.metrics)
                frames = int(result.metrics.frames[-1])
                rate = frames / (time.perf_counter() - started)
                progress.update(task, completed=frames, rate=rate, score=_recent_return(pieces))
    finally:
        seconds = time.perf_counter() - started
        file.close()
        if pieces:
            metrics = jax.tree.map(lambda *columns: np.concatenate(columns), *pieces)
            logging.plot_learning_curve(folder / "learning_curve.png", title, metrics)
    return state, metrics, seconds


def _recent_return(pieces):
    """Mean return of the episodes that ended in the last few pieces, as text."""
    episodes = np.concatenate([piece.episodes for piece in pieces[-5:]])
    returns = np.concatenate([piece.episode_return for piece in pieces[-5:]])
    ended = episodes > 0
    return f"{np.average(returns[ended], weights=episodes[ended]):.1f}" if ended.any() else "-"


def _arguments(name, config_type):
    """A dataclass of the flags of one algorithm: those of its config and of `Options`, without prefixes."""
    flat = tyro.conf.arg(name="")
    fields = [("config", Annotated[config_type, flat]), ("options", Annotated[Options, flat])]
    arguments = dataclasses.make_dataclass(name, fields)
    arguments.__doc__ = sys.modules[config_type.__module__].__doc__
    return Annotated[arguments, tyro.conf.subcommand(name, prefix_name=False)]


def _cache_compilations():
    """Keep compiled programs between runs, in the user's cache folder."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(cache / "purejaxrl_a3c"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
