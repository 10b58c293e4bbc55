"""The life of a run of the command line: what it leaves, how it goes on, and how it ends when something goes wrong."""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from purejaxrl_a3c import InputError, a2c, dqn, evaluate, load, make_train, replace
from purejaxrl_a3c.envs.normalize import get_statistics
from purejaxrl_a3c.run import checkpoint, folder, memory, prepare, progress, session
from purejaxrl_a3c.run.cli import main
from purejaxrl_a3c.run.report import evaluation_key

pytestmark = pytest.mark.usefixtures("no_cache_in_the_home_folder")

SETTINGS: dict[str, Any] = {"num_envs": 4, "rollout_length": 5, "hidden_sizes": (4,), "anneal_learning_rate": False}
CONFIG = replace(a2c.Config(), total_frames=800, normalize_observations=True, **SETTINGS)
RUN = ["train", "a2c", "--num-envs", "4", "--rollout-length", "5", "--hidden-sizes", "4", "--no-anneal-learning-rate"]
RUN += ["--normalize-observations", "--evaluation-episodes", "3"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of 800 frames, 40 iterations, with checkpoints after every 10."""
    path = tmp_path_factory.mktemp("runs") / "sweep[rate=0.1]"
    main([*RUN, "--total-frames", "800", "--checkpoint-every-frames", "200", "--seed", "3", "--out", str(path)])
    return path


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def ends(status, *argv):
    """Run a command that must end with this exit status."""
    with pytest.raises(SystemExit) as end:
        main([str(x) for x in argv])
    assert end.value.code == status


def one_line(text):
    return " ".join(text.split())


def rows(path):
    with (path / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def equal(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def test_the_trained_agent_is_kept(finished):
    """In a folder whose name is a pattern, too."""
    config, state, act = load(finished)
    assert config == CONFIG
    expected = jax.jit(make_train(CONFIG))(jax.random.key(3)).state
    equal(state, expected, rtol=1e-4, atol=1e-5)
    assert state.iteration == 40
    assert int(act(np.ones(4))[0]) in (0, 1)
    returns = evaluate(config, state, evaluation_key(3), episodes=3, deterministic=True)
    (summary,) = map(json.loads, (finished / "results.jsonl").read_text().splitlines())
    assert summary["evaluation_return_mean"] == pytest.approx(float(returns.mean()))
    assert not summary["diverged"]


def test_it_can_be_evaluated_again_without_changing_its_folder(run, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    main(["evaluate", str(run), "--evaluation-episodes", "3", "--seed", "3", "--json"])
    again = json.loads(capsys.readouterr().out)
    summary = json.loads((run / "results.jsonl").read_text())
    assert {name: summary[name] for name in again} == again
    assert again["frames"] == 800
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    ends(2, "evaluate", run.parent)
    assert "run: " in capsys.readouterr().err


def test_resuming_a_complete_run_evaluates_it_and_remembers_how(run, capsys):
    main(["train", "--resume", str(run)])
    shown = capsys.readouterr().err
    assert "the run is complete" in one_line(shown)
    first, second = map(json.loads, (run / "results.jsonl").read_text().splitlines())
    same = ("evaluation_return_mean", "evaluation_episodes", "frames", "seed")
    assert [first[name] for name in same] == [second[name] for name in same]
    assert second["staleness_mean"] == 0


def test_more_frames_extend_a_run_to_the_longer_one(run, tmp_path, capsys):
    main(["train", "--resume", str(run), "--total-frames", "1200"])
    assert "note" not in capsys.readouterr().err
    main([*RUN, "--total-frames", "1200", "--seed", "3", "--out", str(tmp_path / "long")])
    assert (run / "metrics.csv").read_bytes() == (tmp_path / "long" / "metrics.csv").read_bytes()
    equal(load(run).state, load(tmp_path / "long").state, rtol=0)
    assert json.loads((run / "config.json").read_text())["config"]["total_frames"] == 1200
    assert load(run).config == replace(CONFIG, total_frames=1200)
    ends(2, "train", "--resume", run, "--total-frames", "1000")
    assert "total_frames: 1000 is not accepted; it must be >= 1200" in one_line(capsys.readouterr().err)


def test_extending_an_annealed_run_is_said(tmp_path, capsys):
    out = tmp_path / "run"
    main([*RUN[:-6], "--hidden-sizes", "4", "--total-frames", "400", "--evaluation-episodes", "3", "--out", str(out)])
    main(["train", "--resume", str(out), "--total-frames", "800"])
    text = one_line(capsys.readouterr().err)
    assert "note: the learning rate was to fall to 0 over 400 frames; from here on it falls over 800" in text
    assert len(rows(out)) == len({row["frames"] for row in rows(out)})


def damage(step, how):
    if how == "flipped":
        largest = max((path for path in step.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        data = bytearray(largest.read_bytes())
        data[100] ^= 1
        largest.write_bytes(data)
    elif how == "unfinished":
        (step / "digests.json").unlink()
    else:
        (step / "digests.json").write_text(how)


@pytest.mark.parametrize("how", ["flipped", "unfinished", "{}", "[1]", "{"])
def test_the_checkpoint_before_a_damaged_one_is_used_and_this_is_said(run, how, capsys):
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["30", "40"]
    whole, metrics = load(run).state, (run / "metrics.csv").read_bytes()
    damage(run / "checkpoints" / "40", how)
    if how != "unfinished":
        with pytest.warns(UserWarning, match="checkpoints/40 is damaged"):
            assert load(run).state.iteration == 30
    main(["train", "--resume", str(run)])
    text = one_line(capsys.readouterr().err)
    assert ("checkpoints/40 is damaged" in text) == (how != "unfinished")
    assert (run / "metrics.csv").read_bytes() == metrics
    equal(load(run).state, whole, rtol=0)
    kept = {"30", "40"} | (set() if how == "unfinished" else {"40.damaged"})
    assert {path.name for path in (run / "checkpoints").iterdir()} == kept


def test_without_a_sound_checkpoint_nothing_is_changed(run, capsys):
    for step in (run / "checkpoints").iterdir():
        damage(step, "{}")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    ends(2, "train", "--resume", run)
    text = one_line(capsys.readouterr().err)
    assert "as it was written (checkpoints/40: digests.json cannot be read; checkpoints/30" in text
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize("left", [None, "", "no,metrics\n1,2\n", 20])
def test_a_sound_checkpoint_is_enough_whatever_became_of_the_metrics(run, left, capsys):
    shutil.rmtree(run / "checkpoints" / "40")
    path, lines = run / "metrics.csv", (run / "metrics.csv").read_text().splitlines(keepends=True)
    if left is None:
        path.unlink()
    else:
        path.write_text("".join(lines[:left]) + "400,1" if isinstance(left, int) else left)
    main(["train", "--resume", str(run)])
    text = one_line(capsys.readouterr().err)
    frames = [int(row["frames"]) for row in rows(run)]
    assert frames == [20 * i for i in range(1, 20 if left == 20 else 1)] + [20 * i for i in range(31, 41)]
    assert f"metrics.csv lacks rows up to frame 600: it goes on from {19 if left == 20 else 0} whole rows" in text
    assert (run / "metrics.csv.damaged").exists() == (left is not None)


def test_parameters_alone_begin_another_run(finished, tmp_path, capsys):
    out = tmp_path / "tuned"
    tuned = [
        *RUN,
        "--learning-rate",
        "0",
        "--total-frames",
        "40",
        "--initialize-from",
        str(finished),
        "--out",
        str(out),
    ]
    main(tuned)
    before, after = load(finished).state, load(out).state
    equal(after.learner.params, before.learner.params)
    moments: Any = [get_statistics(one.actor_state.env) for one in (before, after)]
    assert moments[1].weight[0, 0] > moments[0].weight[0, 0] >= 800
    assert after.iteration == 2
    # It remembers where its parameters came from, until it has a checkpoint of its own.
    shutil.rmtree(out / "checkpoints")
    main(["train", "--resume", str(out)])
    equal(load(out).state, after, rtol=0)
    for change, message in (
        (["--hidden-sizes", "5"], "it must be a run with the same network"),
        (["--no-normalize-observations"], "normalize_observations: False is not accepted; it must be True, as in"),
    ):
        ends(2, *RUN, *change, "--initialize-from", finished, "--out", tmp_path / "other")
        assert message in one_line(capsys.readouterr().err)
    assert not (tmp_path / "other").exists()


def test_runs_that_start_together_get_folders_of_their_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    claims = [folder.claim_new(None, "same") for _ in range(3)]
    assert [str(claim.path) for claim in claims] == ["runs/same", "runs/same-2", "runs/same-3"]
    for claim in reversed(claims):
        claim.abandon()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_going_on_cannot_be_resumed(run, capsys):
    owner = folder.claim_again(run)
    ends(2, "train", "--resume", run, "--total-frames", "1200")
    assert "a folder that no other process is using" in one_line(capsys.readouterr().err)
    owner.abandon()
    assert load(run).state.iteration == 40
    assert (run / "config.json").stat().st_size > 0
    folder.claim_again(run).release()


def test_a_run_that_ended_before_its_first_checkpoint_begins_again(run, capsys):
    metrics, state = (run / "metrics.csv").read_bytes(), load(run).state
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(InputError, match="a finished checkpoint"):
        load(run)
    (run / "metrics.csv").write_bytes(metrics[: len(metrics) // 2])
    main(["train", "--resume", str(run)])
    assert (run / "metrics.csv").read_bytes() == metrics
    equal(load(run).state, state, rtol=0)


def test_divergence_is_said_while_it_happens_and_at_the_end(tmp_path, capsys):
    out = tmp_path / "run"
    ends(session.DIVERGED, *RUN, "--learning-rate", "1e30", "--total-frames", "400", "--json", "--out", out)
    captured = capsys.readouterr()
    assert "warning: not finite in iteration 2, at frame 40: " in one_line(captured.err)
    assert "warning: the run diverged: " in one_line(captured.err)
    summary = json.loads(captured.out, parse_constant=pytest.fail)
    assert summary["diverged"]
    for row in rows(out):
        assert all(row[name] != "" for name in row.keys() - {"episode_return", "episode_length"})
        assert (row["episode_return"] == "") == (row["episodes"] == "0")


def test_parameters_that_are_not_finite_are_null_in_json(run, capsys, monkeypatch):
    state = load(run).state
    broken = jax.tree.map(lambda x: x * np.nan, state.learner.params)
    monkeypatch.setattr(
        checkpoint, "read_state", lambda *_: state._replace(learner=state.learner._replace(params=broken))
    )
    ends(session.DIVERGED, "train", "--resume", run, "--json")
    summary = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert summary["evaluation_return_mean"] is None
    assert summary["diverged"]


def test_a_log_has_lines_of_progress_and_paths_as_they_are(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_LONGEST_PAUSE", 0.0)
    out = tmp_path / ("long" * 30) / "sweep[lr=0.1][bold]"
    main([*RUN, "--total-frames", "400", "--out", str(out)])
    lines = capsys.readouterr().err.splitlines()
    assert any("%" in line and "of 400 frames" in line and "left" in line for line in lines)
    assert lines[-1].endswith(f"results in {out}")
    assert lines[0].count("cpu") == 1


def test_a_full_disk_is_one_line_and_what_was_measured_is_kept(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    monkeypatch.setattr(checkpoint, "write", full)
    out = tmp_path / "run"
    ends(1, *RUN, "--total-frames", "400", "--checkpoint-every-frames", "200", "--out", out)
    text = capsys.readouterr().err
    assert f"error: No space left on device: somewhere; what was measured is in {out}" in text
    assert "Traceback" not in text
    assert len(rows(out)) == 10
    monkeypatch.setattr(
        session, "compile_run", lambda *_: (_ for _ in ()).throw(RuntimeError("RESOURCE_EXHAUSTED: all"))
    )
    ends(1, *RUN, "--total-frames", "400", "--out", tmp_path / "other")
    assert "error: RESOURCE_EXHAUSTED: all; nothing was written" in one_line(capsys.readouterr().err)
    assert not (tmp_path / "other").exists()


def test_a_run_that_cannot_fit_is_refused_before_anything_is_allocated(tmp_path, capsys, monkeypatch):
    ends(2, *RUN, "--hidden-sizes", "1000000", "1000000", "--out", tmp_path / "run")
    text = one_line(capsys.readouterr().err)
    assert "error: the state of the run is" in text
    assert "GB and does not fit into" in text
    assert list(tmp_path.iterdir()) == []
    assert [memory.readable(x) for x in (900, 3.2e6, 5e9, 7e12)] == ["0.9 kB", "3.2 MB", "5.0 GB", "7,000.0 GB"]


def test_a_home_folder_that_cannot_be_written_to_is_said(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    main([*RUN, "--total-frames", "40", "--out", str(tmp_path / "run")])
    assert "note: every run compiles anew" in capsys.readouterr().err
    assert load(tmp_path / "run").state.iteration == 2


MODULE = [sys.executable, "-m", "purejaxrl_a3c"]
PROGRAM = [str(Path(sys.executable).with_name("purejaxrl-a3c"))]


def start(argv, command=MODULE, **environment):
    # Tests that a shell runs in the background ignore Ctrl-C, and what they start would, too.
    return subprocess.Popen(
        [*command, *map(str, argv)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(condition, process):
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def test_a_signal_ends_a_run_where_it_goes_on_later(tmp_path, capsys):
    out = tmp_path / "run"
    process = start([*RUN, "--total-frames", "2000000000", "--out", out])
    wait_for(lambda: (out / "metrics.csv").exists() and len(rows(out)) > 100, process)
    process.send_signal(signal.SIGTERM)
    text = one_line(process.communicate(timeout=120)[1])
    assert process.returncode == 143
    assert f"of 2,000,000,000; results in {out}; to go on: purejaxrl-a3c train --resume {out}" in text
    done = int(rows(out)[-1]["frames"])
    assert load(out).state.iteration == done // 20
    assert (out / "learning_curve.png").exists()
    # Resumed for some frames more, it is the uninterrupted run.
    main(["train", "--resume", str(out), "--total-frames", str(done + 200)])
    main([*RUN, "--total-frames", str(done + 200), "--out", str(tmp_path / "whole")])
    assert (out / "metrics.csv").read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()


# Starts a run in a terminal of its own and closes the terminal once there are metrics.
TERMINAL = """
import os, pathlib, pty, select, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests under nohup ignore it, and what they start would, too
metrics = pathlib.Path(sys.argv[-1]) / "metrics.csv"
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.executable, [sys.executable, "-m", "purejaxrl_a3c", *sys.argv[1:]])
while not metrics.exists() or metrics.stat().st_size < 20_000:
    if select.select([terminal], [], [], 0.1)[0]:
        os.read(terminal, 65536)
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_closed_terminal_costs_nothing(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-c", TERMINAL, *RUN, "--total-frames", "2000000000", "--out", str(out)]
    assert subprocess.run(command, timeout=240, check=False).returncode == 129
    assert load(out).state.iteration == int(rows(out)[-1]["frames"]) // 20


def test_ctrl_c_before_training_leaves_no_folder(tmp_path):
    out = tmp_path / "new" / "run"
    process = start([*RUN, "--torso", "minatar", "--env-id", "Breakout-MinAtar", "--out", out])
    wait_for(lambda: (out / "config.json").exists(), process)
    process.send_signal(signal.SIGINT)
    text = one_line(process.communicate(timeout=120)[1])
    assert process.returncode == 130, text
    assert "interrupted before training began; nothing was written" in text
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_the_folder_is_taken_leaves_no_folder(tmp_path):
    program = """
import os, signal, sys, time
from purejaxrl_a3c.run import folder
from purejaxrl_a3c.run.cli import main

claim = folder.claim_new

def claim_slowly(*args):
    taken = claim(*args)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
    return taken

folder.claim_new = claim_slowly
main(sys.argv[1:])
"""
    process = start([*RUN, "--out", tmp_path / "new" / "run"], [sys.executable, "-c", program])
    text = one_line(process.communicate(timeout=120)[1])
    assert process.returncode == 130, text
    assert "interrupted before training began; nothing was written" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [MODULE, PROGRAM], ids=["module", "program"])
