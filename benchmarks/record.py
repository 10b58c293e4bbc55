"""What every result is saved with: the command, the versions, the machine and the commit."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "gymnax", "numpy")


def describe():
    """The circumstances of a measurement, as a dict of strings."""
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


def save(name, data, table, circumstances=None):
    """Write ``results/NAME.json``, everything measured, and ``results/NAME.md``, the table for a reader.

    Args:
        name: of the files.
        data: what to put into the JSON beside `describe`.
        table: Markdown.
        circumstances: what `describe` said for each part of a table that took several runs; None: this one run.
    """
    about = describe()
    (RESULTS / f"{name}.json").write_text(json.dumps(about | data, indent=1) + "\n")
    footers = dict.fromkeys(map(_footer, circumstances or [about]))  # each once, in order
    (RESULTS / f"{name}.md").write_text("\n".join([table, *footers]))
    print(table, flush=True)


def rows_of(name):
    """The rows that ``save(NAME, {"results": rows}, ...)`` wrote before, by name."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["results"] if path.exists() else {}


def spread(values, digits=0):
    """Median and range as text."""
    low, middle, high = np.percentile(values, [0, 50, 100])
    return f"{middle:,.{digits}f} ({low:,.{digits}f} - {high:,.{digits}f})"


def put_into_readme(name, text):
    """Replace what stands between ``<!-- NAME -->`` and ``<!-- end of NAME -->`` in the README."""
    path = RESULTS.parents[1] / "README.md"
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = path.read_text().partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"README.md: {begin.strip()!r} and {end!r} are not both there")
    path.write_text(before + begin + text + end + after)


def _footer(about):
    versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
    return (
        f"`{about['command']}`, {about['date']}, commit {about['commit']}; {about['processor']}; "
        f"{about['device']}; Python {about['python']}, {versions}.\n"
    )


def markdown_table(header, rows):
    """A Markdown table: the first column to the left, the others to the right."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def _module():
    path = Path(sys.argv[0]).resolve().with_suffix("")
    folder = Path(__file__).parents[1]
    parts = path.relative_to(folder).parts if path.is_relative_to(folder) else (path.name,)
    return ".".join(part for part in parts if part != "__main__")


def _commit():
    def git(*arguments):
        return subprocess.run(
            ["git", *arguments], cwd=RESULTS, capture_output=True, text=True, check=False
        ).stdout.strip()

    # What is measured is the package and the scripts: results of other scripts may lie about.
    changed = git("status", "--porcelain", "--", "../../purejaxrl_a3c", "..", ":!.")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())
