"""Tests of the settings that the package ships."""

import json

import pytest

from benchmarks.tuned import collect
from purejaxrl_a3c import InputError, replace
from purejaxrl_a3c.config import flat
from purejaxrl_a3c.run.algorithms import ALGORITHMS
from purejaxrl_a3c.run.arguments import parse_train
from purejaxrl_a3c.run.train import build
from purejaxrl_a3c.run.tuned import FILE, read, tuned

PAIRS = [(name, env_id) for name, rows in read().items() for env_id in rows]


def test_each_is_in_a_committed_table():
    assert json.loads(FILE.read_text()) == collect()
    assert {("ppo", "Breakout-MinAtar"), ("dqn", "CartPole-v1"), ("sac", "Pendulum-v1")} <= set(PAIRS)


@pytest.mark.parametrize(("name", "env_id"), PAIRS)
def test_each_can_be_trained_with(name, env_id):
    if "/" in env_id:
        pytest.importorskip(env_id.partition("/")[0])
    config = tuned(name, env_id)
    assert type(config) is type(ALGORITHMS[name])
    assert flat(config)["env_id"] == env_id
    build(config)


def test_the_command_line_starts_from_them():
    asked = parse_train(["train", "ppo", "--env-id", "Breakout-MinAtar", "--tuned", "--gamma", "0.5"])
    assert asked.config == replace(tuned("ppo", "Breakout-MinAtar"), gamma=0.5)
    assert parse_train(["train", "a3c", "--tuned"]).config == tuned("a3c", "CartPole-v1")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["ppo", "--env-id", "FourRooms-misc", "--tuned"],
            "tuned: 'FourRooms-misc'.*there are some for .*Breakout-MinAtar",
        ),
        (["impala", "--tuned"], "there are none for this algorithm"),
        (["a3c", "--tuned", "--config", "x.json"], "config: 'x.json'"),
    ],
)
def test_without_any_those_that_there_are_are_named(argv, message):
    with pytest.raises(InputError, match=message):
        parse_train(["train", *argv])