def test_ctrl_c_while_jax_is_imported_is_one_line(tmp_path, command):
    # A module called as one that JAX imports early, which says that it is there and waits.
    (tmp_path / "jaxlib.py").write_text(
        "import pathlib, time; pathlib.Path(__file__ + '.there').touch(); time.sleep(60)"
    )
    process = start(RUN, command, PYTHONPATH=str(tmp_path))
    wait_for((tmp_path / "jaxlib.py.there").exists, process)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "\ninterrupted\n"
    assert process.returncode == 130


def test_a_platform_that_is_not_there_is_one_line():
    process = start(RUN, JAX_PLATFORMS="cuda")
    text = process.communicate(timeout=120)[1]
    assert process.returncode == 2
    assert len(text.strip().splitlines()) == 1
    assert text.startswith("error: JAX_PLATFORMS: 'cuda' is not accepted")


def test_a_folder_is_not_taken_by_something_that_is_no_run(tmp_path):
    with pytest.raises(InputError, match=r"^folder: .*a finished checkpoint"):
        load(tmp_path)


def test_extending_a_run_says_that_importance_weights_change_too():
    config = replace(dqn.Config(), prioritized=True, total_frames=400)
    found = SimpleNamespace(damaged={}, iteration=1)
    earlier = SimpleNamespace(config=config, found=found)
    longer: Any = SimpleNamespace(earlier=earlier, config=replace(config, total_frames=800))
    notes = list(prepare._notes(longer))
    assert [note.split(" was to ")[0] for note in notes] == ["the importance exponent", "the learning rate"]
    same: Any = SimpleNamespace(earlier=earlier, config=config)
    assert not list(prepare._notes(same))
