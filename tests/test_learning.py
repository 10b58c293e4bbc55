"""The learning targets, over 10 seeds and the default settings: minutes, so only with ``-m slow``."""

import pytest

from benchmarks.learning import interquartile_mean, train_and_evaluate
from benchmarks.suites import ALGORITHMS
from purejaxrl_a3c import replace

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("optimized")]


def returns_of(name, env_id):
    return train_and_evaluate(replace(ALGORITHMS[name], env_id=env_id), seeds=10, episodes=128)[1]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_cartpole(name):
    returns = returns_of(name, "CartPole-v1")
    assert interquartile_mean(returns) >= 490
    assert returns.min() >= 450


@pytest.mark.parametrize("name", ALGORITHMS)
def test_acrobot(name):
    assert interquartile_mean(returns_of(name, "Acrobot-v1")) >= -85


@pytest.mark.parametrize("name", ALGORITHMS)
def test_catch(name):
    assert interquartile_mean(returns_of(name, "Catch-bsuite")) == 1.0
