"""Tests of ``train --num-seeds``: several seeds in one program, each in a folder like that of a single run."""

import json
import shutil

import jax
import numpy as np
import pytest

from purejaxrl_a3c import InputError, a2c, load, make_train, replace
from purejaxrl_a3c.run.cli import main
from purejaxrl_a3c.run.interrupts import Interrupts
from purejaxrl_a3c.run.metrics_file import columns, read_columns

pytestmark = pytest.mark.usefixtures("no_cache_in_the_home_folder")
SMALL = ["--num-envs", "4", "--rollout-length", "8", "--hidden-sizes", "8", "--evaluation-episodes", "4"]
RUN = ["train", "a2c", *SMALL, "--no-anneal-learning-rate", "--seed", "5", "--checkpoint-every-frames", "64"]
CONFIG = replace(
    a2c.Config(), num_envs=4, rollout_length=8, hidden_sizes=(8,), anneal_learning_rate=False, total_frames=192
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds, for 192 frames."""
    path = tmp_path_factory.mktemp("seeds") / "runs"
    main([*RUN, "--total-frames", "192", "--num-seeds", "2", "--out", str(path)])
    return path


def test_each_seed_is_the_run_of_that_seed(runs, capsys):
    for seed in (5, 6):
        expected = jax.jit(make_train(CONFIG))(jax.random.key(seed))
        found = read_columns(runs / f"seed-{seed}")
        for name, values in columns(expected.metrics).items():
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
        state = load(runs / f"seed-{seed}").state
        for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(expected.state), strict=True):
            if not jax.dtypes.issubdtype(y.dtype, jax.dtypes.prng_key):
                np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
        assert json.loads((runs / f"seed-{seed}" / "config.json").read_text())["seed"] == seed
        assert (runs / f"seed-{seed}" / "learning_curve.png").exists()
        assert len((runs / f"seed-{seed}" / "results.jsonl").read_text().splitlines()) == 1
    assert (runs / "learning_curves.png").exists()
    main(["evaluate", str(runs / "seed-5"), str(runs / "seed-6"), "--evaluation-episodes", "2"])
    assert "interquartile mean of 2 runs" in capsys.readouterr().err


def test_all_seeds_go_on_from_where_all_of_them_are(runs, tmp_path):
    path = tmp_path / "runs"
    shutil.copytree(runs, path)
    # As if the machine had been lost after the first of the last two checkpoints.
    shutil.rmtree(path / "seed-6" / "checkpoints" / "6")
    main(["train", "--resume", str(path), "--total-frames", "320"])
    whole = tmp_path / "whole"
    main([*RUN, "--total-frames", "320", "--num-seeds", "2", "--out", str(whole)])
    for seed in (5, 6):
        found, expected = (read_columns(one / f"seed-{seed}") for one in (path, whole))
        assert len(expected["frames"]) == 10
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert (path / "seed-5" / "checkpoints" / "6.damaged").exists()
    assert (path / "learning_curves-2.png").exists()  # nothing is overwritten


def test_an_interruption_of_the_evaluation_leaves_everything(runs, tmp_path, monkeypatch, capsys):
    path = tmp_path / "runs"
    shutil.copytree(runs, path)
    heard: list[Interrupts] = []

    class Heard(Interrupts):
        def __enter__(self):
            heard.append(self)
            return super().__enter__()

    def interrupted(*_):
        heard[0].farewell()
        raise InputError("the process ends")

    monkeypatch.setattr("purejaxrl_a3c.run.cli.Interrupts", Heard)
    monkeypatch.setattr("purejaxrl_a3c.run.seeds.evaluate_state", interrupted)
    with pytest.raises(SystemExit):
        main(["train", "--resume", str(path), "--total-frames", "256"])
    assert "interrupted before the evaluation" in capsys.readouterr().err
    assert (path / "config.json").exists()
    assert len(read_columns(path / "seed-6")["frames"]) == 8


def test_what_would_lose_something_is_refused_and_changes_nothing(runs, tmp_path, capsys):
    path = tmp_path / "runs"
    shutil.copytree(runs, path)
    main(["train", "--resume", str(path / "seed-6"), "--total-frames", "256"])
    capsys.readouterr()
    before = {one: one.read_bytes() for one in path.rglob("*") if one.is_file()}
    for more in ([], ["--total-frames", "320"]):
        with pytest.raises(SystemExit):
            main(["train", "--resume", str(path), *more])
        assert "trained for 256 alone" in capsys.readouterr().err
    assert {one: one.read_bytes() for one in path.rglob("*") if one.is_file()} == before


def test_complete_runs_are_evaluated_again_and_fewer_frames_are_refused(runs, tmp_path, capsys):
    path = tmp_path / "runs"
    shutil.copytree(runs, path)
    main(["train", "--resume", str(path)])
    assert "the runs are complete" in capsys.readouterr().err
    assert len((path / "seed-5" / "results.jsonl").read_text().splitlines()) == 2
    with pytest.raises(SystemExit):
        main(["train", "--resume", str(path), "--total-frames", "64"])
    assert "total_frames: 64 is not accepted; it must be >= 192" in capsys.readouterr().err
    assert len(read_columns(path / "seed-5")["frames"]) == 6


def test_runs_that_ended_before_their_first_checkpoint_begin_again(runs, tmp_path):
    path = tmp_path / "runs"
    shutil.copytree(runs, path)
    for seed in (5, 6):
        shutil.rmtree(path / f"seed-{seed}" / "checkpoints")
    shutil.rmtree(path / "seed-6")
    main(["train", "--resume", str(path)])
    for seed in (5, 6):
        found, expected = (read_columns(one / f"seed-{seed}") for one in (path, runs))
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_one_seed_goes_on_alone(runs, tmp_path):
    path = tmp_path / "runs"
    shutil.copytree(runs, path)
    main(["train", "--resume", str(path / "seed-6"), "--total-frames", "256"])
    assert len(read_columns(path / "seed-6")["frames"]) == 8
    assert len(read_columns(path / "seed-5")["frames"]) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-seeds", "0"], "num_seeds: 0"),
        (["--num-seeds", "2", "--num-devices", "2"], "1 on several devices"),
        (["--num-seeds", "2", "--env-id", "gym/CartPole-v1"], "environments outside of JAX"),
        (["--num-seeds", "2", "--evaluate-every-frames", "64"], "1 with evaluate_every_frames"),
        (["--num-seeds", "2", "--seed", str(2**32 - 1)], "below 2"),
        (["--num-seeds", "100000000"], "does not fit"),
    ],
)
def test_what_cannot_be_is_said_before(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "a2c", *SMALL, "--total-frames", "192", *arguments, "--out", str(tmp_path / "run")])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_folder_of_several_runs_says_where_they_are(runs, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", str(runs)])
    assert "seed-5 in it" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "--resume", str(runs), "--num-seeds", "3"])
    assert "num_seeds: 3" in capsys.readouterr().err
