"""``purejaxrl-a3c doctor``: what is installed here, and whether it works."""

import contextlib
import importlib.metadata
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
from packaging.requirements import Requirement  # comes with matplotlib

from purejaxrl_a3c.envs.suites import gymnasium
from purejaxrl_a3c.run import quiet
from purejaxrl_a3c.run.canaries import CANARIES
from purejaxrl_a3c.run.env_checks import Check, check_env, check_outside_env
from purejaxrl_a3c.run.memory import readable

PACKAGES = ("purejaxrl-a3c", "jax", "jaxlib", "flax", "optax", "chex", "orbax-checkpoint", "gymnax", "numpy")


def doctor(env_id: str | None = None, env_kwargs: dict[str, Any] | None = None) -> int:
    """Print what is installed here and whether JAX computes rightly, or what is wrong with an environment.

    Args:
        env_id: the environment; None: about this machine.
        env_kwargs: arguments for what makes the environment, by name.

    Returns:
        The exit status: 1 if something is wrong.
    """
    if env_id is not None:
        outside = env_id.partition("/")[0] in gymnasium.PREFIXES
        return _print((check_outside_env if outside else check_env)(env_id, env_kwargs))
    print("\n".join(_about()))
    return _print(Check(name, "" if right() else "other numbers than NumPy's") for name, right in CANARIES.items())


def _print(checks: Iterable[Check]) -> int:
    status = 0
    for name, wrong, note in checks:
        status = 1 if wrong else status
        text = f"{name}: {wrong or note}" if wrong or note else name
        print(f"{'wrong' if wrong else 'ok':6} {text}", flush=True)
    return status


def _about() -> Iterator[str]:
    yield f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    yield f"extras: {', '.join(sorted(extras())) or 'none'}"
    devices = jax.devices()
    yield f"devices: {len(devices)} x {devices[0].device_kind}, backend {jax.default_backend()}"
    folder = Path(jax.config.values["jax_compilation_cache_dir"] or quiet.cache_folder())
    yield f"compiled programs: {readable(_size(folder))} in {folder}"


def extras() -> list[str]:
    """The extras of this package that are installed, those of their packages included."""
    names = importlib.metadata.metadata("purejaxrl-a3c").get_all("Provides-Extra") or ()
    return [name for name in names if name != "dev" and all(map(_installed, _needed("purejaxrl-a3c", name)))]


def _needed(package: str, extra: str) -> list[Requirement]:
    lines = importlib.metadata.requires(package) or ()
    marked = [(one, one.marker) for one in map(Requirement, lines) if one.marker is not None]
    return [one for one, m in marked if m.evaluate({"extra": extra}) and not m.evaluate({"extra": ""})]


def _installed(requirement: Requirement) -> bool:
    try:
        importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return all(_installed(one) for extra in requirement.extras for one in _needed(requirement.name, extra))


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # others may be writing there
            total += path.stat().st_size if path.is_file() else 0
    return total
