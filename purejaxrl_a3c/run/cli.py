"""The command line: ``purejaxrl-a3c train [algorithm] [--option value ...]``, ``evaluate``, ``sweep`` and ``envs``."""

import contextlib
import functools
import importlib.metadata
import io
import operator
import os
import sys
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import jax
import tyro
from rich.console import Console

from purejaxrl_a3c import envs
from purejaxrl_a3c.backend.compiling import compute_where_called
from purejaxrl_a3c.checks import InputError, reject
from purejaxrl_a3c.config import flat, replace
from purejaxrl_a3c.run import quiet
from purejaxrl_a3c.run.algorithms import ALGORITHMS, DEFAULT
from purejaxrl_a3c.run.compare import compare
from purejaxrl_a3c.run.doctor import doctor
from purejaxrl_a3c.run.export import Format, export_policy
from purejaxrl_a3c.run.flags import docstrings, flags_of, read_flags, subcommand
from purejaxrl_a3c.run.folder import unused
from purejaxrl_a3c.run.interrupts import Interrupts
from purejaxrl_a3c.run.join import join_processes
from purejaxrl_a3c.run.load import load
from purejaxrl_a3c.run.options import Options
from purejaxrl_a3c.run.prepare import check_platform
from purejaxrl_a3c.run.progress import say, waiting
from purejaxrl_a3c.run.recording import check_output
from purejaxrl_a3c.run.request import Request, read_config, read_earlier, value_of
from purejaxrl_a3c.run.session import DIVERGED, Elsewhere, evaluate_runs, train
from purejaxrl_a3c.run.stopped import Stopped
from purejaxrl_a3c.run.sweep_command import sweep_command
from purejaxrl_a3c.run.tuned import tuned
from purejaxrl_a3c.run.watch import watch
from purejaxrl_a3c.run.where import is_outside

LEAST_SECONDS = 0.3
"""Programs that took less time to compile are not cached."""

_USAGE = f"""usage: purejaxrl-a3c COMMAND

  train [ALGORITHM] [--OPTION VALUE ...]   train an agent and evaluate it; the default algorithm is {DEFAULT}
  train ALGORITHM --help                   every setting of an algorithm
  train --resume RUN                       go on with the run in the folder RUN
  train --config FILE                      a new run with the settings of another, or the best ones of a sweep
  evaluate RUN ... [--OPTION VALUE ...]    evaluate the trained agents of runs
  compare RUN RUN ... [--out FILE]         curves and returns of runs, and what differs in their settings
  sweep ALGORITHM [--SETTING VALUES ...]   compare settings; sweep --help says how to write them
  watch RUN [--out FILE] [--OPTION VALUE]  a GIF or an MP4 of the trained agent
  export RUN [--out DIR] [--format ...]    write the trained policy for other programs: stablehlo, onnx, ...
  doctor [--env NAME]                      what is installed, and whether it works; whether an environment does
  envs [SUITE]                             list the environments
  --version                                print the version

algorithms: {", ".join(ALGORITHMS)}

exit status: 0, 1 after an error, 2 for input that is not accepted, {DIVERGED} if the run diverged,
130 after Ctrl-C, 143 after SIGTERM
"""


