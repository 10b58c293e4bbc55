"""The settings that the package ships: of every algorithm and task those with the best result in the committed tables.

``python -m benchmarks.tuned`` writes them into the package. They are those of results/learning*.json, whose settings
were found on other seeds than they are reported on.
"""

import json
from typing import Any

from benchmarks import record
from purejaxrl_a3c.config import from_json, to_json
from purejaxrl_a3c.run import tuned
from purejaxrl_a3c.run.algorithms import ALGORITHMS


def collect():
    """Rows of `tuned.FILE`: by algorithm and environment."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(record.RESULTS.glob("learning*.json")):
        for label, row in json.loads(path.read_text())["results"].items():
            algorithm, _, task = label.rpartition(" ")
            name = algorithm.lower().replace(" ", "-")
            if name not in ALGORITHMS or row["config"].get("env_id") != task:
                continue  # one of several arms, or a task with a wrapper that makes it another one
            settings = _settings(name, row["config"])
            before = found.get(name, {}).get(task)
            if settings is None or (before and before["score"] >= row["interquartile_mean"]):
                continue
            new = {"settings": settings, "table": path.stem, "score": row["interquartile_mean"]}
            found.setdefault(name, {})[task] = new
    return {name: dict(sorted(rows.items())) for name, rows in sorted(found.items())}


def _settings(name, config):
    """What of a row's config differs from the defaults; None if it has settings that are no more."""
    default = ALGORITHMS[name]
    known = to_json(default)
    if not config.keys() <= known.keys():
        return None
    whole = to_json(from_json(type(default), known | config))
    return {key: value for key, value in whole.items() if value != known.get(key) and key != "env_id"}


def main():
    """Write `tuned.FILE`."""
    tuned.FILE.write_text(json.dumps(collect(), indent=1) + "\n")


if __name__ == "__main__":
    main()
