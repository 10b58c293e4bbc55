"""Tests of sweeps over settings."""

import json
from typing import Any

import jax
import numpy as np
import pytest

from purejaxrl_a3c import InputError, a2c, a3c, make_train, replace, sweep
from purejaxrl_a3c.config import flat
from purejaxrl_a3c.run.arguments import parse_train
from purejaxrl_a3c.run.cli import main
from purejaxrl_a3c.run.evaluate import run_episodes
from purejaxrl_a3c.run.sweep import Done, _Programs
from purejaxrl_a3c.run.sweep_request import Range
from purejaxrl_a3c.run.sweep_request import parse as parse_sweep
from purejaxrl_a3c.run.train import build

pytestmark = pytest.mark.usefixtures("no_cache_in_the_home_folder")

CONFIG = replace(a2c.Config(), env_id="Catch-bsuite", num_envs=4, total_frames=1_600, hidden_sizes=(4,))
KEYS = jax.random.split(jax.random.key(0), 3)
GRID: dict[str, list[Any]] = {"learning_rate": [1e-3, 1e-2], "hidden_sizes": [(4,), (8,)]}


@pytest.fixture(scope="module")
def found():
    return sweep(CONFIG, GRID, KEYS, episodes=6)


def test_every_run_is_that_of_make_train(found):
    assert found.points == [
        {"learning_rate": rate, "hidden_sizes": sizes} for rate in (1e-3, 1e-2) for sizes in ((4,), (8,))
    ]
    for i, point in enumerate(found.points):
        config = replace(CONFIG, **point)
        train = jax.jit(make_train(config))
        for j in range(3):
            result = train(KEYS[j])
            key = jax.random.fold_in(KEYS[j], result.state.iteration)
            returns = run_episodes(build(config), result.state, key, 6, deterministic=True).returns
            np.testing.assert_allclose(found.returns[i, j], returns.mean(), atol=1e-5)
            metrics = result.metrics
            bins = np.arange(len(metrics.frames)) * 50 // len(metrics.frames)
            sums, episodes = (np.bincount(bins, x, 50) for x in (metrics.return_sum, metrics.episodes))
            expected = np.where(episodes > 0, sums / np.maximum(episodes, 1), np.nan)
            np.testing.assert_allclose(found.curves[i, j], expected, atol=1e-5)
    assert (found.frames == 1_600).all()


def test_the_best_point_has_the_largest_interquartile_mean(found):
    assert found.scores[found.order[0]] == found.scores.max()
    assert found.best == found.points[int(found.scores.argmax())]
    returns = np.array([[1.0, 2.0, 3.0], [5.0, np.nan, 5.0], [4.0, 4.0, 4.0], [9.0, 9.0, 9.0]])
    ordered = found._replace(returns=returns, frames=np.array([4, 4, 4, 2])).order
    assert ordered.tolist() == [2, 0, 1, 3]  # what is not finite after all others, what was dropped after those


def test_the_size_of_batches_changes_nothing(found):
    small = sweep(CONFIG, GRID, KEYS, episodes=6, batch_size=2)
    np.testing.assert_allclose(small.returns, found.returns, atol=1e-5)


