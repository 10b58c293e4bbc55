import contextlib
import csv
import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import purejaxrl_a3c
from purejaxrl_a3c import a2c, a3c, averaging, evaluate, impala, load, make_train, replace, rnd
from purejaxrl_a3c.config import flat, to_json
from purejaxrl_a3c.run import arguments, flags
from purejaxrl_a3c.run.algorithms import ALGORITHMS
from purejaxrl_a3c.run.arguments import parse_train
from purejaxrl_a3c.run.cli import main
from purejaxrl_a3c.run.evaluations import read_evaluations
from purejaxrl_a3c.run.metrics_file import columns
from purejaxrl_a3c.run.options import Options
from purejaxrl_a3c.run.report import evaluation_key
from purejaxrl_a3c.run.request import read_config
from purejaxrl_a3c.run.train import build
from purejaxrl_a3c.updates import Asynchrony, Service

pytestmark = pytest.mark.usefixtures("no_cache_in_the_home_folder")

QUICK = [
    "--env-id",
    "Catch-bsuite",
    "--hidden-sizes",
    "8",
    "--total-frames",
    "4000",
    "--evaluation-episodes",
    "7",
]


def failure(capsys, *argv):
    """The message of a run that must fail with the exit status of bad input."""
    with pytest.raises(SystemExit) as end:
        main(["train", *argv])
    assert end.value.code == 2
    captured = capsys.readouterr()
    return captured.out + captured.err


def read_metrics(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_without_arguments_a3c_runs_on_cartpole():
    name, config, options, _ = parse_train(["train"])
    assert (name, config, options) == ("a3c", a3c.Config(), Options())
    assert config.env.env_id == "CartPole-v1"


def test_only_the_flags_of_the_algorithm_that_is_asked_for_are_made(monkeypatch, capsys):
    """They take long to make. Help and errors need them all, for what tyro says of a flag of another algorithm."""
    made: list[str] = []

    def flags_of(name, *rest):
        made.append(name)
        return flags.flags_of(name, *rest)

    monkeypatch.setattr(arguments, "flags_of", flags_of)
    assert parse_train(["train", "sac", "--seed", "3"]).options.seed == 3
    assert made == ["sac"]
    with pytest.raises(SystemExit):
        parse_train(["train", "a2c", "--num-workers", "3"])
    assert set(made) == set(ALGORITHMS)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("--num-workers (applied to") == 1
    assert "in purejaxrl-a3c train a3c --help" in said


def settings(command):
    return parse_train(command.split()).config


def test_every_field_is_a_flag():
    command = "train a2c --env-id Acrobot-v1 --total-frames 1000000 --seed 3 --out runs/acrobot --hidden-sizes 32 16"
    name, config, options, _ = parse_train(
        [*command.split(), "--no-anneal-learning-rate", "--shared-torso", "--gae-lambda", "0.9"]
    )
    assert name == "a2c"
    assert config == replace(
        a2c.Config(),
        env_id="Acrobot-v1",
        total_frames=1_000_000,
        hidden_sizes=(32, 16),
        anneal_learning_rate=False,
        shared_torso=True,
        gae_lambda=0.9,
    )
    assert (options.seed, str(options.out)) == (3, "runs/acrobot")
    assert settings("train --num-workers 3") == replace(a3c.Config(), num_workers=3)
    command = "train --schedule clock --service-law exponential --slowness 1 2.5 --max-lead 2 --reads lagged --lag 3"
    assert settings(command + " --momentum -0.5") == replace(
        a3c.Config(),
        asynchrony=Asynchrony(
            "clock", Service("exponential", slowness=(1.0, 2.5)), max_lead=2, reads="lagged", lag=3.0
        ),
        momentum=-0.5,
    )
    command = "train averaging --sync-every 4 --mix ring --num-workers 3 --envs-per-worker 2 --gamma 0.9"
    assert settings(command) == replace(
        averaging.Config(), num_workers=3, envs_per_worker=2, gamma=0.9, sync_every=4, mix="ring"
    )
    command = "train rnd --env-id DeepSea-bsuite --gamma 0.9 --num-minibatches 2 --warm-up 0 --intrinsic-gamma 0.8"
    assert settings(command) == replace(
        rnd.Config(), env_id="DeepSea-bsuite", gamma=0.9, num_minibatches=2, warm_up=0, intrinsic_gamma=0.8
    )
    assert settings("train rnd-a3c --num-workers 3 --num-features 8") == replace(
        rnd.Config(agent=a3c.Config()), num_workers=3, num_features=8
    )
    command = "train impala --off-policy none --reads lagged --lag 3 --max-lag 4 --num-workers 2"
    assert settings(command) == replace(
        impala.Config(), off_policy="none", reads="lagged", lag=3.0, max_lag=4, num_workers=2
    )
    command = "train --env-id gym/FrozenLake-v1 --env-kwargs is_slippery False map_name 8x8 size 3 scale 0.5"
    assert settings(command).env.env_kwargs == {"is_slippery": False, "map_name": "8x8", "size": 3, "scale": 0.5}
    command = "train --torso minatar --core lstm --num-cells 32 --layer-norm --sticky-actions 0.1 --observe 0 2"
    assert settings(command + " --env-params gravity 5 masspole 0.2") == replace(
        a3c.Config(),
        torso="minatar",
        core="lstm",
        num_cells=32,
        layer_norm=True,
        sticky_actions=0.1,
        observe=(0, 2),
        env_params={"gravity": 5.0, "masspole": 0.2},
    )


def shown(capsys, *argv):
    """The standard output of a command that succeeds."""
    with contextlib.suppress(SystemExit):
        main(list(argv))
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ALGORITHMS)
def test_help_groups_every_setting_and_says_it_in_a_phrase(capsys, name):
    text = shown(capsys, "train", name, "--help")
    for group in ("environment", "network", "optimizer", "algorithm", "run"):
        assert group in text
    flags = set(re.findall(r"--[a-z][a-z-]*", text))
    names = {n for n, value in flat(ALGORITHMS[name]).items()} | {f.name for f in dataclasses.fields(Options)}
    assert {f"--{n.replace('_', '-')}" for n in names} <= flags
    assert "``" not in text
    assert "['" not in text