def main(argv: list[str] | None = None) -> None:
    """Run the command line, and exit with the status that the help describes if it is not 0.

    Args:
        argv: arguments without the program's name; those of the process if None.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    console = Console(stderr=True)
    status = 0
    try:
        with Interrupts() as interrupts:
            status = _run(argv, console, interrupts)
    except InputError as error:
        _say_error(console, error)
        status = 2
    except Stopped as error:
        _say_error(console, error)
        status = 1
    except Exception as error:  # a broken connection comes as one of several kinds
        if jax.process_count() == 1:
            raise
        _stop_one_process(error)
    if status:
        sys.exit(status)


def _run(argv: list[str], console: Console, interrupts: Interrupts) -> int:
    if not argv or argv in (["-h"], ["--help"], ["help"]):
        print(_USAGE, end="")
    elif argv == ["--version"]:
        print(f"purejaxrl-a3c {importlib.metadata.version('purejaxrl-a3c')}, jax {jax.__version__}")
    elif argv[0] == "envs":
        print("\n".join(envs.list_names(*argv[1:2])))
    elif argv[0] == "evaluate":
        folders, options, elsewhere = parse_evaluate(argv[1:])
        with _cached_compilations(console):
            evaluate_runs(folders, options, console, elsewhere)
    elif argv[0] == "compare":
        folders, out = parse_compare(argv[1:])
        out = unused(out, out.suffix)
        print(compare(folders, out), end="")
        say(console, f"drawn to {out}")
    elif argv[0] == "export":
        check_platform()
        folder, out, formats = parse_export(argv[1:])
        for path in export_policy(folder, out, formats):
            say(console, f"written: {path}")
    elif argv[0] == "doctor":
        check_platform()
        with _cached_compilations(console):
            return doctor(*parse_doctor(argv[1:]))
    elif argv[0] == "watch":
        check_platform()
        with _cached_compilations(console):
            _watch(*parse_watch(argv[1:]), console)
    elif argv[0] == "sweep":
        check_platform()
        with _cached_compilations(console):
            return sweep_command(argv[1:], console)
    else:
        request = parse(argv)
        if is_outside(request.config):
            compute_where_called()
        with _cached_compilations(console):
            join_processes(request.options)
            interrupts.listen()  # JAX's runtime for several processes takes SIGTERM for itself
            check_platform()
            return train(request, Console(stderr=True, quiet=jax.process_index() > 0), interrupts)
    return 0


def parse(argv: list[str]) -> Request:
    """What the arguments ask for; exits with a message if they do not parse.

    Raises:
        InputError: if there is no run to resume where ``--resume`` says.
    """
    folder = value_of("--resume", argv)
    earlier = read_earlier(Path(folder)) if folder is not None else None
    # Everything that is not given is as it was, or as it is by default.
    configs = ALGORITHMS if earlier is None else ALGORITHMS | {earlier.name: earlier.config}
    before, default = (Options(), DEFAULT) if earlier is None else (earlier.options, earlier.name)
    file = value_of("--config", argv)
    if file is not None:
        if earlier is not None:
            reject("config", file, "left out: a resumed run has settings of its own")
        default, config = read_config(Path(file))
        configs = ALGORITHMS | {default: config}
    # An algorithm need not be named.
    rest = argv[1:]
    if argv[:1] == ["train"] and (not rest or rest[0].startswith("-")) and rest not in (["-h"], ["--help"]):
        argv = ["train", default, *rest]
    if "--tuned" in argv and argv[1] in configs:
        if folder is not None or file is not None:
            reject("tuned", True, "left out: the settings are those of another run")
        env_id = value_of("--env-id", argv) or flat(configs[argv[1]])["env_id"]
        configs = ALGORITHMS | {argv[1]: tuned(argv[1], env_id)}

    def read(asked: Container[str]) -> tuple[str, dict[str, Any], Options]:
        """What the arguments say, with flags for these algorithms; of the others tyro knows the names alone."""

        def train(algorithm: Any) -> tuple[str, dict[str, Any], Options]:
            """Train an agent and evaluate it."""
            return type(algorithm).__name__, *read_flags(algorithm)

        algorithms = (
            flags_of(name, config, before) if name in asked else subcommand(name, config)
            for name, config in configs.items()
        )
        train.__annotations__["algorithm"] = functools.reduce(operator.or_, algorithms)
        app = tyro.extras.SubcommandApp()
        app.command(train)
        return app.cli(
            prog="purejaxrl-a3c",
            args=argv,
            description="Reinforcement-learning runs as pure functions.",
            config=(tyro.conf.OmitArgPrefixes,),
        )

    # Making flags takes long, so only those that are asked for are made. But help, and what tyro says of a flag that
    # this algorithm lacks and another has, need all of them.
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            name, values, options = read([argv[1]] if argv[1:2] and argv[1] in configs else configs)
    except SystemExit:
        name, values, options = read(configs)
    name = name.replace("_", "-")
    if file is not None and name != default:
        reject("algorithm", name, f"{default}, of which the settings in {file} are")
    return Request(name, replace(configs[name], **values), options, earlier)


def parse_evaluate(argv: list[str]) -> tuple[list[Path], Options, Elsewhere]:
    """Folders, options and surroundings of ``evaluate``; exits with a message if the arguments do not parse."""
    texts = docstrings(Options)

    def described(name: str, kind: Any) -> Any:
        return Annotated[kind, tyro.conf.arg(help=texts[name])]

    def evaluate(
        runs: tyro.conf.Positional[list[Path]],
        evaluation_episodes: int = Options.evaluation_episodes,
        sample_actions: bool = False,
        seed: int = 0,
        json: bool = False,
        env_id: Annotated[
            str | None, tyro.conf.arg(help="Another environment than that of training, which looks like it.")
        ] = None,
        opponent: Annotated[
            str | None,
            tyro.conf.arg(help="Opponent in a game for two: random, lookahead, or the folder of another run like it."),
        ] = None,
    ) -> tuple[list[Path], Options, Elsewhere]:
        """Evaluate the trained agents in the folders of runs, in which nothing is changed."""
        options = Options(seed=seed, evaluation_episodes=evaluation_episodes, sample_actions=sample_actions, json=json)
        return runs, options, Elsewhere(env_id, opponent)

    for name in ("evaluation_episodes", "sample_actions", "json"):
        evaluate.__annotations__[name] = described(name, evaluate.__annotations__[name])
    runs, options, elsewhere = tyro.cli(evaluate, prog="purejaxrl-a3c evaluate", args=argv)
    if not runs:
        reject("runs", "nothing", "at least one folder of a run")
    return runs, options, elsewhere


def parse_compare(argv: list[str]) -> tuple[list[Path], Path]:
    """The folders and the picture of ``compare``; exits with a message if the arguments do not parse."""

    def compare(
        runs: tyro.conf.Positional[list[Path]],
        out: Annotated[Path, tyro.conf.arg(help="The picture; its suffix says the format.")] = Path("comparison.png"),
    ) -> tuple[list[Path], Path]:
        """Compare the runs in these folders: curves and returns of those that differ in more than their seeds."""
        return runs, out

    runs, out = tyro.cli(compare, prog="purejaxrl-a3c compare", args=argv)
    if not runs:
        reject("runs", "nothing", "at least one folder of a run")
    return runs, out


def parse_export(argv: list[str]) -> tuple[Path, Path, tuple[Format, ...]]:
    """Run, folder and formats of ``export``; exits with a message if the arguments do not parse."""

    def export(
        run: tyro.conf.Positional[Path],
        out: Annotated[Path | None, tyro.conf.arg(help="Folder for the files; by default that of the run.")] = None,
        format: Annotated[tuple[Format, ...], tyro.conf.arg(help="Which.")] = ("stablehlo",),
    ) -> tuple[Path, Path, tuple[Format, ...]]:
        """Write the trained policy of a run, for programs without this package."""
        return run, run if out is None else out, format

    return tyro.cli(export, prog="purejaxrl-a3c export", args=argv)


def parse_doctor(argv: list[str]) -> tuple[str | None, dict[str, Any]]:
    """The environment of ``doctor`` and its arguments; exits with a message if the command does not parse."""

    def doctor(
        env: Annotated[
            str | None,
            tyro.conf.arg(help="Try this environment instead: my_module:make_env, or any other name of one."),
        ] = None,
        env_kwargs: Annotated[
            dict[str, bool | int | float | str], tyro.conf.arg(help="Arguments for what makes it, by name.")
        ] = {},  # noqa: B006  (tyro copies it)
    ) -> tuple[str | None, dict[str, Any]]:
        """Say what is installed and whether JAX computes rightly here, or what is wrong with an environment."""
        return env, dict(env_kwargs)

    return tyro.cli(doctor, prog="purejaxrl-a3c doctor", args=argv)


def parse_watch(argv: list[str]) -> tuple[Path, Path, dict[str, Any]]:
    """Run, file and options of ``watch``; exits with a message if the arguments do not parse."""

    def watch(
        run: tyro.conf.Positional[Path],
        out: Annotated[
            Path | None, tyro.conf.arg(help="File, .gif or .mp4; by default watch.gif in the folder of the run.")
        ] = None,
        episodes: Annotated[int, tyro.conf.arg(help="Episodes after which it ends.")] = 1,
        max_frames: Annotated[int, tyro.conf.arg(help="Pictures after which it ends at the latest.")] = 1000,
        fps: Annotated[int, tyro.conf.arg(help="Pictures a second.")] = 30,
        sample_actions: Annotated[bool, tyro.conf.arg(help="Sample actions instead of the most probable.")] = False,
        seed: Annotated[int, tyro.conf.arg(help="Seed of the environment and of sampled actions.")] = 0,
    ) -> tuple[Path, Path, dict[str, Any]]:
        """Draw the trained agent of a run: pictures of the environment, probabilities of actions, value and return."""
        options = {"episodes": episodes, "max_frames": max_frames, "fps": fps, "deterministic": not sample_actions}
        return run, run / "watch.gif" if out is None else out, options | {"key": jax.random.key(seed)}

    return tyro.cli(watch, prog="purejaxrl-a3c watch", args=argv)


def _watch(run: Path, out: Path, options: dict[str, Any], console: Console) -> None:
    check_output(out)
    trained = load(run)
    with waiting(console, "drawing"):
        recording = watch(trained.config, trained.state, **options)
        recording.save(out)
    returns = ", ".join(f"{one:g}" for one in recording.returns) or "no episode ended"
    say(console, f"written: {out}, {len(recording.frames)} frames; returns: {returns}")


def _say_error(console: Console, error: Exception) -> None:
    say(console, f"error: {error}", style="bold red")


def _stop_one_process(error: Exception) -> NoReturn:
    # At once and without a traceback: JAX's own watchdog may end this process any moment.
    reason = (str(error).strip().splitlines() or [repr(error)])[0][:200]
    sys.stderr.write(
        f"\nerror: process {jax.process_index()} of {jax.process_count()} has to stop: {reason}\n"
        "If another process was lost, resume from the last checkpoint with --resume FOLDER.\n"
    )
    sys.stderr.flush()
    os._exit(1)  # a regular exit would wait for the lost process


@contextlib.contextmanager
def _cached_compilations(console: Console) -> Iterator[None]:
    """Keep compiled programs between runs, in the user's cache folder.

    Small programs between the large ones are read from there too, so the false alarms are hidden all the time.
    """
    _set_cache(console)
    with quiet.quiet_cache():
        yield


def _set_cache(console: Console) -> None:
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    folder = quiet.cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        say(console, f"note: every run compiles anew, because {folder} cannot be written to", style="yellow")
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
