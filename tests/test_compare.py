"""Tests of the comparison of runs."""

import json

import numpy as np
import pytest

from purejaxrl_a3c import InputError, a2c, ppo, replace
from purejaxrl_a3c.config import to_json
from purejaxrl_a3c.run import compare
from purejaxrl_a3c.run.cli import main

pytestmark = pytest.mark.usefixtures("no_cache_in_the_home_folder")


def write(folder, config, seed, returns, score=None, algorithm="a2c"):
    """The folder of a run, as far as it is looked at."""
    folder.mkdir(parents=True)
    record = {"algorithm": algorithm, "seed": seed, "config": to_json(config)}
    (folder / "config.json").write_text(json.dumps(record))
    rows = [f"{100 * (i + 1)},{int(x is not None)},{'' if x is None else x},5" for i, x in enumerate(returns)]
    (folder / "metrics.csv").write_text("\n".join(["frames,episodes,episode_return,episode_length", *rows]) + "\n")
    if score is not None:
        (folder / "results.jsonl").write_text(json.dumps({"evaluation_return_mean": score}) + "\n")
    return folder


@pytest.fixture
def folders(tmp_path):
    fast = replace(a2c.Config(), learning_rate=0.1)
    made = [write(tmp_path / f"a{seed}", a2c.Config(), seed, [None, 1.0, 2.0], 10.0 + seed) for seed in range(4)]
    return [*made, *(write(tmp_path / f"b{seed}", fast, seed, [1.0, 2.0, 9.0], 12.0 + seed) for seed in range(4))]


def test_runs_that_differ_in_their_seeds_are_one_group(folders):
    one, two = compare.group([compare.read_run(folder) for folder in folders])
    assert one.label.startswith("A2C, learning_rate 0.0")
    assert two.label == "A2C, learning_rate 0.1"
    assert one.scores.tolist() == [10, 11, 12, 13]
    assert np.isnan(one.runs[0].curve[0])  # no episode had ended
    assert one.runs[0].curve[-1] == 2
    found = compare.estimate(one.scores)
    assert found.middle == 11.5  # the mean of the middle two
    assert 10 <= found.low < 11.5 < found.high <= 13
    # Of 16 pairs 2 + 3 + 4 + 4 are larger, and two are equal.
    assert compare.chance_of_improvement(two.scores, one.scores) == (13 + 1) / 16


def test_what_differs_is_named(folders, tmp_path):
    other = write(tmp_path / "ppo", ppo.Config(), 0, [1.0, 2.0, 3.0], algorithm="ppo")
    runs = [compare.read_run(folder) for folder in (folders[0], other)]
    # One was not evaluated, so the ends of the curves are compared.
    assert [one.scores.tolist() for one in compare.group(runs)] == [[2.0], [3.0]]
    assert "while training" in compare.table(compare.group(runs))
    found = compare.differences(runs)
    assert found["algorithm"] == ["a2c", "ppo"]
    assert found["clip_range"] == [None, 0.2]
    assert "gamma" not in found or found["gamma"][0] != found["gamma"][1]
    assert [one.label for one in compare.group(runs)] == ["A2C 1", "PPO 2"]


def test_the_command_line_compares(folders, tmp_path, capsys):
    picture = tmp_path / "picture.png"
    main(["compare", *map(str, folders), "--out", str(picture)])
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 4
    assert "| 300 | 4 | 11.5 |" in rows[2]
    assert "| 88 % |" in rows[3]
    assert picture.stat().st_size > 10_000
    before = picture.read_bytes()
    main(["compare", str(folders[0]), "--out", str(picture)])
    assert picture.read_bytes() == before
    assert len(list(tmp_path.glob("picture*"))) == 2


@pytest.mark.parametrize("missing", ["config.json", "metrics.csv"])
def test_what_is_no_run_is_said(missing, folders):
    (folders[0] / missing).unlink()
    with pytest.raises(InputError, match=r"run: .*a0"):
        compare.read_run(folders[0])


def test_a_run_that_comes_twice_is_said(folders):
    with pytest.raises(InputError, match="with another seed or other settings"):
        compare.group([compare.read_run(folders[0])] * 2)