def test_without_arguments_there_is_help_and_there_are_a_version_and_a_list_of_environments(capsys):
    for argv in ([], ["--help"]):
        text = shown(capsys, *argv)
        assert "train" in text
        assert "envs" in text
    assert shown(capsys, "--version").startswith(f"purejaxrl-a3c {purejaxrl_a3c.__version__}")
    assert "CartPole-v1" in shown(capsys, "envs").split()
    assert "brax" in shown(capsys, "envs")
    with pytest.raises(SystemExit):
        main(["envs", "atari"])
    assert "suite: 'atari'" in capsys.readouterr().err


def test_a_run_leaves_its_config_metrics_and_picture_and_prints_a_line_of_json(tmp_path, capsys):
    out = tmp_path / "run"
    main(["train", "a3c", *QUICK, "--seed", "5", "--out", str(out), "--json"])
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    config = replace(a3c.Config(), env_id="Catch-bsuite", hidden_sizes=(8,), total_frames=4000)
    result = jax.jit(make_train(config))(jax.random.key(5))
    returns = evaluate(config, result.state, evaluation_key(5), episodes=7, deterministic=True)
    assert summary["algorithm"] == "a3c"
    assert summary["env_id"] == "Catch-bsuite"
    assert summary["seed"] == 5
    assert summary["frames"] == result.metrics.frames[-1]
    assert summary["evaluation_episodes"] == 7
    assert summary["evaluation_return_mean"] == pytest.approx(float(returns.mean()))
    assert summary["evaluation_return_std"] == pytest.approx(float(returns.std()))
    assert summary["staleness_mean"] == pytest.approx(float(result.metrics.losses["staleness_mean"].mean()), rel=1e-5)
    assert summary["compile_seconds"] > 0
    rate = summary["frames"] / summary["train_seconds"]
    assert summary["frames_per_second"] == pytest.approx(rate, rel=0.05)

    rows = read_metrics(out)
    expected = columns(result.metrics)
    assert list(rows[0]) == list(expected)
    assert len(rows) == len(result.metrics.frames)
    for field, values in expected.items():
        np.testing.assert_allclose([float(row[field] or "nan") for row in rows], values, rtol=1e-5, atol=1e-6)

    record = json.loads((out / "config.json").read_text())
    assert record["algorithm"] == "a3c"
    assert record["seed"] == 5
    assert record["config"] == json.loads(json.dumps(to_json(config)))
    assert record["versions"]["jax"] == jax.__version__
    assert (out / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"


def test_a_folder_with_something_in_it_is_never_written_to(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("precious")
    message = failure(capsys, "a2c", *QUICK, "--out", str(tmp_path))
    assert "out: " in message
    assert "new or empty folder" in message
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert "out: " in failure(capsys, "a2c", *QUICK, "--out", str(tmp_path / "mine.txt"))
    assert "out: " in failure(capsys, "a2c", *QUICK, "--out", str(tmp_path / "mine.txt" / "below"))
    assert (tmp_path / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--env-id", "CartPol-v1"],
            "env_id: 'CartPol-v1' is not accepted; it must be the name of a gymnax environment; nearest: CartPole-v1",
        ),
        (["--gamma", "1.5"], "gamma: 1.5 is not accepted; it must be in [0, 1]"),
        (["--num-workers", "0"], "num_workers: 0 is not accepted; it must be an int >= 1"),
        (["--evaluation-episodes", "0"], "evaluation_episodes: 0 is not accepted; it must be an int >= 1"),
        (["--seed", "99999999999999999999"], "seed: 99999999999999999999 is not accepted; it must be in [0, 2**32)"),
        (["--seed", "-1"], "seed: -1 is not accepted"),
        (["--activation", "tan"], "invalid choice"),
        (["--total-frames", "many"], "invalid literal for int() with base 10: 'many'"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_bad_input_is_one_clear_message_and_leaves_no_folder(tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(tmp_path)
    assert message in failure(capsys, *argv)
    assert not list(tmp_path.iterdir())


def test_interrupting_keeps_what_was_written(tmp_path):
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "purejaxrl_a3c",
        "train",
        "a2c",
        "--out",
        str(out),
        "--total-frames",
        "2000000000",
    ]
    process = subprocess.Popen(
        [*command, "--hidden-sizes", "8", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        # Tests that a shell runs in the background ignore the signal, and what they start would, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not ((out / "metrics.csv").exists() and len(read_metrics(out)) > 500):
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert stdout == ""
    rows = read_metrics(out)
    assert len(rows) > 500
    np.testing.assert_array_equal([int(row["frames"]) for row in rows], 80 * np.arange(1, len(rows) + 1))
    assert (out / "config.json").exists()
    assert (out / "learning_curve.png").exists()


def test_evaluations_while_a_run_trains_are_kept_and_the_best_agent_too(tmp_path, capsys):
    out = tmp_path / "run"
    # An iteration has 80 frames.
    argv = ["train", "a3c", *QUICK, "--evaluate-every-frames", "950", "--out", str(out)]
    main([*argv[:-2], "--checkpoint-every-frames", "1600", "--out", str(out)])
    rows = read_evaluations(out)
    step = build(read_config(out / "config.json")[1]).frames_per_step
    every = -(-950 // step) * step
    assert [frames for frames, *_ in rows] == list(range(every, 4001, every))
    assert all(episodes == 7 for *_, episodes in rows)
    best = max(rows, key=lambda row: row[1])
    config, state, _ = load(out / "best")
    assert int(state.iteration) * step == best[0]
    key = jax.random.fold_in(evaluation_key(0), best[0])
    returns = np.asarray(evaluate(config, state, key, 7, deterministic=True))
    np.testing.assert_allclose([returns.mean(), returns.std()], best[1:3], rtol=1e-5)
    main(["evaluate", str(out / "best"), "--evaluation-episodes", "3"])
    # The run itself is the one without.
    main(["train", "a3c", *QUICK, "--out", str(tmp_path / "plain")])
    assert (tmp_path / "plain" / "metrics.csv").read_text() == (out / "metrics.csv").read_text()
    # A resumed run makes the rows again that came after its checkpoint.
    before = (out / "evaluations.csv").read_text()
    shutil.rmtree(out / "checkpoints" / str(4000 // step))
    main(["train", "--resume", str(out)])
    assert (out / "evaluations.csv").read_text() == before
    assert int(load(out / "best").state.iteration) * step == best[0]


def test_several_runs_are_evaluated_together(tmp_path, capsys):
    for seed in range(3):
        main(["train", "a2c", *QUICK, "--seed", str(seed), "--out", str(tmp_path / str(seed))])
    capsys.readouterr()
    main(["evaluate", *(str(tmp_path / str(seed)) for seed in range(3)), "--evaluation-episodes", "5", "--json"])
    *each, together = map(json.loads, capsys.readouterr().out.splitlines())
    means = [one["evaluation_return_mean"] for one in each]
    assert len(means) == together["runs"] == 3
    np.testing.assert_allclose(together["interquartile_mean"], np.mean(means))  # of three none is cut off
    assert min(means) <= together["low"] <= together["interquartile_mean"] <= together["high"] <= max(means)
