"""The command line: ``purejaxrl-a3c train [algorithm] [--option value ...]``."""

import dataclasses
import functools
import operator
import os
import sys
from pathlib import Path
from typing import Annotated

import jax
import tyro
from rich.console import Console

from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.run.session import ALGORITHMS, DEFAULT, Options, join_processes, train

_INTERRUPTED = 130  # the exit status of a program ended by Ctrl-C


def main(argv=None):
    """Run the command line; the exit status is 2 for bad input and 130 after Ctrl-C.

    Args:
        argv: arguments without the program's name; those of the process if None.
    """
    console = Console(stderr=True)
    try:
        name, config, options = parse(sys.argv[1:] if argv is None else list(argv))
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
        # At once and without a traceback: JAX's own watchdog may end this process any moment.
        reason = (str(error).strip().splitlines() or [repr(error)])[0][:200]
        sys.stderr.write(
            f"\nerror: process {jax.process_index()} of {jax.process_count()} has to stop: {reason}\n"
            "If another process was lost, go on from the last checkpoint with --resume FOLDER.\n"
        )
        sys.stderr.flush()
        os._exit(1)  # a regular exit would wait for the lost process


def parse(argv):
    """``(algorithm's name, its Config, Options)`` from the arguments; exits with a message if they do not parse."""
    # An algorithm need not be named: options right after "train" are those of the default one.
    rest = argv[1:]
    if argv[:1] == ["train"] and (not rest or rest[0].startswith("-")) and rest not in (["-h"], ["--help"]):
        argv = ["train", DEFAULT, *rest]

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
