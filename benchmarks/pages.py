"""The generated parts of the pages about the algorithms: their settings, and what of them was measured.

``python -m benchmarks.pages`` writes them into docs/algorithms: the settings from the configs, the rows from the tables
results/learning*. All else in these pages is written by hand.
"""

import dataclasses
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from benchmarks import record
from benchmarks.learning import SAMPLED
from benchmarks.suites import SUITES
from purejaxrl_a3c import envs, networks, ppo, td3
from purejaxrl_a3c.config import is_config
from purejaxrl_a3c.run.algorithms import ALGORITHMS
from purejaxrl_a3c.run.flags import docstrings
from purejaxrl_a3c.updates import Asynchrony, Queue, Service

FOLDER = record.ROOT / "docs" / "algorithms"
PAGES: dict[str, Any] = {
    name.replace("-", "_"): config for name, config in ALGORITHMS.items() if not name.startswith("rnd-")
}
"""Name of a page to the default settings of its algorithm; RND has one page, whatever its agent."""
HOMES: dict[type, str] = dict.fromkeys((envs.Config, envs.Wrappers, networks.BodyConfig), "guide") | {
    networks.Config: "a2c",
    Asynchrony: "a3c",
    Service: "a3c",
    Queue: "impala",
    ppo.Config: "ppo",
    td3.Config: "td3",
}
"""Parts of configs that one page lists in full; the others list only those of their settings whose defaults differ."""
DETAILS = '\nNumbers in brackets: "The 37 implementation details of PPO" (Huang et al. 2022, ICLR blog track).\n'
NOTHING = "No row of the [tables of learning](../../benchmarks/learning.md) is of this algorithm.\n"


def settings_of(page: str, config: Any, usual: Any = None) -> Iterator[tuple[str, Any, str]]:
    """Name, default and text of the settings that a page lists.

    Args:
        page: its name, a key of `PAGES`.
        config: the settings, or a part of them.
        usual: settings of the same class; those with the same values are left out. None: none is.
    """
    texts = docstrings(type(config))
    for field in dataclasses.fields(config):
        value, before = getattr(config, field.name), getattr(usual, field.name, None)
        if is_config(value):
            home = HOMES.get(type(value))
            if home == page or type(before) is not type(value):
                before = type(value)() if home not in (None, page) else None
            yield from settings_of(page, value, before)
        elif usual is None or value != before:
            yield field.name, value, texts[field.name]


def settings_table(page: str) -> str:
    """The table of an algorithm's settings."""
    table = "| setting | default | what it is |\n| --- | --- | --- |\n"
    for name, value, text in settings_of(page, PAGES[page]):
        default = f"{value:,}" if type(value) is int else str(value)
        table += f"| `{name}` | {default} | " + text.replace("|", "\\|") + " |\n"
    return table + DETAILS * bool(re.search(r"\[\d+\]", table))


class Rows(NamedTuple):
    """What one of the tables of learning has of an algorithm."""

    conditions: str  # of the measurement
    lines: list[str]  # the head of the table and the algorithm's rows, as they stand there
    source: str  # where that is, and the command that measures it


def rows_of(page: str) -> Iterator[Rows]:
    """What the tables of learning have of an algorithm."""
    for suite, end in ((suite, end) for suite in SUITES for end in ("", SAMPLED)):
        name = ("learning" if suite == "defaults" else f"learning_{suite}") + end
        found, commands = record.load(name), {}
        for title, configs in SUITES[suite].items():
            for label, config in configs.items():
                row = found.get("results", {}).get(f"{label} {title}")
                if row is not None and type(config) is type(PAGES[page]):
                    command = row.get("measured", found)["command"]
                    commands[f"| {label} on {title} |"] = re.sub(" --only .*?(?= --|$)", "", command)
        if commands:
            lines = re.findall(r"^\|.*\n", (record.RESULTS / f"{name}.md").read_text(), re.MULTILINE)
            actions = "sampled actions" if end else "the most probable action"
            yield Rows(
                f"{len(found['seeds'])} seeds, each evaluated on {found['episodes']} whole episodes with {actions}",
                lines[:2] + [line for line in lines if line.startswith(tuple(commands))],
                f"[{name}](../../benchmarks/results/{name}.md) (`{'`, `'.join(dict.fromkeys(commands.values()))}`)",
            )


def measured(page: str) -> str:
    """The rows of an algorithm in the tables of learning, and where they come from."""
    groups: dict[str, list[Rows]] = {}
    for rows in rows_of(page):
        groups.setdefault(rows.conditions, []).append(rows)
    parts = []
    for conditions, group in groups.items():
        table = "".join(group[0].lines[:2] + [line for rows in group for line in rows.lines[2:]])
        sources = f"From {', '.join(rows.source for rows in group)}."
        sources = textwrap.fill(sources, 125, break_long_words=False, break_on_hyphens=False)
        parts.append(f"Interquartile means over {conditions}:\n\n{table}\n{sources}\n")
    return "\n".join(parts) or NOTHING


def page_text(page: str) -> str:
    """A page with its generated parts anew."""
    text = (FOLDER / f"{page}.md").read_text()
    for name, part in (("settings", settings_table(page)), ("measured", measured(page))):
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        _, found, after = rest.partition("<!-- end -->\n")
        if not found:
            raise ValueError(f"{page}.md: needs the line <!-- {name} --> and, below it, the line <!-- end -->")
        text = f"{before}<!-- {name} -->\n{part}<!-- end -->\n{after}"
    return text


def main(out: Path = FOLDER) -> None:
    """Write all pages.

    Args:
        out: folder that they are written to.
    """
    for page in PAGES:
        (out / f"{page}.md").write_text(page_text(page))


if __name__ == "__main__":
    tyro.cli(main)
