"""What was asked for on the command line, and what an earlier run was asked for."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import flat, from_json
from purejaxrl_a3c.run import checkpoint
from purejaxrl_a3c.run.algorithms import ALGORITHMS
from purejaxrl_a3c.run.options import Options, from_record


class Earlier(NamedTuple):
    """An earlier run, as its last sound checkpoint describes it."""

    found: checkpoint.Found
    name: str  # of the algorithm
    config: Any
    options: Options


class Request(NamedTuple):
    """What was asked for."""

    name: str  # of the algorithm
    config: Any
    options: Options
    earlier: Earlier | None = None  # of the run to continue


def read_earlier(folder: Path, field: str = "resume") -> Earlier:
    """The run in ``folder``.

    Args:
        folder: of the run.
        field: that named the folder, for errors.

    Raises:
        InputError: if there is no sound checkpoint there, or it is not of a run that this program knows.
    """
    found = checkpoint.find(folder, field, or_start=field == "resume")
    record = checkpoint.read_record(found)
    name = record["algorithm"]
    if name not in ALGORITHMS:
        reject(field, str(folder), f"a run of one of {', '.join(ALGORITHMS)}, not of {name!r}")
    config = from_json(type(ALGORITHMS[name]), record["config"])
    return Earlier(found, name, config, from_record(record))


def check_resumed(request: Request) -> None:
    """Check that a resumed run is asked for nothing that would make it another run. More frames are accepted.

    Raises:
        InputError: naming the first setting that differs.
    """
    earlier = request.earlier
    assert earlier is not None
    run = earlier.found.folder
    if request.name != earlier.name:
        reject("algorithm", request.name, f"{earlier.name}, as in {run}")
    before = flat(earlier.config)
    for field, value in flat(request.config).items():
        if field != "total_frames" and value != before[field]:
            accepted = f"{before[field]!r}, as in {run}; a new run can --initialize-from it with other settings"
            reject(field, value, accepted)
    for field in ("seed", "num_seeds"):
        here, there = getattr(request.options, field), getattr(earlier.options, field)
        if here != there:
            reject(field, here, f"{there}, as in {run}")
    if request.options.initialize_from != earlier.options.initialize_from:
        given = str(request.options.initialize_from)
        reject("initialize_from", given, "left out: a resumed run has parameters of its own")
    if request.options.out is not None:
        reject("out", str(request.options.out), f"left out: a resumed run stays in its folder, {run}")


def read_config(path: Path) -> tuple[str, Any]:
    """The algorithm and the settings in a file that a run or a sweep has written.

    Raises:
        InputError: if it is no such file, or of an algorithm that this program does not know.
    """
    accepted = "the config.json of a run, or the best.json of a sweep"
    try:
        record = json.loads(path.read_text())
        name, settings = record["algorithm"], record["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reject("config", str(path), f"{accepted} ({type(error).__name__})")
    if name not in ALGORITHMS:
        reject("config", str(path), f"of one of {', '.join(ALGORITHMS)}, not of {name!r}")
    return name, from_json(type(ALGORITHMS[name]), settings)


def value_of(flag: str, argv: list[str]) -> str | None:
    """The value of a flag among arguments that are not parsed yet."""
    for before, argument in zip(["", *argv], [*argv, ""], strict=True):
        if before == flag:
            return argument
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None
