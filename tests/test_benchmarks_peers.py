"""The comparison with other packages: same work on both sides, ratios within a turn, and when a run has solved."""

import ast
import dataclasses
import inspect
import json
import re
import subprocess
import tomllib
from typing import Any

import numpy as np
import pytest

from benchmarks import solve
from benchmarks.peers import __main__ as driver
from benchmarks.peers import ours, ours_outside, plain_ppo, processes, protocol, purejaxrl_peer, rejax_peer, sb3
from benchmarks.peers.protocol import Task
from purejaxrl_a3c import InputError, a2c, a3c, dqn, make_train, ppo, pqn, sac
from purejaxrl_a3c.config import flat, replace

PEERS = [sb3, rejax_peer, plain_ppo, purejaxrl_peer]
MODULES: dict[str, Any] = {"a2c": a2c, "a3c": a3c, "ppo": ppo, "pqn": pqn, "dqn": dqn, "sac": sac}


@pytest.mark.parametrize("script", PEERS, ids=lambda script: script.__name__)
def test_a_peers_script_says_what_it_needs(script):
    source = inspect.getsource(script)
    ast.parse(source)
    # The regular expression of PEP 723.
    blocks = re.findall(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$", source)
    assert [kind for kind, _, *_ in blocks] == ["script"]
    header = tomllib.loads("".join(line.removeprefix("#").removeprefix(" ") for line in blocks[0][1].splitlines(True)))
    assert header["requires-python"]
    # Results name versions, and should be those of tomorrow's run, too.
    assert all("==" in each for each in header["dependencies"])


def test_every_row_has_a_script():
    scripts = {script.__name__.rsplit(".", 1)[-1] for script in PEERS}
    assert {comparison.peer for comparison in driver.COMPARISONS.values()} == scripts
    assert {row.script for row in solve.ROWS.values()} <= scripts | {"ours"}


def test_a_task_survives_the_command_line():
    task = Task("ppo", num_envs=7, hidden_sizes=(8, 4), hyperparameters={"gamma": 0.5, "x": "lin_1"}, threshold=1.5)
    assert protocol.parse(protocol.arguments(task)) == task


def _work_of_peer(comparison):
    """Environments, steps, updates of a rollout, their size, and widths, as the peer's own arguments say them."""
    task = protocol.parse(protocol.arguments(comparison.task_of_peer()))
    if comparison.peer == "plain_ppo":
        given = plain_ppo.settings(task)
        frames, count = given["num_envs"] * given["rollout_length"], given["num_minibatches"]
        updates, widths = given["epochs"] * count, given["hidden_sizes"]
        return given["env_id"], given["num_envs"], frames, updates, frames // count, widths
    if comparison.peer == "purejaxrl_peer":
        given = purejaxrl_peer.settings(task)
        frames, count = given["NUM_ENVS"] * given["NUM_STEPS"], given["NUM_MINIBATCHES"]
        widths = (purejaxrl_peer.CELLS,) * 2 if task.num_cells else purejaxrl_peer.SIZES
        return given["ENV_NAME"], given["NUM_ENVS"], frames, given["UPDATE_EPOCHS"] * count, frames // count, widths
    if comparison.algorithm in sb3.REPLAYED:
        return _replayed_work_of_peer(comparison, task)
    if comparison.peer == "rejax_peer":
        given = rejax_peer.settings(task, task.frames)
        frames = given["num_envs"] * given["num_steps"]
        count = given["num_minibatches"]
        widths = given["agent_kwargs"]["hidden_layer_sizes"]
        assert given["agent_kwargs"]["activation"] == "tanh"
        return given["env"], given["num_envs"], frames, given["num_epochs"] * count, frames // count, tuple(widths)
    given = sb3.settings(task)
    frames = task.num_envs * given["n_steps"]
    size = given.get("batch_size", frames)
    updates = given.get("n_epochs", 1) * frames // size
    return task.env_id, task.num_envs, frames, updates, size, _widths(given["policy_kwargs"])


def _widths(given):
    """Of a policy of Stable-Baselines3."""
    layers = given["net_arch"]
    if isinstance(layers, dict):
        assert layers["pi"] == layers["vf"]
        return tuple(layers["pi"])
    extractor = given.get("features_extractor_kwargs")
    return tuple(layers) if extractor is None else (extractor["features_dim"], *layers)


def _replayed_work_of_peer(comparison, task):
    if comparison.peer == "sb3":
        given = sb3.settings(task)
        frames, updates, widths = given["train_freq"], given["gradient_steps"], _widths(given["policy_kwargs"])
        starts = given["learning_starts"]
    else:
        given = rejax_peer.settings(task, task.frames)
        frames, updates, starts = 1, given["num_epochs"], given["fill_buffer"]
        widths = given.get("hidden_layer_sizes", rejax_peer.DQN_SIZES)
    sizes = given["batch_size"], given["buffer_size"], starts
    return task.env_id, task.num_envs, frames * task.num_envs, updates, sizes, tuple(widths)


def _work_of_ours(comparison, algorithm):
    task = protocol.parse(protocol.arguments(comparison.task_of_ours(algorithm)))
    script: Any = {"ours": ours, "ours_outside": ours_outside}[comparison.script]
    config = replace(MODULES[algorithm].Config(), **script.settings(task))
    values = flat(config)
    values["env_id"] = values["env_id"].removeprefix("gym/")
    count = values.get("num_minibatches", 1)
    envs = values["num_workers"] * values["envs_per_worker"] if algorithm == "a3c" else values["num_envs"]
    frames = config.build().frames_per_step
    if algorithm in sb3.REPLAYED:
        assert values["activation"] == "relu"
        sizes = values["batch_size"], values["replay_size"], values["learning_starts"]
        updates = values["updates_per_iteration"]
        return values["env_id"], values["num_envs"], frames, updates, sizes, values["hidden_sizes"]
    assert values["shared_torso"] == (task.images or task.num_cells > 0)
    assert values["activation"] == ("relu" if task.images or task.num_cells else "tanh")
    assert (values["core"], values["num_cells"]) == (
        ("gru", task.num_cells) if task.num_cells else ("feed_forward", 256)
    )
    updates = values.get("epochs", 1) * count
    return values["env_id"], envs, frames, updates, frames // count, values["hidden_sizes"]


@pytest.mark.parametrize("name", driver.COMPARISONS)
def test_both_sides_do_the_same_work(name):
    comparison = driver.COMPARISONS[name]
    assert comparison.task_of_peer().threshold is None
    for algorithm in comparison.ours:
        assert _work_of_ours(comparison, algorithm) == _work_of_peer(comparison)
        task = dataclasses.replace(comparison.task_of_ours(algorithm), algorithm=comparison.algorithm, frames=0)
        assert task == dataclasses.replace(comparison.task_of_peer(), frames=0)


def test_purejaxrl_is_measured_where_a_checkout_of_it_is_given(monkeypatch, tmp_path, capsys):
    with pytest.raises(InputError, match="purejaxrl"):
        driver.main(1, "PureJaxRL PPO, 4", str(tmp_path))
    driver.main(1, "PureJaxRL PPO, 4")
    assert "left out without --purejaxrl" in capsys.readouterr().out
    (tmp_path / "purejaxrl").mkdir()
    (tmp_path / "purejaxrl" / "ppo.py").touch()
    told, saved = [], []
    monkeypatch.setattr(driver.processes, "interpreter", lambda script: "python")
    answered = {"frames": 1, "run_seconds": 1.0, "import_seconds": 0.0, "compile_seconds": 0.0, "versions": {}}

    def train(script, python, task):
        told.append((script, task))
        return answered

    monkeypatch.setattr(driver.processes, "train", train)
    monkeypatch.setattr(driver, "save", lambda name, data, *rest: saved.append(data["results"]))
    driver.main(1, "PureJaxRL PPO, 4", str(tmp_path))
    assert [script for script, _ in told] == ["ours", "purejaxrl_peer"]
    assert told[1][1].checkout == str(tmp_path)
    # Where it lay on this machine is nobody's business.
    assert str(tmp_path) not in json.dumps(saved[0]["PureJaxRL PPO, 4 environments, 128 steps, 4 x 4 updates"])


def test_ratios_are_within_a_turn():
    # The machine becomes three times slower from turn to turn, and both sides with it.
    turns = [1.0, 3.0, 9.0]
    fast = [{"frames": 1000, "run_seconds": seconds} for seconds in turns]
    slow = [{"frames": 100, "run_seconds": seconds} for seconds in turns]
    np.testing.assert_allclose(driver.ratios(fast, slow), 10.0)
    np.testing.assert_allclose(driver.ratios(fast[::-1], slow), [10 / 9, 10, 90])


def test_ours_and_theirs_take_turns(monkeypatch):
    ran = []

    def train(script, python, task):
        ran.append(task.algorithm)
        return {}

    monkeypatch.setattr(driver.processes, "train", train)
    comparison = driver.COMPARISONS["SB3 A2C, 16 environments"]._replace(algorithm="theirs")
    answers = driver.compare(comparison, "python", turns=2)
    assert ran == ["a2c", "a3c", "theirs"] * 2
    assert {name: len(each) for name, each in answers.items()} == {"a2c": 2, "a3c": 2, "peer": 2}


class Course:
    """A clock, and a run whose pieces and evaluations move it."""

    def __init__(self, returns):
        self.now, self.frames, self.returns = 100.0, 0, iter(returns)

    def train(self):
        self.now += 2.0
        self.frames += 10
        return self.frames

    def evaluate(self):
        self.now += 50.0
        return next(self.returns)


def _solve(returns, frames, monkeypatch):
    course = Course(returns)
    monkeypatch.setattr(protocol.time, "time", lambda: course.now)
    # Imports and compilation took 7 seconds.
    return protocol.solve(
        course.train, course.evaluate, Task(threshold=5.0, frames=frames, launched=93.0), lambda: course.now
    )


def test_solved_is_the_first_evaluation_at_the_threshold_and_evaluations_take_no_time(monkeypatch):
    row = _solve([1.0, 4.9, 5.0, 9.0], 100, monkeypatch)
    assert row["solved"]
    assert row["returns"] == [1.0, 4.9, 5.0]
    assert row["frames"] == 30
    assert row["run_seconds"] == 6.0
    assert row["evaluation_seconds"] == 150.0
    assert row["all_in_all_seconds"] == 13.0


def test_a_run_that_uses_up_its_frames_has_not_solved(monkeypatch):
    row = _solve([1.0] * 9, 40, monkeypatch)
    assert not row["solved"]
    assert row["frames"] == 40


@pytest.mark.parametrize("name", [name for name, row in solve.ROWS.items() if row.script == "ours"])
def test_our_solve_rows_reach_the_process_whole(name):
    task = protocol.parse(protocol.arguments(solve.ROWS[name].task))
    config = replace(MODULES[task.algorithm].Config(), **ours.settings(task))
    assert config.rollouts.total_frames == task.frames
    assert solve.ours(config, threshold=task.threshold, piece=task.piece).task == solve.ROWS[name].task
    assert inspect.isfunction(make_train(config))  # it builds


def test_our_run_that_never_solves_ends_with_its_last_piece(monkeypatch, capsys):
    # 5 iterations of 80 frames, in pieces of 2.
    task = Task("a2c", frames=400, piece=160, threshold=1e9, episodes=4, hidden_sizes=(8,))
    monkeypatch.setattr("sys.argv", ["ours.py", *protocol.arguments(task)])
    ours.main()
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert not row["solved"]
    assert row["frames"] == 400
    assert len(row["returns"]) == 3


@pytest.mark.parametrize("memory_schedule", [False, True])
def test_the_order_of_kernels_is_that_of_the_task(monkeypatch, memory_schedule):
    told = []

    def run(command, env, **options):
        told.append(env.get("XLA_FLAGS", ""))
        return subprocess.CompletedProcess(command, 0, json.dumps({"frames": 1}), "")

    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(subprocess, "run", run)
    processes.train("ours", "python", Task(memory_schedule=memory_schedule))
    assert told == ["--xla_cpu_enable_concurrency_optimized_scheduler=false" * memory_schedule]
