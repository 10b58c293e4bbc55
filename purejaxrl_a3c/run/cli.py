"""The command line: ``purejaxrl-a3c train [algorithm] [--option value ...]`` and ``purejaxrl-a3c envs [suite]``."""

import functools
import importlib.metadata
import operator
import os
import sys
from typing import Any, NoReturn

import jax
import tyro
from rich.console import Console

from purejaxrl_a3c import envs
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.run import quiet
from purejaxrl_a3c.run.algorithms import ALGORITHMS, DEFAULT
from purejaxrl_a3c.run.flags import flags_of, read_flags
from purejaxrl_a3c.run.session import Options, Request, join_processes, train

_INTERRUPTED = 130  # the exit status of a program ended by Ctrl-C
_USAGE = f"""usage: purejaxrl-a3c COMMAND

  train [ALGORITHM] [--OPTION VALUE ...]   train an agent and evaluate it; the default algorithm is {DEFAULT}
  train ALGORITHM --help                   every setting of an algorithm
  envs [SUITE]                             list the environments
  --version                                print the version

algorithms: {", ".join(ALGORITHMS)}
"""


def main(argv: list[str] | None = None) -> None:
    """Run the command line; the exit status is 2 for bad input and 130 after Ctrl-C.

    Args:
        argv: arguments without the program's name; those of the process if None.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    console = Console(stderr=True)
    try:
        if not argv or argv in (["-h"], ["--help"], ["help"]):
            print(_USAGE, end="")
        elif argv == ["--version"]:
            print(f"purejaxrl-a3c {importlib.metadata.version('purejaxrl-a3c')}, jax {jax.__version__}")
        elif argv[0] == "envs":
            print("\n".join(envs.list_names(*argv[1:2])))
        else:
            name, config, options = parse(argv)
            _cache_compilations()
            join_processes(options)
            train(name, config, options, Console(stderr=True, quiet=jax.process_index() > 0))
    except InputError as error:
        console.print(f"error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except Exception as error:  # a broken connection comes as one of several kinds
        if jax.process_count() == 1:
            raise
        _stop_one_process(error)


def parse(argv: list[str]) -> Request:
    """What the arguments ask for; exits with a message if they do not parse."""
    # An algorithm need not be named: options right after "train" are those of the default one.
    rest = argv[1:]
    if argv[:1] == ["train"] and (not rest or rest[0].startswith("-")) and rest not in (["-h"], ["--help"]):
        argv = ["train", DEFAULT, *rest]

    def train(algorithm: Any) -> tuple[str, dict[str, Any], Options]:
        """Train an agent and evaluate it."""
        return type(algorithm).__name__, *read_flags(algorithm)

    algorithms = (flags_of(name, config) for name, config in ALGORITHMS.items())
    train.__annotations__["algorithm"] = functools.reduce(operator.or_, algorithms)
    app = tyro.extras.SubcommandApp()
    app.command(train)
    name, values, options = app.cli(
        prog="purejaxrl-a3c",
        args=argv,
        description="Reinforcement-learning runs as pure functions.",
        config=(tyro.conf.OmitArgPrefixes,),
    )
    name = name.replace("_", "-")
    return Request(name, replace(ALGORITHMS[name], **values), options)


def _stop_one_process(error: Exception) -> NoReturn:
    # At once and without a traceback: JAX's own watchdog may end this process any moment.
    reason = (str(error).strip().splitlines() or [repr(error)])[0][:200]
    sys.stderr.write(
        f"\nerror: process {jax.process_index()} of {jax.process_count()} has to stop: {reason}\n"
        "If another process was lost, resume from the last checkpoint with --resume FOLDER.\n"
    )
    sys.stderr.flush()
    os._exit(1)  # a regular exit would wait for the lost process


def _cache_compilations() -> None:
    """Keep compiled programs between runs, in the user's cache folder."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(quiet.cache_folder()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
