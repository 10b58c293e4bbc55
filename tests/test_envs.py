from typing import Any

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest

from purejaxrl_a3c import a2c, envs, evaluate, make_train
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.envs import wrappers

# MNISTBandit needs a data set that gymnax does not ship.
BUILT_IN = [name for name in gymnax.registered_envs if not name.endswith("-probe") and "MNIST" not in name]


def make(env_id):
    return envs.make(envs.Config(env_id=env_id), gamma=0.99)


def play(env, actions, seed=0):
    """Time steps ``[T]`` of one environment under a sequence of actions, and the observation before each."""
    key_reset, key_step = jax.random.split(jax.random.key(seed))

    def tick(loop, x):
        state, obs = loop
        key, action = x
        state, timestep = env.step(key, state, action)
        return (state, timestep.obs), (obs, timestep)

    start = env.reset(key_reset)
    _, (obs, timesteps) = jax.jit(
        lambda: jax.lax.scan(tick, start, (jax.random.split(key_step, (len(actions), 2)), actions))
    )()
    return obs, timesteps


@pytest.mark.parametrize("env_id", BUILT_IN)
def test_every_environment_of_gymnax_can_be_scanned_and_reports_strict_types(env_id):
    key = jax.random.key(0)
    with jax.numpy_rank_promotion("allow"):  # not for our code: gymnax's Swimmer relies on it
        env = make(env_id)
        state, obs = jax.eval_shape(env.reset, key)
        action = jax.eval_shape(env.action_space.sample, key)
        next_state, timestep = jax.eval_shape(env.step, jax.random.split(key), state, action)
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), (state, obs), (next_state, timestep.obs))
    assert jax.tree.all(same)
    assert obs.shape == env.observation_shape == timestep.final_obs.shape
    assert timestep.reward.dtype == timestep.episode_return.dtype == jnp.float32
    assert timestep.terminated.dtype == timestep.truncated.dtype == bool
    assert timestep.reward.shape == timestep.terminated.shape == ()


def test_a_time_limit_truncates_and_shows_the_true_successor():
    env = make("Copy-probe")
    obs, timesteps = play(env, jnp.zeros(25, jnp.int32))
    np.testing.assert_array_equal(np.flatnonzero(timesteps.truncated), [9, 19])
    assert not timesteps.terminated.any()
    # The clock in the observation reads 10 steps at the cut, and 0 after the reset.
    np.testing.assert_allclose(timesteps.final_obs[[9, 19], 2], 1.0)
    np.testing.assert_allclose(timesteps.obs[[9, 19], 2], 0.0)
    np.testing.assert_allclose(timesteps.final_obs[:9], obs[1:10])


def test_terminated_wins_where_an_environment_reports_both():
    _, timesteps = play(make("EndingOnTime-probe"), jnp.zeros(9, jnp.int32))
    np.testing.assert_array_equal(np.flatnonzero(timesteps.terminated), [2, 5, 8])
    assert not timesteps.truncated.any()


def test_every_reward_is_counted_once_in_the_episode_statistics():
    actions = jax.random.bernoulli(jax.random.key(1), 0.7, (60,)).astype(jnp.int32)
    _, timesteps = play(make("Gamble-probe"), actions)
    last = np.asarray(timesteps.terminated | timesteps.truncated)
    assert 5 < last.sum() < 50
    total, length = 0.0, 0
    for t in range(60):
        total, length = total + timesteps.reward[t], length + 1
        assert timesteps.episode_return[t] == total
        assert timesteps.episode_length[t] == length
        if last[t]:
            total, length = 0.0, 0


def test_an_unknown_name_is_answered_with_the_nearest_ones():
    with pytest.raises(ValueError, match=r"env_id: 'CartPol' is not accepted; .* nearest: CartPole-v1"):
        make("CartPol")


@pytest.mark.parametrize("env_id", ["Hopper-v4", "x", ""])
def test_no_more_than_three_names_are_offered(env_id):
    with pytest.raises(InputError, match="the name of a gymnax environment; nearest: ") as error:
        make(env_id)
    assert len(str(error.value).partition("nearest: ")[2].split(", ")) == 3


