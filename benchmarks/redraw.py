"""Draw the figures again from the numbers in results/, after a change of their look: ``python -m benchmarks.redraw``.

Nothing is measured. A figure whose JSON does not hold all that it shows stays as it is.
"""

import importlib
import importlib.util
from typing import Annotated

import tyro

from benchmarks import record


def script_of(name: str) -> str:
    """The module that writes the result ``NAME``: speed for speed_cpu, claims.staleness for claims/staleness."""
    module = f"benchmarks.{name.replace('/', '.')}"
    while "_" in module and not importlib.util.find_spec(module):
        module = module.rpartition("_")[0]
    return module


def main(only: Annotated[str, tyro.conf.Positional] = "") -> None:
    """Draw figures again.

    Args:
        only: draw only those whose name, such as claims/staleness, contains this.
    """
    for path in sorted(record.RESULTS.rglob("*.png")):
        name = str(path.relative_to(record.RESULTS).with_suffix(""))
        if only in name:
            try:
                record.save_figure(name, importlib.import_module(script_of(name)).draw(record.load(name)))
            except KeyError as missing:
                print(f"{name}: left as it is, its JSON has no {missing}")


if __name__ == "__main__":
    tyro.cli(main)
