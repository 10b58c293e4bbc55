"""The settings that the package ships: of every algorithm and task those with the best result in the committed tables.

``python -m benchmarks.tuned`` writes them into the package. They are those of results/learning*.json, whose settings
were found on other seeds than they are reported on.
"""

import json
from typing import Any

from benchmarks import record
from benchmarks.suites import SUITES
from purejaxrl_a3c.config import flat, to_json
from purejaxrl_a3c.run import tuned
from purejaxrl_a3c.run.algorithms import ALGORITHMS


def collect():
    """Rows of `tuned.FILE`: by algorithm and environment."""
    found: dict[str, dict[str, Any]] = {}
    for suite, panels in SUITES.items():
        table = "learning" if suite == "defaults" else f"learning_{suite}"
        results = record.load(table).get("results", {})
        for task, curves in panels.items():
            for label, config in curves.items():
                name, row = label.lower().replace(" ", "-"), results.get(f"{label} {task}")
                if row is None or name not in ALGORITHMS or flat(config)["env_id"] != task:
                    continue  # not measured, one of several arms, or a task with a wrapper that makes it another one
                before = found.get(name, {}).get(task)
                if before and before["score"] >= row["interquartile_mean"]:
                    continue
                known = to_json(ALGORITHMS[name])
                settings = {key: value for key, value in to_json(config).items() if value != known.get(key)}
                new = {"settings": settings, "table": table, "score": row["interquartile_mean"]}
                found.setdefault(name, {})[task] = new
    return {name: dict(sorted(rows.items())) for name, rows in sorted(found.items())}


def main():
    """Write `tuned.FILE`."""
    tuned.FILE.write_text(json.dumps(collect(), indent=1) + "\n")


if __name__ == "__main__":
    main()
