"""Checkpoints of a run, written and read by orbax: ``checkpoints/ITERATION`` in its folder.

A checkpoint holds the whole state and a record: the algorithm's name, its config, the seed and the versions used. The
state's arrays have the shapes that they have on one device, whatever devices wrote them, so a run may continue on other
devices. Digests of its files are written last. A checkpoint without them is unfinished and is ignored.
"""

import contextlib
import glob
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.run.folder import CONFIG, unused
from purejaxrl_a3c.run.quiet import quiet_orbax
from purejaxrl_a3c.types import State

_KEPT = 2  # the last one, and the one before in case the disk lost the last one
_DIGESTS = "digests.json"


@quiet_orbax()
def write(folder: Path, state: State, record: dict[str, Any]) -> None:
    """Write a checkpoint, all of it or nothing. On several processes all must call this; the folder must be shared.

    Args:
        folder: of the run.
        state: of an algorithm.
        record: a description of the run, see `folder.record`.
    """
    ocp = _orbax()
    with _manager(folder, max_to_keep=_KEPT, create=True) as manager:
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(_by_name(state)),
            record=ocp.args.JsonSave(record),
        )
        manager.save(int(state.iteration), args=args)
    if jax.process_index() == 0:
        step = _path(folder) / str(int(state.iteration))
        unfinished = step / f"{_DIGESTS}.unfinished"
        unfinished.write_text(json.dumps(_digests(step)))
        unfinished.rename(step / _DIGESTS)


class Found(NamedTuple):
    """The last checkpoint in a folder whose files are all as they were written."""

    folder: Path
    iteration: int  # 0: none was ever finished, and the run has to begin again
    damaged: dict[int, str]
    """Iterations of later checkpoints that are damaged, each with what is wrong there."""


def find(folder: Path, field: str = "resume", or_start: bool = False, latest: int | None = None) -> Found:
    """The last sound checkpoint in ``folder``. Nothing is changed.

    Args:
        folder: of a run.
        field: that named the folder, for the error.
        or_start: whether the start of a run will do that ended before its first checkpoint.
        latest: the iteration of the last one that counts; None: all do.

    Raises:
        InputError: if there is none.
    """
    finished = sorted(int(path.parent.name) for path in _path(folder).glob(f"*/{_DIGESTS}") if _is_step(path.parent))
    finished = [one for one in finished if latest is None or one <= latest]
    damaged: dict[int, str] = {}
    for iteration in reversed(finished):
        wrong = _damage(_path(folder) / str(iteration))
        if wrong is None:
            return Found(folder, iteration, damaged)
        damaged[iteration] = wrong
    if or_start and not damaged and (folder / CONFIG).is_file():
        return Found(folder, 0, {})
    accepted = "a folder with a finished checkpoint in checkpoints/"
    if damaged:
        what = "; ".join(f"checkpoints/{iteration}: {wrong}" for iteration, wrong in damaged.items())
        accepted = f"a folder with a checkpoint that is as it was written ({what})"
    for path in sorted(folder.glob(f"seed-*/{CONFIG}"))[:1]:
        accepted += f", such as {path.parent.name} in it"
    reject(field, str(folder), accepted)


def read_record(found: Found) -> dict[str, Any]:
    """The record of a checkpoint, or that of the start of the run.

    Raises:
        InputError: if it cannot be read, or lacks what every record has.
    """
    # Without orbax, which asks for devices: from then on JAX can no longer join other processes.
    where = f"checkpoints/{found.iteration}/record/metadata" if found.iteration else CONFIG
    try:
        record = json.loads((found.folder / where).read_text())
    except (OSError, ValueError):
        record = None
    missing = sorted({"algorithm", "seed", "config"} - record.keys()) if isinstance(record, dict) else ["all of it"]
    if missing:
        reject("resume", str(found.folder), f"a run of this program: {', '.join(missing)} is missing in {where}")
    return record


