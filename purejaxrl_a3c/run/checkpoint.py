"""Checkpoints of a run, written and read by orbax: ``checkpoints/ITERATION`` in its folder.

A checkpoint holds the whole state and a record: the algorithm's name, its config, the seed and the versions used. The
state's arrays have the shapes that they have on one device, whatever devices wrote them, so a run may continue on other
devices. Digests of its files are written last. A checkpoint without them is unfinished and is ignored.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.checks import reject
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


@quiet_orbax()
def read_record(folder: Path) -> dict[str, Any]:
    """The record of the last checkpoint in ``folder``.

    Raises:
        InputError: if there is none, or it cannot be read. Nothing is changed.
    """
    return _read(folder, _last_whole(folder), record=_orbax().args.JsonRestore()).record


@quiet_orbax()
def read_state(folder: Path, types: State) -> State:
    """The state of the last checkpoint in ``folder``.

    Args:
        folder: of the run.
        types: shapes, dtypes and shardings of the state's arrays: `CompiledRun.state`.

    Raises:
        InputError: if there is none, it cannot be read, or it is the state of something else. Nothing is changed.
    """
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    types = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding or here), types)
    wanted, last = _by_name(types), _last_whole(folder)
    with _manager(folder, read_only=True) as manager:
        found = manager.item_metadata(last).state
    for name in sorted(wanted.keys() | found.keys()):
        there, asked = _type(found.get(name)), _type(wanted.get(name))
        if there != asked:
            reject("resume", str(folder), f"a run of this program: {name} is {there} there, {asked} here")
    arrays = _read(folder, last, state=_orbax().args.StandardRestore(wanted)).state

    def fill(path: Any, leaf: Any) -> Any:
        return arrays[_name(path)] if leaf.size else jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)

    return jax.tree_util.tree_map_with_path(fill, types)


def _read(folder: Path, step: int, **items: Any) -> Any:
    with _manager(folder, read_only=True) as manager:
        return manager.restore(step, args=_orbax().args.Composite(**items))


def _last_whole(folder: Path) -> int:
    """The last iteration of which there is a checkpoint, after a look at all its files."""
    steps = [int(path.parent.name) for path in _path(folder).glob(f"[0-9]*/{_DIGESTS}") if path.parent.name.isdigit()]
    if not steps:
        reject("resume", str(folder), "a folder with a finished checkpoint in checkpoints/")
    step = _path(folder) / str(max(steps))
    try:
        written = json.loads((step / _DIGESTS).read_text())
    except ValueError:
        written = None
    found = _digests(step)
    if written != found:
        differ = [
            name for name in found.keys() | (written or {}).keys() if (written or {}).get(name) != found.get(name)
        ]
        accepted = (
            f"a folder whose last checkpoint, checkpoints/{max(steps)}, is as it was written; {min(differ)} is not"
        )
        reject("resume", str(folder), accepted)
    return max(steps)


def _digests(step: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by its path there."""
    files = [path for path in sorted(step.rglob("*")) if path.is_file() and not path.name.startswith(_DIGESTS)]
    return {str(path.relative_to(step)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _path(folder: Path) -> Path:
    return Path(folder).absolute() / "checkpoints"


def _manager(folder: Path, **settings: Any) -> Any:
    ocp = _orbax()
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False, **settings)
    handlers = {"state": ocp.StandardCheckpointHandler(), "record": ocp.JsonCheckpointHandler()}
    return ocp.CheckpointManager(_path(folder), options=options, item_handlers=handlers)


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