@pytest.mark.parametrize(("rates", "expected"), [([100.0, 300.0], 12), ([100.0, 104.0], 6)])
def test_as_many_are_trained_side_by_side_as_are_fastest(rates, expected, monkeypatch):
    """Twice as many are taken if they are 5 % faster."""
    measured: list[int] = []

    def rate(programs, runs, plans, keys):
        measured.append(programs.width)
        return rates[len(measured) - 1]

    monkeypatch.setattr(_Programs, "rate", rate)
    widths: list[int] = []
    points = {"learning_rate": [1e-4, 1e-3, 1e-2, 3e-2]}
    found = sweep(CONFIG, points, KEYS, episodes=2, on_done=lambda done: widths.append(len(done)))
    assert measured == [6, 12]
    assert widths == [expected] * (12 // expected)
    assert np.isfinite(found.returns).all()


def test_the_rate_of_a_width_is_measured(monkeypatch):
    monkeypatch.setattr("purejaxrl_a3c.run.sweep._MEASURED_SECONDS", 0.01)
    points = {"learning_rate": [1e-4, 1e-3, 1e-2, 3e-2]}
    chosen = sweep(CONFIG, points, KEYS, episodes=2)
    twelve = sweep(CONFIG, points, KEYS, episodes=2, batch_size=12)
    np.testing.assert_allclose(chosen.returns, twelve.returns, atol=1e-5)


def test_halving_drops_the_worse_half_and_the_others_go_on_as_if_nothing_had_been(found):
    done: list[Done] = []
    halved = sweep(CONFIG, GRID, KEYS, episodes=6, halvings=1, on_done=done.extend)
    assert sorted(halved.frames) == [800, 800, 1_600, 1_600]
    kept = halved.frames == 1_600
    np.testing.assert_allclose(halved.returns[kept], found.returns[kept], atol=1e-5)
    np.testing.assert_allclose(halved.curves[kept], found.curves[kept], atol=1e-5)
    assert len(done) == 12 + 6
    middle = {point: np.mean([one.score for one in done[:12] if one.point == point]) for point in range(4)}
    assert min(middle[int(i)] for i in np.flatnonzero(kept)) >= max(middle[int(i)] for i in np.flatnonzero(~kept)) - 0.7
    assert set(halved.order[:2]) == set(np.flatnonzero(kept))
    # After an interruption only what is missing is trained, from the start if its state is gone.
    more: list[Done] = []
    again = sweep(CONFIG, GRID, KEYS, episodes=6, halvings=1, done=done[:14], on_done=more.extend)
    assert len(more) == 4
    np.testing.assert_allclose(again.returns, halved.returns, atol=1e-5)


@pytest.mark.parametrize(
    ("points", "arguments", "message"),
    [
        ({"learning_rate": [1e-3, -1.0]}, {}, "learning_rate: -1.0"),
        ({"learning_rat": [1e-3]}, {}, "nearest: learning_rate"),
        ([], {}, "at least one point"),
        ([{"gamma": 0.9}, {"learning_rate": 0.1}], {}, "all of the same settings"),
        ({"env_id": ["CartPole-v1", "gym/CartPole-v1"]}, {}, "env_id: 'gym/CartPole-v1'.*an environment of JAX"),
        (GRID, {"batch_size": -1}, "batch_size: -1"),
        (GRID, {"halvings": -1}, "halvings: -1"),
    ],
)
def test_what_is_not_accepted_is_said_before(points, arguments, message):
    with pytest.raises(InputError, match=message):
        sweep(CONFIG, points, KEYS, **arguments)


def request(text):
    return parse_sweep(text.split())


def test_values_on_the_command_line():
    asked = request(
        "ppo --env-id Catch-bsuite --learning-rate log:1e-4:1e-2:3 --entropy-coefficient 0,0.01 "
        "--hidden-sizes 64,64/128 --core gru --anneal-learning-rate true,false --seeds 2 --total-frames 1e5"
    )
    assert (asked.name, flat(asked.config)["env_id"], flat(asked.config)["core"]) == ("ppo", "Catch-bsuite", "gru")
    assert flat(asked.config)["total_frames"] == 100_000
    assert asked.options.seeds == 2
    assert len(asked.points) == 3 * 2 * 2 * 2
    assert asked.points[0] == {
        "learning_rate": 1e-4,
        "entropy_coefficient": 0.0,
        "hidden_sizes": (64, 64),
        "anneal_learning_rate": True,
    }
    assert {point["learning_rate"] for point in asked.points} == {1e-4, 1e-3, 1e-2}
    assert {point["hidden_sizes"] for point in asked.points} == {(64, 64), (128,)}
    np.testing.assert_allclose(Range("lin", 1, 3, 3).at(np.linspace(0, 1, 3)), [1, 2, 3])


def test_random_points_are_drawn_from_ranges_and_lists():
    asked = request("a3c --learning-rate log:1e-4:1e-2 --gamma lin:0.9:0.99 --num-workers 4,8 --samples 50")
    rates = np.array([point["learning_rate"] for point in asked.points])
    assert len(set(rates)) > 40
    assert rates.min() >= 1e-4
    assert rates.max() <= 1e-2
    assert 10 <= (rates < 1e-3).sum() <= 40
    assert {point["num_workers"] for point in asked.points} == {4, 8}
    assert (
        request("a3c --learning-rate log:1e-4:1e-2 --samples 5").points
        == request("a3c --learning-rate log:1e-4:1e-2 --samples 5").points
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a4c", "algorithm: 'a4c'"),
        ("a3c --learning-rat 1", "argument: '--learning-rat'"),
        ("a3c learning-rate 1", "argument: 'learning-rate'"),
        ("a3c --learning-rate", "learning_rate: ''.*a value"),
        ("a3c --learning-rate fast", "learning_rate: 'fast'.*float"),
        ("a3c --learning-rate log:0:1:3", "learning_rate: 'log:0:1:3'"),
        ("a3c --learning-rate log:1e-4:1e-2", "given a number of values"),
        ("a3c --num-workers 1.5", "num_workers: '1.5'.*int"),
        ("a3c --core lsmt", "core: 'lsmt'.*gru"),
        ("a3c --seeds 0", "seeds: 0"),
        ("a3c --seeds many", "seeds: 'many'"),
        ("a3c --gamma 0.9,1.5", "gamma: 1.5"),
    ],
)
def test_what_the_command_line_does_not_accept_names_the_argument(text, message):
    with pytest.raises(InputError, match=message):
        request(text)


