"""``metrics.csv``: one row an iteration, one column a metric."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from purejaxrl_a3c.run.folder import unused
from purejaxrl_a3c.types import Metrics

_EPISODES = ("episode_return", "episode_length")  # their cells are empty where no episode ended


def columns(metrics: Metrics) -> dict[str, np.ndarray]:
    """The columns of `Metrics` of arrays ``[I]`` by name: what every run has, then the losses by name."""
    every_run = {name: getattr(metrics, name) for name in ("frames", "episodes", *_EPISODES)}
    return {name: np.asarray(values) for name, values in (every_run | dict(sorted(metrics.losses.items()))).items()}


def read_columns(folder: Path) -> dict[str, np.ndarray]:
    """The columns by name of a run's ``metrics.csv``, ``[rows]``; empty if it cannot be read."""
    try:
        with (folder / "metrics.csv").open(newline="") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError, csv.Error):
        return {}
    numbers = np.array([[float(x or "nan") for x in row] for row in rows if _is_whole(row, len(header))])
    return dict(zip(header, numbers.reshape(-1, len(header)).T, strict=True))


class MetricsFile:
    """The file ``metrics.csv`` of a run, on disk after every chunk.

    Attributes:
        before: `Metrics` ``[I]`` of the iterations that were in the file already.
        lost: what is missing of them, as a sentence; empty if nothing is.
    """

    def __init__(self, folder: Path, losses: list[str], frames: int | None = None) -> None:
        """Create the file with its header; or, with ``frames``, continue after the row of so many.

        Rows after that one are dropped: the run that is resumed makes the same rows again. A file that lacks rows is
        continued all the same, and kept under another name.

        Args:
            folder: of the run.
            losses: names in `Metrics.losses`.
            frames: of the checkpoint that the run is resumed from, or None.
        """
        path = folder / "metrics.csv"
        self._names = ["frames", "episodes", *_EPISODES, *sorted(losses)]
        rows = [] if frames is None else _read_rows(path, self._names, frames)
        self.lost = "" if frames is None else _set_aside_if_incomplete(path, rows, frames)
        unfinished = folder / "metrics.csv.unfinished"
        with unfinished.open("w", newline="") as file:
            csv.writer(file).writerows([self._names, *rows])
        if frames is None and path.exists():
            raise FileExistsError(path)
        unfinished.rename(path)
        self.before = _to_metrics(self._names, rows)
        self._file = path.open("a", newline="")
        self._writer = csv.writer(self._file)

    def append(self, metrics: Metrics) -> None:
        """Write the rows of ``metrics``, every field ``[iterations]``."""
        texts = {name: values.tolist() for name, values in columns(metrics).items()}
        for name in _EPISODES:
            texts[name] = ["" if ended == 0 else x for x, ended in zip(texts[name], texts["episodes"], strict=True)]
        self._writer.writerows(zip(*(texts[name] for name in self._names), strict=True))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _read_rows(path: Path, names: list[str], frames: int) -> list[list[str]]:
    """The whole rows up to that of so many frames."""
    try:
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError, csv.Error):
        return []
    return [row for row in rows if header == names and _is_whole(row, len(names)) and int(row[0]) <= frames]


def _is_whole(row: list[str], length: int) -> bool:
    try:
        return len(row) == length and [float(x or "nan") for x in row] != [] and int(row[0]) > 0
    except ValueError:
        return False


def _set_aside_if_incomplete(path: Path, rows: list[list[str]], frames: int) -> str:
    """Keep a copy of a file of which rows are missing; the sentence that says so."""
    step = int(rows[0][0]) if rows else 0
    if frames == 0:
        return ""
    if rows and [int(row[0]) for row in rows] == list(range(step, frames + 1, step)):
        return ""
    kept = ""
    if path.exists():
        other = unused(path.with_name("metrics.csv.damaged"))
        shutil.copyfile(path, other)
        kept = f"; the file as it was is {other}"
    return f"{path} lacks rows up to frame {frames:,}: it goes on from {len(rows):,} whole rows{kept}"


def _to_metrics(names: list[str], rows: list[list[str]]) -> Metrics:
    numbers = np.array([[float(x or "nan") for x in row] for row in rows]).reshape(-1, len(names)).T
    values = dict(zip(names, numbers, strict=True))
    frames, episodes, returns, lengths = (values.pop(name) for name in ("frames", "episodes", *_EPISODES))
    return_sum, length_sum = (np.where(episodes > 0, x * episodes, 0.0) for x in (returns, lengths))
    arrays: Any = (frames, episodes, return_sum, length_sum, values)
    return Metrics(*arrays)
