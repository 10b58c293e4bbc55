"""What is asked for with ``purejaxrl-a3c sweep``."""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from purejaxrl_a3c.checks import check_count, reject
from purejaxrl_a3c.config import field_types, flat, parts, replace
from purejaxrl_a3c.config.fields import bare, options
from purejaxrl_a3c.run.algorithms import ALGORITHMS
from purejaxrl_a3c.run.flags import docstrings
from purejaxrl_a3c.run.sweep import grid
from purejaxrl_a3c.run.train import build

_USAGE = """usage: purejaxrl-a3c sweep ALGORITHM [--SETTING VALUES ...] [--OPTION VALUE ...]

A setting is given one or more values; all combinations are tried.
  --learning-rate 1e-4,1e-3          these
  --learning-rate log:1e-4:1e-2:8    8 of them, equally far apart in their logarithms; lin: equally far apart
  --hidden-sizes 64,64/128,128       several values of a setting that has several numbers

options:
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """How to sweep, whatever the algorithm."""

    seeds: int = 4
    """Runs of every point; the first has the key of the seed given with seed."""
    seed: int = 0
    """The first seed."""
    out: Path | None = None
    """Folder for the results, by default a new one in runs/. A folder of the same sweep is gone on with."""
    evaluation_episodes: int = 32
    """Whole episodes by which every run is judged."""
    batch_size: int = 0
    """Runs that are trained side by side; 0 chooses the number by measuring."""
    samples: int = 0
    """Try so many random combinations instead of all: a range log:A:B or lin:A:B is then drawn from."""
    halvings: int = 0
    """Drop the worse half of the points so often: at a half of the frames, a quarter, and so on."""
    json: bool = False
    """Print one last line of JSON on standard output."""


class Range(NamedTuple):
    """``log:A:B:N`` or ``lin:A:B:N``."""

    kind: Literal["log", "lin"]
    low: float
    high: float
    number: int | None  # of values

    def at(self, share: float | np.ndarray) -> np.ndarray:
        """Values at these shares of the way."""
        if self.kind == "lin":
            return np.asarray(self.low + share * (self.high - self.low))
        return np.exp(np.log(self.low) + share * (np.log(self.high) - np.log(self.low)))


class Request(NamedTuple):
    """What was asked for."""

    name: str  # of the algorithm
    config: Any  # with the settings that have one value
    points: list[dict[str, Any]]
    options: Options


def parse(argv: list[str]) -> Request:
    """What the arguments ask for.

    Raises:
        InputError: naming the argument.
    """
    name, *rest = argv
    if name not in ALGORITHMS:
        reject("algorithm", name, f"one of {', '.join(ALGORITHMS)}")
    base = ALGORITHMS[name]
    values: dict[str, list[Any] | Range] = {}
    given: dict[str, Any] = {}
    known = {field.name for field in dataclasses.fields(Options)}
    while rest:
        flag, *rest = rest
        field = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or (field not in known and field not in flat(base)):
            reject("argument", flag, "a setting of the algorithm or an option of sweep, beginning with --")
        if field == "json":
            given[field] = True
            continue
        if not rest:
            reject(field, "", "followed by a value")
        text, *rest = rest
        if field in known:
            given[field] = _option(field, text)
        else:
            values[field] = _values(base, field, text)
    options = Options(**given)
    for field, least in (("seeds", 1), ("evaluation_episodes", 1), ("batch_size", 0), ("samples", 0), ("halvings", 0)):
        check_count(field, getattr(options, field), least=least)
    fixed = {field: one[0] for field, one in values.items() if not isinstance(one, Range) and len(one) == 1}
    varied = {field: one for field, one in values.items() if field not in fixed}
    config = replace(base, **fixed)
    points = _draw(varied, options) if options.samples else grid({f: _all(f, one) for f, one in varied.items()})
    for point in points:
        build(replace(config, **point))
    return Request(name, config, points, options)


def _option(field: str, text: str) -> Any:
    kind = next(one for one in dataclasses.fields(Options) if one.name == field).type
    if field == "out":
        return Path(text)
    try:
        return int(text)
    except ValueError:
        return reject(field, text, f"an {getattr(kind, '__name__', kind)}")


def _values(config: Any, field: str, text: str) -> list[Any] | Range:
    """The values of a setting that a text names."""
    holder = next(one for one in (config, *parts(config).values()) if field in field_types(type(one)))
    annotation = field_types(type(holder))[field]
    kinds = [bare(option) for option in options(annotation)]
    head, *numbers = text.split(":")
    if head in ("log", "lin") and (float in kinds or int in kinds):
        return _range(field, text, head, numbers)
    tuples = [kind for kind in kinds if typing.get_origin(kind) is tuple]
    parts_of_text = text.split("/") if tuples else text.split(",")
    return [_value(field, one, kinds) for one in parts_of_text]


def _range(field: str, text: str, kind: Any, numbers: list[str]) -> Range:
    accepted = "log:A:B:N or lin:A:B:N, with numbers A < B and an int N >= 2; without N if samples are drawn"
    try:
        low, high = float(numbers[0]), float(numbers[1])
        count = int(numbers[2]) if len(numbers) > 2 else None
    except (ValueError, IndexError):
        return reject(field, text, accepted)
    if len(numbers) > 3 or not low < high or (kind == "log" and low <= 0) or (count is not None and count < 2):
        reject(field, text, accepted)
    return Range(kind, low, high, count)


def _value(field: str, text: str, kinds: list[Any]) -> Any:
    """One value of a setting of these types."""
    if type(None) in kinds and text.lower() == "none":
        return None
    for kind in kinds:
        origin = typing.get_origin(kind)
        if kind is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if origin is Literal and text in typing.get_args(kind):
            return text
        if kind in (int, float):
            try:
                number = float(text)
            except ValueError:
                continue
            if kind is float or number.is_integer():
                return kind(number)
        if origin is tuple:
            items = [one for one in text.split(",") if one]
            return tuple(_value(field, one, [bare(typing.get_args(kind)[0])]) for one in items)
    if str in kinds:
        return text
    names = [getattr(kind, "__name__", str(kind)) for kind in kinds if not isinstance(kind, types.NoneType)]
    literals = [str(value) for kind in kinds if typing.get_origin(kind) is Literal for value in typing.get_args(kind)]
    return reject(field, text, f"one of {', '.join(literals)}" if literals else " or ".join(names))


def _all(field: str, values: list[Any] | Range) -> list[Any]:
    if not isinstance(values, Range):
        return values
    if values.number is None:
        reject(
            field, f"{values.kind}:{values.low:g}:{values.high:g}", "given a number of values, as in log:1e-4:1e-2:8"
        )
    return [float(f"{value:.4g}") for value in values.at(np.linspace(0, 1, values.number))]


def _draw(varied: dict[str, list[Any] | Range], options: Options) -> list[dict[str, Any]]:
    """Random points."""
    rng = np.random.default_rng(options.seed)

    def one(values: list[Any] | Range) -> Any:
        if isinstance(values, Range):
            return float(f"{values.at(rng.uniform()):.4g}")
        return values[int(rng.integers(len(values)))]

    return [{field: one(values) for field, values in varied.items()} for _ in range(options.samples)]


def usage() -> str:
    """The help of the command."""
    lines = [_USAGE]
    for name, text in docstrings(Options).items():
        lines.append(f"  --{name.replace('_', '-'):22} {text}\n")
    return "".join(lines)
