"""The folder of a run: who owns it, and what describes the run."""

import contextlib
import importlib.metadata
import itertools
import json
import os
from pathlib import Path
from typing import Any

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import to_json

try:
    import fcntl
except ImportError:  # on Windows, where two processes that resume one run do not hear of each other
    fcntl = None  # type: ignore[assignment]

CONFIG = "config.json"
_RECORDED_PACKAGES = ("purejaxrl-a3c", "jax", "jaxlib", "flax", "optax", "gymnax")


def record(algorithm: str, config: Any, options: dict[str, Any]) -> dict[str, Any]:
    """A description of a run for JSON: the algorithm's name, how it runs, its settings, and the versions used."""
    return {
        "algorithm": algorithm,
        **options,
        "config": to_json(config),
        "versions": {name: importlib.metadata.version(name) for name in _RECORDED_PACKAGES},
    }


class RunFolder:
    """A folder that belongs to this process until it ends, or until `release`.

    Attributes:
        path: of the folder.
    """

    def __init__(self, path: Path, created: list[Path] | None, descriptor: int) -> None:
        """As `claim_new` and `claim_again` make it.

        Args:
            path: of the folder.
            created: folders that were made for a new run, the outermost first; None for an earlier run.
            descriptor: of its open ``config.json``, which is locked.
        """
        self.path = path
        self._created = created
        self._descriptor = descriptor

    def write_config(self, record: dict[str, Any]) -> None:
        """Write ``config.json``."""
        # In place: another file of this name would not be locked.
        text = (json.dumps(record, indent=2) + "\n").encode()
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, text)
        os.ftruncate(self._descriptor, len(text))

    def release(self) -> None:
        """Let others use the folder."""
        os.close(self._descriptor)

    def abandon(self) -> None:
        """Remove what was created, because the run ended before it had begun; an earlier run stays as it is."""
        self.release()
        if self._created is None:
            return
        with contextlib.suppress(OSError):  # others have put something into one of the folders
            (self.path / CONFIG).unlink()
            for path in reversed(self._created):
                path.rmdir()


def claim_new(path: Path | None, stem: str) -> RunFolder:
    """Create a folder, or take an empty one, for a new run. Nothing is overwritten.

    Args:
        path: of the folder; None: a new one in ``runs/``.
        stem: name of the new one; if there is one already, a number is put behind it.

    Raises:
        InputError: if it exists and is not an empty folder, or cannot be created.
    """
    found = path or unused(Path("runs") / stem)
    created = [one for one in (found, *found.parents) if not one.exists()][::-1]
    try:
        # In runs/ another process may have taken the same name by now.
        found.mkdir(parents=True, exist_ok=path is not None)
        if any(found.iterdir()):
            reject("out", str(found), "a new or empty folder")
        descriptor = os.open(found / CONFIG, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        if path is None and found.is_dir():
            return claim_new(path, stem)
        reject("out", str(found), "a new or empty folder")
    except OSError as error:
        reject("out", str(found), f"a folder that can be created; {error.strerror}")
    _lock(descriptor)
    return RunFolder(found, created, descriptor)


def claim_again(path: Path) -> RunFolder:
    """Take the folder of an earlier run.

    Raises:
        InputError: if another process is using it, or it cannot be written to.
    """
    try:
        descriptor = os.open(path / CONFIG, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        reject("resume", str(path), f"a folder that can be written to; {error.strerror}")
    if not _lock(descriptor):
        os.close(descriptor)
        reject("resume", str(path), "a folder that no other process is using; the run there has not ended")
    return RunFolder(path, None, descriptor)


def unused(path: Path, suffix: str = "") -> Path:
    """``path``, or with a number behind it if there is something of that name: ``path-2``, ``path-3``, ...

    Args:
        path: what it is to be called.
        suffix: the end of its name, before which the number stands.
    """
    stem = path.name.removesuffix(suffix)
    others = (path.with_name(f"{stem}-{number}{suffix}") for number in itertools.count(2))
    return next(one for one in itertools.chain([path], others) if not one.exists())


def _lock(descriptor: int) -> bool:
    """Lock an open file for this process; the system unlocks it when the process ends, however it does."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