def set_aside(found: Found) -> None:
    """Move what is left of later checkpoints out of the way of new ones: ``checkpoints/N.damaged``.

    Only the process that owns the folder may call this. What was never finished is removed.
    """
    for path in list(_path(found.folder).glob("*")):
        if "orbax-checkpoint-tmp" in path.name or (_is_step(path) and not (path / _DIGESTS).exists()):
            shutil.rmtree(path)
        elif _is_step(path) and int(path.name) > found.iteration:
            path.rename(unused(path.with_name(f"{path.name}.damaged")))


@quiet_orbax()
def read_state(found: Found, types: State) -> State:
    """The state of a checkpoint.

    Args:
        found: the checkpoint.
        types: shapes, dtypes and shardings of the state's arrays: `CompiledRun.state`.

    Raises:
        InputError: if it is the state of something else. Nothing is changed.
    """
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    types = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding or here), types)
    wanted = _by_name(types)
    with _manager(found.folder, read_only=True) as manager:
        written = manager.item_metadata(found.iteration).state
    for name in sorted(wanted.keys() | written.keys()):
        there, asked = _type(written.get(name)), _type(wanted.get(name))
        if there != asked:
            reject("resume", str(found.folder), f"a run of this program: {name} is {there} there, {asked} here")
    arrays = _read(found, state=_orbax().args.StandardRestore(wanted)).state

    def fill(path: Any, leaf: Any) -> Any:
        return arrays[_name(path)] if leaf.size else jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)

    return jax.tree_util.tree_map_with_path(fill, types)


def _read(found: Found, **items: Any) -> Any:
    with _manager(found.folder, read_only=True) as manager:
        return manager.restore(found.iteration, args=_orbax().args.Composite(**items))


def _is_step(path: Path) -> bool:
    return path.name.isascii() and path.name.isdigit()


def _damage(step: Path) -> str | None:
    """What is wrong in the folder of a checkpoint, after a look at all its files; None: nothing."""
    try:
        written = json.loads((step / _DIGESTS).read_text())
    except (OSError, ValueError):
        written = None
    if not isinstance(written, dict) or not written:
        return f"{_DIGESTS} cannot be read"
    found = _digests(step)
    differ = sorted(name for name in found.keys() | written.keys() if written.get(name) != found.get(name))
    return f"{differ[0]} is not as it was written" if differ else None


def _digests(step: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by its path there."""
    files = [path for path in sorted(step.rglob("*")) if path.is_file() and not path.name.startswith(_DIGESTS)]
    return {str(path.relative_to(step)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _path(folder: Path) -> Path:
    return Path(folder).absolute() / "checkpoints"


@contextlib.contextmanager
def _manager(folder: Path, **settings: Any) -> Iterator[Any]:
    ocp = _orbax()
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False, **settings)
    handlers = {"state": ocp.StandardCheckpointHandler(), "record": ocp.JsonCheckpointHandler()}
    with (
        _without_wildcards(folder) as path,
        ocp.CheckpointManager(_path(path), options=options, item_handlers=handlers) as manager,
    ):
        yield manager


@contextlib.contextmanager
def _without_wildcards(folder: Path) -> Iterator[Path]:
    """A path of ``folder`` in which orbax, which searches its folders with patterns, does not find one."""
    if not glob.has_magic(str(folder.absolute())):
        yield folder
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        link = Path(temporary) / "run"
        link.symlink_to(folder.absolute(), target_is_directory=True)
        yield link


def _by_name(state: State) -> dict[str, Any]:
    """Arrays by their place in the tree. Empty ones, which the file format cannot hold, are left out."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {_name(path): leaf for path, leaf in leaves if leaf.size}


def _type(array: Any) -> str:
    return "missing" if array is None else f"{np.dtype(array.dtype).name} {tuple(array.shape)}"


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _orbax() -> Any:
    import orbax.checkpoint  # importing it takes a second, so only runs with checkpoints do

    return orbax.checkpoint
