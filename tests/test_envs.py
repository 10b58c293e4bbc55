import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import probes  # noqa: F401  (registers the probe environments)
import pytest

from purejaxrl_a3c import a2c, envs, evaluate, make_train
from purejaxrl_a3c.config import replace

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
