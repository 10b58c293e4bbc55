from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import probes  # noqa: F401  (registers the probe environments)
import pytest

from purejaxrl_a3c import a2c, evaluate
from purejaxrl_a3c.networks.distributions import Categorical
from purejaxrl_a3c.run.evaluate import run_episodes
from purejaxrl_a3c.types import Outputs

CONFIG = a2c.Config(env_id="Gamble-probe", num_envs=2, hidden_sizes=(4,), total_frames=100)


@pytest.fixture(scope="module")
def state():
    return CONFIG.build().init(jax.random.key(0))


def with_policy(logits):
    outputs = Outputs(Categorical(jnp.array(logits)), jnp.float32(0))
    return CONFIG.build()._replace(policy=lambda state: lambda carry, obs, first: (carry, outputs))


def test_short_episodes_are_not_counted_more_often(state):
    """Action 0 ends an episode, half of the time: the number of steps is geometric, cut off at 20."""
    algorithm = with_policy([0.0, 0.0])
    returns, lengths = run_episodes(algorithm, state, jax.random.key(0), 4000, deterministic=False)
    np.testing.assert_array_equal(returns, lengths)
    expected = sum(0.5**k for k in range(20))  # E[min(G, 20)]
    assert returns.mean() == pytest.approx(expected, abs=4 * np.sqrt(2 / 4000))
    # An average over steps, or the first episodes to end, would have put it at or below 1.5.
    assert (returns == 1).mean() == pytest.approx(0.5, abs=0.04)


def test_a_deterministic_evaluation_takes_the_most_probable_action(state):
    for logits, expected in (([0.0, 0.1], 20), ([0.1, 0.0], 1)):
        returns, _ = run_episodes(with_policy(logits), state, jax.random.key(0), 8, deterministic=True)
        np.testing.assert_array_equal(returns, expected)


def test_every_episode_starts_afresh(state):
    trained = state._replace(position=jax.tree.map(lambda x: x + x, state.position._replace(first=False)))
    a = evaluate(CONFIG, state, jax.random.key(1), episodes=16)
    b = evaluate(CONFIG, trained, jax.random.key(1), episodes=16)
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rate", [jnp.float32(1e-3), np.asarray(1e-3), 1e-3])
def test_floats_of_the_config_do_not_matter(state, rate):
    a = evaluate(replace(CONFIG, learning_rate=rate), state, jax.random.key(1), episodes=4)
    np.testing.assert_array_equal(a, evaluate(CONFIG, state, jax.random.key(1), episodes=4))


def test_a_second_evaluation_does_not_compile_again(state, monkeypatch):
    evaluate(CONFIG, state, jax.random.key(1), episodes=6)
    keys = jax.random.key(1), jax.random.key(2)
    monkeypatch.setattr(a2c.Config, "build", None)  # what a new trace would call
    a, b = (evaluate(replace(CONFIG, gamma=0.5), state, key, episodes=6) for key in keys)
    assert (a != b).any()


@pytest.mark.parametrize("episodes", [0, "5", None, 5.0, True])
def test_episodes_must_be_a_count(state, episodes):
    with pytest.raises(ValueError, match=f"episodes: {episodes!r} is not accepted"):
        evaluate(CONFIG, state, jax.random.key(0), episodes=episodes)