def test_data_that_cannot_be_had_is_a_clear_error(monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(gymnax, "make", no_network)
    with pytest.raises(ValueError, match=r"env_id: 'MNISTBandit-bsuite' is not accepted; .*no network"):
        make("MNISTBandit-bsuite")


@pytest.mark.parametrize("env_id", BUILT_IN)
def test_every_environment_trains_in_a_sweep_and_is_evaluated(env_id):
    """Traced only: building an environment inside a trace is what some constructors do not expect."""
    config = replace(a2c.Config(), env_id=env_id, num_envs=2, rollout_length=2, hidden_sizes=(4,), total_frames=8)
    key = jax.random.key(0)

    def sweep(rates):
        def final_return(rate):
            state = make_train(replace(config, learning_rate=rate))(key).state
            return evaluate(config, state, key, episodes=3)

        return jax.vmap(final_return)(rates)

    with jax.numpy_rank_promotion("allow"):  # as above
        assert jax.eval_shape(sweep, jnp.ones(2)).shape == (2, 3)


# Continuous actions


def to_env(env, action):
    """The action that gymnax's environment is given for ours."""
    state, _ = env.reset(jax.random.key(0))
    return env.step(jax.random.key(0), state, action)[1].obs


def test_the_bounds_of_an_action_count_one_by_one():
    env = envs.make_episodic("Bounds-probe")
    space: Any = env.action_space
    assert space.bounded_components == (False, True, False, False)
    assert not space.bounded
    actions = jnp.array([[0.5, 0.5, 0.5, 0.5], [-7.0, -7.0, -7.0, -7.0], [7.0, 7.0, 7.0, 7.0], [0.0, 0.0, 0.0, 0.0]])
    # One bound clips, two are mapped to, none leaves an action as it is.
    expected = [[0.5, 2.0, 0.5, 0.5], [0.0, -1.0, -7.0, -7.0], [7.0, 3.0, 7.0, 2.0], [0.0, 1.0, 0.0, 0.0]]
    np.testing.assert_allclose(jax.jit(jax.vmap(lambda action: to_env(env, action)))(actions), expected, rtol=1e-6)


def test_random_actions_stay_within_all_finite_bounds():
    env = envs.make_episodic("Bounds-probe")
    actions = jax.vmap(env.action_space.sample)(jax.random.split(jax.random.key(0), 500))
    given = np.asarray(jax.jit(jax.vmap(lambda action: to_env(env, action)))(actions))
    assert (given >= probes.Bounds.low).all()
    assert (given <= probes.Bounds.high).all()
    assert given[:, 1].min() < -0.9
    assert given[:, 1].max() > 2.9
    assert np.isfinite(given).all()


# Observations without an axis


@pytest.mark.parametrize(("field", "value"), [("observe", (0,)), ("frame_stack", 2)])
def test_wrappers_of_the_last_axis_refuse_an_observation_without_one(field, value):
    config = replace(envs.Config(env_id="Scalar-probe"), **{field: value})
    hint = {"observe": "empty", "frame_stack": "1, or flatten True"}[field]
    with pytest.raises(InputError, match=rf"{field}: .* is not accepted; it must be {hint}.*no axis"):
        envs.make(config, gamma=0.99)


def test_a_flattened_number_is_a_vector_and_can_be_stacked():
    for frames in (1, 3):
        env = envs.make(replace(envs.Config(env_id="Scalar-probe"), flatten=True, frame_stack=frames), gamma=0.99)
        assert env.observation_shape == (frames,)
        obs, timesteps = play(env, jnp.zeros(5, jnp.int32))
        assert obs.shape == timesteps.final_obs.shape == (5, frames)


# Environments that are objects


def test_an_episodic_object_is_wrapped_like_any_other_environment():
    config = replace(envs.Config(env_id=probes.pictures(5)), time_limit=3, flatten=True)
    env = envs.make(config, gamma=0.99)
    assert env.observation_shape == (12,)
    _, timesteps = play(env, jnp.zeros(9, jnp.int32))
    np.testing.assert_array_equal(timesteps.truncated, np.arange(9) % 3 == 2)
    np.testing.assert_array_equal(timesteps.episode_length, np.arange(9) % 3 + 1)
    np.testing.assert_array_equal(timesteps.episode_return, np.arange(9) % 3 + 1.0)


def self_resetting():
    return wrappers.auto_reset(wrappers.record_episodes(probes.pictures(5)))


def test_an_object_that_resets_itself_is_used_as_it_is():
    env = self_resetting()
    assert envs.make(envs.Config(env_id=env), gamma=0.99) is env


@pytest.mark.parametrize(
    ("field", "value"),
    [("time_limit", 3), ("clip_rewards", jnp.float32(1.0)), ("sticky_actions", 0.0), ("observe", (0,))],
)
def test_an_object_that_resets_itself_takes_no_wrappers(field, value):
    config = replace(envs.Config(env_id=self_resetting()), **{field: value})
    with pytest.raises(InputError, match=f"{field}: .* for an Env that resets itself"):
        envs.make(config, gamma=0.99)


@pytest.mark.parametrize("make_env", [self_resetting, lambda: probes.pictures(5)])
def test_an_object_takes_no_parameters(make_env):
    config = replace(envs.Config(env_id=make_env()), env_params={"length": 5.0})
    with pytest.raises(InputError, match=r"env_params: .* it must be empty"):
        envs.make(config, gamma=0.99)


def without_records(env):
    def step(keys, state, action):
        state, timestep = env.step(keys, state, action)
        return state, timestep._replace(episode_return=None, episode_length=None)

    return env._replace(step=step)


@pytest.mark.parametrize(
    ("env", "accepted"),
    [
        (without_records(self_resetting()), "an Env that reports episode_return and episode_length"),
        (probes.pictures(5)._replace(observation_shape=(12,)), r"observation_shape is \(12,\)"),
        (probes.pictures(5)._replace(action_space=5), "one of those in envs.spaces"),
    ],
)
def test_an_object_that_cannot_be_trained_in_is_refused(env, accepted):
    with pytest.raises(InputError, match=f"env_id: .*{accepted}"):
        envs.make(envs.Config(env_id=env), gamma=0.99)
