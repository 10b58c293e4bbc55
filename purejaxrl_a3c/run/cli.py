"""The command line: ``purejaxrl-a3c COMMAND ...``, see ``--help``."""

import contextlib
import importlib.metadata
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import jax
from rich.console import Console

from purejaxrl_a3c import envs
from purejaxrl_a3c.backend.compiling import compute_where_called
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.run import quiet
from purejaxrl_a3c.run.algorithms import ALGORITHMS, DEFAULT
from purejaxrl_a3c.run.arguments import (
    parse_compare,
    parse_doctor,
    parse_evaluate,
    parse_export,
    parse_train,
    parse_watch,
)
from purejaxrl_a3c.run.compare import compare
from purejaxrl_a3c.run.doctor import doctor
from purejaxrl_a3c.run.export import export_policy
from purejaxrl_a3c.run.folder import unused
from purejaxrl_a3c.run.interrupts import Interrupts
from purejaxrl_a3c.run.join import join_processes
from purejaxrl_a3c.run.load import load
from purejaxrl_a3c.run.prepare import check_platform
from purejaxrl_a3c.run.progress import say, waiting
from purejaxrl_a3c.run.recording import check_output
from purejaxrl_a3c.run.session import DIVERGED, evaluate_runs, train
from purejaxrl_a3c.run.stopped import Stopped
from purejaxrl_a3c.run.sweep_command import sweep_command
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
        request = parse_train(argv)
        if is_outside(request.config):
            compute_where_called()
        with _cached_compilations(console):
            join_processes(request.options)
            interrupts.listen()  # JAX's runtime for several processes takes SIGTERM for itself
            check_platform()
            return train(request, Console(stderr=True, quiet=jax.process_index() > 0), interrupts)
    return 0


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
