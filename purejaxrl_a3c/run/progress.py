"""The progress of a run on the screen, and its metrics and learning curve on disk."""

import contextlib
import datetime
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from purejaxrl_a3c.run.chunks import CompiledRun
from purejaxrl_a3c.run.loggers import Logger, means
from purejaxrl_a3c.run.metrics_file import MetricsFile
from purejaxrl_a3c.run.plots import plot_learning_curve
from purejaxrl_a3c.types import Metrics

FIRST_LINE_SECONDS = 10.0
"""When a log gets its first line of progress; each pause is twice the one before, up to `_LONGEST_PAUSE`."""
_LONGEST_PAUSE = 600.0
_MOST_WARNINGS = 3


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print a line as it is: paths are neither broken nor read as markup."""
    with contextlib.suppress(OSError):  # a terminal that was closed must not cost the run its checkpoint
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def waiting(console: Console, what: str) -> Iterator[None]:
    """Say what is being waited for, and for how long: on a terminal at once, in a log after a while."""
    if console.is_terminal:
        with Progress(SpinnerColumn(), TextColumn(what), TimeElapsedColumn(), console=console, transient=True) as bar:
            bar.add_task(what, total=None)
            yield
        return
    ended = threading.Event()

    def tell() -> None:
        pause = total = FIRST_LINE_SECONDS
        while not ended.wait(pause):
            say(console, f"{what}, for {total:.0f} s so far")
            pause = min(2 * pause, _LONGEST_PAUSE)
            total += pause

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


class RunProgress:
    """A context in which a run's chunks are shown and written; at its end the learning curve is drawn.

    On a terminal there is a bar. In a file there is a line now and then, since a bar would not be seen there.

    Attributes:
        metrics: all metrics ``[I]`` after the end, those before a checkpoint among them; None if there are none.
        trained: frames trained in this context.
        not_finite: names of the reports that are not finite in the last iteration.
    """

    def __init__(
        self,
        run: CompiledRun,
        file: MetricsFile | None,
        out: Path,
        title: str,
        console: Console,
        loggers: Sequence[Logger] = (),
    ) -> None:
        """Prepare.

        Args:
            run: the run.
            file: for its metrics; None in a process that does not write.
            out: folder of the learning curve.
            title: of the learning curve.
            console: where to show progress.
            loggers: get a mean of every chunk.
        """
        self.metrics: Metrics | None = None
        self.trained = 0
        self.not_finite: list[str] = []
        self._run, self._file, self._out, self._title, self._console = run, file, out, title, console
        self._loggers = loggers
        self._seen = [file.before] if file is not None and len(file.before.frames) else []
        self._warnings = 0
        self._bar = Progress(
            TextColumn("{task.percentage:3.0f}%"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} frames  {task.fields[rate]:,.0f}/s  return {task.fields[score]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._total = run.iterations * run.frames_per_iteration
        self._task = self._bar.add_task("train", total=self._total, rate=0, score="-")
        self._started, self._pause, self._next_line = 0.0, FIRST_LINE_SECONDS, 0.0

    def __enter__(self) -> "RunProgress":
        """Show the bar."""
        self._started = time.perf_counter()
        self._next_line = self._started + self._pause
        self._bar.start()
        return self

    def add(self, metrics: Metrics) -> None:
        """Show and write the metrics of one more chunk."""
        self._seen.append(metrics)
        if self._file is not None:
            self._file.append(metrics)
        self.log(int(metrics.frames[-1]), means(metrics))
        self.trained += len(metrics.frames) * self._run.frames_per_iteration
        now = time.perf_counter()
        rate = self.trained / (now - self._started)
        completed, score = int(metrics.frames[-1]), _recent_return(self._seen)
        self._bar.update(self._task, completed=completed, rate=rate, score=score)
        if not self._console.is_terminal and now >= self._next_line:
            left = datetime.timedelta(seconds=round((self._total - completed) / rate))
            share = f"{100 * completed / self._total:3.0f}%  {completed:,} of {self._total:,} frames"
            say(self._console, f"{share}  {rate:,.0f}/s  return {score}  {left} left")
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._next_line = now + self._pause
        self._warn(metrics)

    def log(self, frames: int, values: dict[str, float]) -> None:
        """Give values by name to the loggers."""
        for logger in self._loggers:
            logger.log(frames, values)

    def _warn(self, metrics: Metrics) -> None:
        """Say at which iteration reports stop being finite."""
        finite = {name: np.isfinite(values) for name, values in metrics.losses.items()}
        bad = ~np.all(list(finite.values()), axis=0)
        begins = np.flatnonzero(bad & ~np.concatenate([[bool(self.not_finite)], bad[:-1]]))
        self.not_finite = [name for name, values in finite.items() if not values[-1]]
        for i in begins[: max(0, _MOST_WARNINGS - self._warnings)]:
            names = ", ".join(name for name, values in finite.items() if not values[i])
            iteration = int(metrics.frames[i]) // self._run.frames_per_iteration
            text = f"warning: not finite in iteration {iteration}, at frame {int(metrics.frames[i]):,}: {names}"
            say(self._console, text, style="yellow")
            self._warnings += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file and draw the learning curve, however the run ended."""
        with contextlib.suppress(OSError):
            self._bar.stop()
        # After an error, such as a full disk, these may fail as well and must not hide it.
        with contextlib.suppress(OSError) if error else contextlib.nullcontext():
            for logger in self._loggers:
                logger.close()
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
