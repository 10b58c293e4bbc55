import re

import jax
import jax.numpy as jnp
import numpy as np
import probes  # noqa: F401  (registers the probe environments)
import pytest

from purejaxrl_a3c import a2c, a3c, envs, evaluate, make_train
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.config import replace

# Of CartPole, whose gravity is 9.8.
CONFIG = replace(a2c.Config(), num_envs=4, hidden_sizes=(8,), shared_torso=True, total_frames=400)
KEY = jax.random.key(0)


def with_gravity(gravity):
    return replace(CONFIG, env_params={"gravity": gravity})


def train_and_evaluate(gravity):
    """Metrics and state of a run, and the returns of an evaluation, all under the same gravity."""
    result = make_train(with_gravity(gravity))(KEY)
    return result, evaluate(with_gravity(gravity), result.state, KEY, episodes=16)


@pytest.fixture(scope="module")
def sweep():
    """A run for the default and one for another gravity, both at once."""
    runs = jax.jit(jax.vmap(train_and_evaluate))(jnp.array([9.8, 30.0]))
    return [jax.tree.map(lambda x, i=i: x[i], runs) for i in range(2)]


def close(one, other):
    return all(
        np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def test_a_parameter_of_the_environment_changes_what_is_trained_and_evaluated(sweep):
    (light, light_returns), (heavy, heavy_returns) = sweep
    assert not close(light.metrics.losses["value_loss"], heavy.metrics.losses["value_loss"])
    assert not close(light.state.learner.params, heavy.state.learner.params)
    assert (light_returns != heavy_returns).any()


def test_runs_that_are_mapped_over_a_parameter_are_the_runs_one_by_one(sweep):
    assert close(sweep[1][0], jax.jit(make_train(with_gravity(30.0)))(KEY))


def test_the_default_given_by_name_is_the_same_program():
    programs = [str(jax.make_jaxpr(make_train(config))(KEY)) for config in (CONFIG, with_gravity(9.8), with_gravity(3))]
    programs = [re.sub("0x[0-9a-f]+", "", program) for program in programs]  # addresses, which older JAX prints
    assert programs[0] == programs[1] != programs[2]


def test_an_evaluation_is_of_the_parameters_it_is_given_not_of_those_it_compiled_last():
    """`env_params` is a dict, so it is not part of the config's hash."""
    config = replace(CONFIG, env_id="Diary-probe", env_params={"length": 3}, total_frames=20)
    state = jax.jit(config.build().init)(KEY)
    longer = replace(config, env_params={"length": 6})
    returns = [evaluate(c, state, KEY, episodes=8) for c in (config, longer, config)]
    # The clock pays a quarter more every step, and actions pay whole numbers.
    for values, length in zip(returns, (3, 6, 3), strict=True):
        np.testing.assert_array_equal(values % 1, sum(0.25 * time for time in range(length)) % 1)
    np.testing.assert_array_equal(returns[0], returns[2])


@pytest.mark.parametrize("number", [4, 4.0, np.float32(4), np.asarray(4), jnp.float32(4)])
def test_a_parameter_may_be_any_kind_of_number(number):
    env = envs.make(envs.Config(env_id="Diary-probe", env_params={"length": number}), gamma=0.99)
    step = jax.jit(env.step)
    state, _ = env.reset(KEY)
    ends = []
    for key in jax.random.split(KEY, 8):
        state, timestep = step(jax.random.split(key), state, jnp.int32(0))
        ends.append(bool(timestep.terminated))
    assert ends == [False, False, False, True] * 2


@pytest.mark.parametrize("algorithm", [a2c, a3c])
def test_an_unknown_parameter_is_answered_with_those_there_are(algorithm):
    with pytest.raises(InputError, match=r"env_params: 'gravty' is not accepted; .* CartPole-v1: .*gravity, masscart"):
        make_train(replace(algorithm.Config(), env_params={"gravity": 9.8, "gravty": 1.0}))


@pytest.mark.parametrize("value", ["9.8", None, True, float("nan"), np.ones(2), jnp.ones(2)])
def test_a_parameter_that_is_no_number_is_refused(value):
    with pytest.raises(InputError, match=r"env_params gravity: .* is not accepted"):
        make_train(replace(CONFIG, env_params={"gravity": value}))


def test_a_parameter_that_bounds_the_actions_moves_the_bounds():
    """Full throttle of Pendulum is all the torque that there is."""

    def torques(most):
        env = envs.make_episodic("Pendulum-v1", {"max_torque": most})
        state, _ = env.reset(KEY)
        return jnp.stack([env.step(KEY, state, jnp.array([action]))[0].last_u for action in (1.0, 0.5, -2.0)])

    most = np.array([0.5, 2.0, 5.0], np.float32)
    np.testing.assert_allclose(jax.jit(jax.vmap(torques))(most).T, np.stack([most, most / 2, -most]), rtol=1e-6)
    np.testing.assert_allclose(torques(5.0), [5.0, 2.5, -5.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("env_id", "name", "value", "accepted"),
    [
        ("CartPole-v1", "max_steps_in_episode", -5, "a whole number >= 1"),
        ("CartPole-v1", "max_steps_in_episode", 0, "a whole number >= 1"),
        ("CartPole-v1", "max_steps_in_episode", 50.5, "a whole number >= 1"),
        ("CartPole-v1", "max_steps_in_episode", jnp.float32(50.5), "a whole number >= 1"),
        ("Asterix-MinAtar", "ramp_interval", 2.5, "a whole number"),
        ("Asterix-MinAtar", "ramping", 0.5, "0 or 1"),
        ("Acrobot-v1", "available_torque", 1.0, "left out"),
    ],
)
def test_a_parameter_that_counts_is_a_whole_number(env_id, name, value, accepted):
    with pytest.raises(InputError, match=rf"env_params {name}: .* is not accepted; it must be {accepted}"):
        envs.make_episodic(env_id, {name: value})


@pytest.mark.parametrize("value", [50, 50.0, np.int64(50), jnp.float32(50)])
def test_a_whole_number_may_be_written_in_any_way(value):
    env = envs.make_episodic("Forever-probe", {"max_steps_in_episode": value})
    state, _ = env.reset(KEY)
    cut = jax.vmap(lambda time: env.step(KEY, state.replace(time=time), jnp.int32(0))[1].truncated)(jnp.array([48, 49]))
    np.testing.assert_array_equal(cut, [False, True])


def test_a_traced_parameter_has_no_value_to_check():
    def cut(limit):
        env = envs.make_episodic("Forever-probe", {"max_steps_in_episode": limit})
        return env.step(KEY, env.reset(KEY)[0], jnp.int32(0))[1].truncated

    np.testing.assert_array_equal(jax.jit(jax.vmap(cut))(jnp.array([1.0, 2.0])), [True, False])
