"""The command line with checkpoints and, for real, with several processes on this machine."""

import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from purejaxrl_a3c.run.cli import main

pytestmark = pytest.mark.usefixtures("no_cache_in_the_home_folder")

RUN = ["train", "a3c", "--num-workers", "4", "--envs-per-worker", "1", "--rollout-length", "5", "--hidden-sizes", "4"]
SHORT = [*RUN, "--total-frames", "800", "--checkpoint-every-frames", "390"]  # after 20 of 40 iterations


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of the run in one process."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    main([*SHORT, "--out", str(folder)])
    return folder


def read(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def failure(capsys, *argv):
    with pytest.raises(SystemExit) as end:
        main([*argv])
    assert end.value.code == 2
    captured = capsys.readouterr()
    return captured.out + captured.err


def start(argv, count):
    """The command in so many processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = ["--coordinator-address", f"localhost:{port}", "--num-processes", str(count)]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "purejaxrl_a3c", *argv, *together, "--process-id", str(i)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
        for i in range(count)
    ]


def test_a_run_goes_on_from_its_checkpoint_with_the_same_metrics_whatever_came_after_it(alone, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(alone, folder)
    rows = (alone / "metrics.csv").read_text()
    lines = rows.splitlines(keepends=True)
    for kept in (21, 30):  # right after the checkpoint; with a torn row later on
        (folder / "metrics.csv").write_text("".join(lines[:kept]) + ("123,4" if kept == 30 else ""))
        shutil.rmtree(folder / "checkpoints" / "40")  # that of the end
        main(["train", "--resume", str(folder)])
        assert (folder / "metrics.csv").read_text() == rows


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--learning-rate", "0.1"], "learning_rate: 0.1 is not accepted; it must be 0.0007, as in"),
        (["--seed", "3"], "seed: 3 is not accepted; it must be 0, as in"),
        (["--out", "elsewhere"], "out: 'elsewhere' is not accepted"),
    ],
)
def test_a_run_goes_on_with_its_own_settings_only(alone, argv, message, capsys):
    assert message in " ".join(failure(capsys, "train", "--resume", str(alone), *argv).split())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--resume", "nowhere"], "resume: 'nowhere' is not accepted"),
        (["--checkpoint-every-frames", "-1"], "checkpoint_every_frames: -1"),
        (["--num-devices", "9"], "num_devices: 9 is not accepted; it must be at most 8"),
        (["--num-devices", "3"], "num_workers: 16 is not accepted; it must be a multiple of the number of devices, 3"),
        (["--num-processes", "2"], "coordinator_address: None is not accepted"),
        (
            ["--coordinator-address", "localhost:1", "--num-processes", "2", "--process-id", "2"],
            "process_id: 2 is not accepted; it must be in [0, 2)",
        ),
    ],
)
def test_bad_input_is_one_clear_message(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in " ".join(failure(capsys, "train", *argv).split())
    assert list(tmp_path.iterdir()) == []


def test_two_processes_make_the_run_of_one_and_one_process_goes_on_from_their_checkpoint(alone, tmp_path):
    folder = tmp_path / "run"
    processes = start([*SHORT, "--out", str(folder)], 2)
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "return" in outputs[0]
    assert "return" not in outputs[1]  # only the first one prints and writes

    def assert_same():
        for one, other in zip(read(folder), read(alone), strict=True):
            for field in one.keys() - {"staleness_within"}:
                a, b = (float(x or "nan") for x in (one[field], other[field]))
                np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4)

    assert_same()
    shutil.rmtree(folder / "checkpoints" / "40")  # that of the end
    main(["train", "--resume", str(folder)])
    assert_same()


def test_a_signal_to_one_process_stops_all_where_they_can_go_on(tmp_path):
    folder = tmp_path / "run"
    processes = start([*RUN, "--total-frames", "2000000000", "--out", str(folder)], 2)
    deadline = time.monotonic() + 240
    while not ((folder / "metrics.csv").exists() and len(read(folder)) > 50):
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.2)
    processes[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [143, 143], outputs
    assert f"to go on: purejaxrl-a3c train --resume {folder}" in " ".join(outputs[0].split())
    done = int(read(folder)[-1]["frames"]) // 20
    assert [path.name for path in folder.glob("checkpoints/*")] == [str(done)]


@pytest.mark.parametrize("killed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_lost_process_ends_the_others_and_the_run_goes_on_from_its_last_checkpoint(tmp_path, killed):
    folder = tmp_path / "run"
    forever = [*RUN, "--total-frames", "2000000000", "--checkpoint-every-frames", "2000"]
    processes = start([*forever, "--out", str(folder)], 2)
    deadline = time.monotonic() + 240
    while not list(folder.glob("checkpoints/*/digests.json")):
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.2)
    processes[killed].send_signal(signal.SIGKILL)
    left = processes[1 - killed]
    output = left.communicate(timeout=240)[0]
    assert left.returncode not in (0, None)
    # Or JAX's watchdog was faster, which says so too.
    assert f"process {1 - killed} of 2 has to stop" in output or "another task died" in output
    processes[killed].communicate()
    resumed = start(["train", "--resume", str(folder)], 2)
    before = max(int(path.parent.name) for path in folder.glob("checkpoints/*/digests.json"))
    while not [path for path in folder.glob("checkpoints/*/digests.json") if int(path.parent.name) > before]:
        assert time.monotonic() < deadline + 200
        assert all(process.poll() is None for process in resumed)
        time.sleep(0.2)
    for process in resumed:
        process.kill()
        process.communicate()