def test_the_command_line_keeps_a_sweep_and_goes_on_with_it(tmp_path, capsys):
    out = tmp_path / "sweep"
    argv = ["sweep", "a3c", "--env-id", "Catch-bsuite", "--total-frames", "1600", "--hidden-sizes", "4/8"]
    argv += ["--num-workers", "2", "--learning-rate", "log:1e-3:1e-2:2", "--seeds", "2", "--evaluation-episodes", "3"]
    main([*argv, "--out", str(out), "--json"])
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert first["runs"] == 8
    rows = (out / "results.jsonl").read_text().splitlines()
    assert len(rows) == 8
    table = (out / "table.md").read_text().splitlines()
    assert len(table) == 2 + 4
    assert (out / "sweep.png").stat().st_size > 10_000
    # Killed in the middle of a row.
    (out / "results.jsonl").write_text("\n".join([*rows[:5], rows[5][:20]]))
    main([*argv, "--out", str(out), "--json"])
    second = json.loads(capsys.readouterr().out.splitlines()[-1])
    kept = [json.loads(row) for row in (out / "results.jsonl").read_text().splitlines()]
    assert len({(row["point"], row["seed"]) for row in kept}) == len(kept) == 8
    assert second["best"] == first["best"]
    np.testing.assert_allclose(second["score"], first["score"])
    assert (out / "table.md").read_text().splitlines() == table
    with pytest.raises(SystemExit):
        main([*argv[:-1], "4", "--out", str(out)])
    assert "one of the same sweep" in " ".join(capsys.readouterr().err.split())
    asked = parse_train(["train", "--config", str(out / "best.json"), "--seed", "3"])
    assert asked.name == "a3c"
    best = {name: tuple(value) if isinstance(value, list) else value for name, value in first["best"].items()}
    base = replace(a3c.Config(), env_id="Catch-bsuite", total_frames=1_600, num_workers=2)
    assert asked.config == replace(base, **best)


def test_settings_in_a_file_are_those_of_one_algorithm(tmp_path):
    file = tmp_path / "best.json"
    file.write_text("{}")
    with pytest.raises(InputError, match=r"config: .*config\.json of a run"):
        parse_train(["train", "--config", str(file)])
    main(["train", "a2c", "--env-id", "Catch-bsuite", "--total-frames", "800", "--out", str(tmp_path / "run")])
    file = tmp_path / "run" / "config.json"
    asked = parse_train(["train", "--config", str(file), "--gamma", "0.5"])
    assert asked.config == replace(a2c.Config(), env_id="Catch-bsuite", total_frames=800, gamma=0.5)
    with pytest.raises(InputError, match=r"algorithm: 'ppo'.*a2c"):
        parse_train(["train", "ppo", "--config", str(file)])
    with pytest.raises(InputError, match="a resumed run has settings of its own"):
        parse_train(["train", "--resume", str(tmp_path / "run"), "--config", str(file)])
