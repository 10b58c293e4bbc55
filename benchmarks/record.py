"""Saving of results, with the command, the versions, the machine and the commit that they were measured with."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from benchmarks.figures import DOTS_PER_INCH

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
"""The folder that results are written to; the tests write elsewhere."""
CHANGED = " with changes"
"""Ends the name of a commit if package or scripts are not as committed."""
PACKAGES = ("jax", "jaxlib", "flax", "optax", "gymnax", "numpy")


def describe() -> dict[str, Any]:
    """The circumstances of a measurement."""
    device = jax.devices()[0]
    return {
        "command": f"python -m {_module()}" + "".join(f" {x}" for x in sys.argv[1:]),
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "device": f"{device.platform}: {device.device_kind}",
        "processor": f"{_processor()}, {os.cpu_count()} cores",
    }


_CIRCUMSTANCES = {"command", "date", "commit", "python", "versions", "device", "processor", "measured"}


def save(
    name: str,
    data: dict[str, Any],
    table: str,
    circumstances: Iterable[dict[str, Any]] = (),
    draw: Callable[[dict[str, Any]], Figure] | None = None,
) -> None:
    """Write ``results/NAME.json``, everything measured, ``results/NAME.md``, the table for a reader, and a figure.

    Args:
        name: of the files.
        data: what to put into the JSON beside `describe`.
        table: Markdown.
        circumstances: what `describe` returned for each part of a table that took several runs; empty: this one run.
        draw: makes the figure ``results/NAME.png`` from what the JSON holds. An existing figure stays as it is if the
            measured numbers have not changed.
    """
    about, before, data = describe(), load(name), plain(data)
    path = RESULTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(to_json(about | data) + "\n")
    footers = dict.fromkeys(map(_footer, circumstances or [about]))  # each once, in order
    path.with_suffix(".md").write_text("\n".join([table, *footers]))
    if draw and (_without_circumstances(before) != _without_circumstances(data) or not _picture(name).exists()):
        save_figure(name, draw(data))
    print(table, flush=True)


def save_figure(name: str, figure: Figure) -> None:
    """Write ``results/NAME.png``."""
    # No version of matplotlib in the file, so that the same picture is the same bytes.
    figure.savefig(_picture(name), dpi=DOTS_PER_INCH, metadata={"Software": None})


def load(name: str) -> dict[str, Any]:
    """What `save` wrote to ``results/NAME.json`` before; empty if it is not there."""
    path = (RESULTS / name).with_suffix(".json")
    return json.loads(path.read_text()) if path.exists() else {}


def rows_of(name: str) -> dict[str, Any]:
    """The rows that ``save(NAME, {"results": rows}, ...)`` wrote before, by name."""
    return load(name).get("results", {})


def plain(value: Any) -> Any:
    """``value`` as JSON would give it back: arrays and tuples become lists, keys become strings."""
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return np.asarray(value).tolist()
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def to_json(value: Any, indent: str = "") -> str:
    """JSON with a line for each entry of an object, and with each list of numbers or strings on one line."""
    inner = indent + " "
    if isinstance(value, dict) and value:
        rows = [f"{inner}{json.dumps(key)}: {to_json(one, inner)}" for key, one in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(one, list | dict) for one in value):
        rows = [inner + to_json(one, inner) for one in value]
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    return json.dumps(value)


def spread(values: Any, digits: int = 0) -> str:
    """Median and range as text."""
    low, middle, high = np.percentile(values, [0, 50, 100])
    return f"{middle:,.{digits}f} ({low:,.{digits}f} - {high:,.{digits}f})"


def put_into_page(page: Path, name: str, text: str) -> None:
    """Replace what stands between ``<!-- NAME -->`` and ``<!-- end of NAME -->`` in a page."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = page.read_text().partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{page.name}: {begin.strip()!r} and {end!r} are not both there")
    page.write_text(before + begin + text + end + after)


def _picture(name: str) -> Path:
    return (RESULTS / name).with_suffix(".png")


def _without_circumstances(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_circumstances(one) for key, one in data.items() if key not in _CIRCUMSTANCES}
    return data


def _footer(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
    return (
        f"`{about['command']}`, {about['date']}, commit {about['commit']}; {about['processor']}; "
        f"{about['device']}; Python {about['python']}, {versions}.\n"
    )


def markdown_table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def _module() -> str:
    path = Path(sys.argv[0]).resolve().with_suffix("")
    parts = path.relative_to(ROOT).parts if path.is_relative_to(ROOT) else (path.name,)
    return ".".join(part for part in parts if part != "__main__")


def _commit() -> str:
    def git(*arguments: str) -> str:
        run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return run.stdout.strip()

    # Only the package and the scripts count: results of other scripts may have changed.
    changed = git("status", "--porcelain", "--", "purejaxrl_a3c", "benchmarks", ":!benchmarks/results")
    return git("rev-parse", "--short", "HEAD") + (CHANGED if changed else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())
