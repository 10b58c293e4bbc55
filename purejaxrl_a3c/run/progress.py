"""The progress of a run on the screen, and its metrics and learning curve on disk."""

import time
from pathlib import Path
from types import TracebackType

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from purejaxrl_a3c.run.chunks import CompiledRun
from purejaxrl_a3c.run.metrics_file import MetricsFile
from purejaxrl_a3c.run.plots import plot_learning_curve
from purejaxrl_a3c.types import Metrics


class RunProgress:
    """A context in which a run's chunks are shown and written; at its end the learning curve is drawn.

    Attributes:
        metrics: all metrics ``[I]`` after the end, those before a checkpoint among them; None if there are none.
        trained: frames trained in this context.
    """

    def __init__(self, run: CompiledRun, file: MetricsFile | None, out: Path, title: str, console: Console) -> None:
        """Prepare.

        Args:
            run: the run.
            file: for its metrics; None in a process that does not write.
            out: folder of the learning curve.
            title: of the learning curve.
            console: where to show progress.
        """
        self.metrics: Metrics | None = None
        self.trained = 0
        self._run, self._file, self._out, self._title = run, file, out, title
        self._seen = [file.before] if file is not None and len(file.before.frames) else []
        self._progress = Progress(
            TextColumn("{task.percentage:3.0f}%"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} frames  {task.fields[rate]:,.0f}/s  return {task.fields[score]}"),
            TimeRemainingColumn(),
            console=console,
        )
        total = run.iterations * run.frames_per_iteration
        self._task = self._progress.add_task("train", total=total, rate=0, score="-")
        self._started = time.perf_counter()

    def __enter__(self) -> "RunProgress":
        """Show the bar."""
        self._started = time.perf_counter()
        self._progress.start()
        return self

    def add(self, metrics: Metrics) -> None:
        """Show and write the metrics of one more chunk."""
        self._seen.append(metrics)
        if self._file is not None:
            self._file.append(metrics)
        self.trained += len(metrics.frames) * self._run.frames_per_iteration
        rate = self.trained / (time.perf_counter() - self._started)
        completed, score = int(metrics.frames[-1]), _recent_return(self._seen)
        self._progress.update(self._task, completed=completed, rate=rate, score=score)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file and draw the learning curve, however the run ended."""
        self._progress.stop()
        if self._file is not None:
            self._file.close()
        if self._seen:
            self.metrics = jax.tree.map(lambda *columns: np.concatenate(columns), *self._seen)
            if self._file is not None:
                plot_learning_curve(self._out / "learning_curve.png", self._title, self.metrics)


def _recent_return(chunks: list[Metrics]) -> str:
    """Mean return of the episodes that ended in the last few chunks."""
    episodes = sum(int(chunk.episodes.sum()) for chunk in chunks[-5:])
    total = sum(float(chunk.return_sum.sum()) for chunk in chunks[-5:])
    return f"{total / episodes:.1f}" if episodes else "-"
