"""Runs that cannot go on because memory or the disk does not suffice."""

import contextlib
from collections.abc import Iterator


class Stopped(Exception):
    """A run that could not go on, with a message for the user."""


@contextlib.contextmanager
def explained(kept: str) -> Iterator[None]:
    """Turn errors of a full disk or memory into a line that ends with what was kept.

    Raises:
        Stopped: for such an error.
    """
    try:
        yield
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise Stopped(f"{error.strerror or error}{where}; {kept}") from error
    except (MemoryError, RuntimeError, ValueError) as error:
        # XLA and orbax have errors of several kinds for these.
        lines = [line for line in str(error).splitlines() if any(sign in line for sign in _EXHAUSTED)]
        if not lines and not isinstance(error, MemoryError):
            raise
        raise Stopped(f"{(lines or ['out of memory'])[0].strip()[:300]}; {kept}") from error


_EXHAUSTED = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory", "No space left", "Disk quota exceeded")
