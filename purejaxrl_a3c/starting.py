"""Ctrl-C while the command line imports JAX, which takes seconds: one line rather than a traceback through JAX.

The package's ``__init__`` imports this before anything else, and `run.interrupts` takes over later. Other
programs that import the package are left alone.
"""

import os
import sys
from pathlib import Path
from types import TracebackType

_INTERRUPTED = 130  # what `run.interrupts` ends with too


def _is_command_line() -> bool:
    program = Path(sys.argv[0]).stem if sys.argv else ""
    # Python replaces -m by the path of the module only after it has imported the package.
    return program == "purejaxrl-a3c" or (program == "-m" and "purejaxrl_a3c" in sys.orig_argv)


def _end_with_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    sys.stderr.write("\ninterrupted\n")
    sys.stderr.flush()
    os._exit(_INTERRUPTED)


if _is_command_line():
    sys.excepthook = _end_with_one_line
