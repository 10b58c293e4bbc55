"""The folder of a run: who owns it, and what describes the run."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import to_json

_RECORDED_PACKAGES = ("purejaxrl-a3c", "jax", "jaxlib", "flax", "optax", "gymnax")


def make_folder(path: str | Path) -> Path:
    """Create the folder ``path``, with its parents. Nothing is overwritten.

    Raises:
        InputError: if it exists and is not an empty folder, or cannot be created.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reject("out", str(path), f"a folder that can be created; {error.strerror}")
    if any(path.iterdir()):
        reject("out", str(path), "a new or empty folder")
    return path


def record(algorithm: str, config: Any, seed: int) -> dict[str, Any]:
    """A description of a run for JSON: the algorithm's name, its settings, the seed and the versions used."""
    return {
        "algorithm": algorithm,
        "seed": seed,
        "config": to_json(config),
        "versions": {name: importlib.metadata.version(name) for name in _RECORDED_PACKAGES},
    }


def write_config(folder: Path, record: dict[str, Any]) -> None:
    """Write ``config.json``."""
    (folder / "config.json").write_text(json.dumps(record, indent=2) + "\n")
