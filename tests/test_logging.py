import io
import time

import numpy as np
from rich.console import Console

from purejaxrl_a3c.run.plots import binned_mean
from purejaxrl_a3c.run.progress import waiting


def test_means_over_equal_stretches_of_the_run():
    frames = 80 * np.arange(1, 101)
    ends, means = binned_mean(frames, np.arange(1.0, 101.0), np.ones(100), bins=10)
    np.testing.assert_allclose(ends, 800 * np.arange(1, 11))
    np.testing.assert_allclose(means, np.arange(5.5, 100, 10))


def test_means_count_episodes_and_leave_out_stretches_without_any():
    frames, episodes = np.array([10, 20, 30, 40]), np.array([1, 3, 0, 0])
    ends, means = binned_mean(frames, np.array([0.0, 4.0, np.nan, np.nan]), episodes, bins=2)
    np.testing.assert_allclose(ends, [20])
    np.testing.assert_allclose(means, [3.0])


def test_a_log_says_what_is_waited_for_and_a_terminal_forgets_it(monkeypatch):
    monkeypatch.setattr("purejaxrl_a3c.run.progress.FIRST_LINE_SECONDS", 0.05)
    log = io.StringIO()
    with waiting(Console(file=log), "compiling a run"):
        time.sleep(0.4)
    lines = log.getvalue().splitlines()
    assert lines
    assert all(line.startswith("compiling a run, for ") for line in lines)
    quick = io.StringIO()
    with waiting(Console(file=quick), "compiling a run"):
        pass
    assert not quick.getvalue()
    screen = io.StringIO()
    with waiting(Console(file=screen, force_terminal=True), "compiling a run"):
        time.sleep(0.2)
    assert "compiling a run" in screen.getvalue()
    assert "0:00:00" in screen.getvalue()
