"""``evaluations.csv``: how good the policy was while it was trained."""

import csv
import math
from pathlib import Path

import numpy as np

_COLUMNS = ("frames", "return_mean", "return_std", "episodes")


class Evaluations:
    """The evaluations of a run, in a file of its folder, one row each."""

    def __init__(self, folder: Path, frames: int | None) -> None:
        """Begin, or go on after so many frames; later rows are dropped, as the run makes them again.

        Args:
            folder: of the run.
            frames: of the checkpoint that the run is resumed from, or None.
        """
        self._path = folder / "evaluations.csv"
        self._rows = [] if frames is None else [row for row in read_evaluations(folder) if row[0] <= frames]
        unfinished = self._path.with_name("evaluations.csv.unfinished")
        with unfinished.open("w", newline="") as file:
            csv.writer(file).writerows([_COLUMNS, *self._rows])
        unfinished.rename(self._path)

    def add(self, frames: int, returns: np.ndarray) -> bool:
        """Write down an evaluation; whether its mean is larger than all before."""
        row = frames, float(returns.mean()), float(returns.std()), len(returns)
        before = max((mean for _, mean, *_ in self._rows if math.isfinite(mean)), default=-math.inf)
        self._rows.append(row)
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow(row)
        return math.isfinite(row[1]) and row[1] > before


def read_evaluations(folder: Path) -> list[tuple[int, float, float, int]]:
    """The rows of a run's file; a row that is not whole is left out."""
    found = []
    try:
        with (folder / "evaluations.csv").open(newline="") as file:
            for row in list(csv.reader(file))[1:]:
                try:
                    frames, mean, std, episodes = row
                    found.append((int(frames), float(mean), float(std), int(episodes)))
                except ValueError:
                    continue
    except OSError:
        return []
    return found
