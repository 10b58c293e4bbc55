import jax
import jax.numpy as jnp
import numpy as np
import probes  # noqa: F401  (registers the probe environments)
import pytest
from test_watch import counting

from purejaxrl_a3c import InputError, a2c, a3c, evaluate, make_train, reinforce
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.envs.spaces import Discrete
from purejaxrl_a3c.networks.distributions import Categorical
from purejaxrl_a3c.run.evaluate import in_environment, run_episodes
from purejaxrl_a3c.types import Env, Outputs, TimeStep

CONFIG = replace(a2c.Config(), env_id="Gamble-probe", num_envs=2, hidden_sizes=(4,), total_frames=100)


@pytest.fixture(scope="module")
def state():
    return CONFIG.build().init(jax.random.key(0))


def with_policy(logits):
    outputs = Outputs(Categorical(jnp.array(logits)), jnp.float32(0))
    return CONFIG.build()._replace(policy=lambda state: lambda carry, obs, first: (carry, outputs))


def test_short_episodes_are_not_counted_more_often(state):
    """Action 0 ends an episode, half of the time: the number of steps is geometric, cut off at 20."""
    algorithm = with_policy([0.0, 0.0])
    returns, lengths, _ = run_episodes(algorithm, state, jax.random.key(0), 4000, deterministic=False)
    np.testing.assert_array_equal(returns, lengths)
    expected = sum(0.5**k for k in range(20))  # E[min(G, 20)]
    assert returns.mean() == pytest.approx(expected, abs=4 * np.sqrt(2 / 4000))
    # An average over steps, or the first episodes to end, would have put it at or below 1.5.
    assert (returns == 1).mean() == pytest.approx(0.5, abs=0.04)


def test_a_deterministic_evaluation_takes_the_most_probable_action(state):
    for logits, expected in (([0.0, 0.1], 20), ([0.1, 0.0], 1)):
        returns, *_ = run_episodes(with_policy(logits), state, jax.random.key(0), 8, deterministic=True)
        np.testing.assert_array_equal(returns, expected)


def test_every_episode_starts_afresh(state):
    trained = state._replace(actor_state=jax.tree.map(lambda x: x + x, state.actor_state._replace(first=False)))
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


def test_a_network_of_parameters_that_are_not_finite_has_no_return(state):
    broken = jax.tree.map(lambda x: x.at[(0,) * x.ndim].set(jnp.nan), state.learner.params)
    returns = evaluate(CONFIG, state._replace(learner=state.learner._replace(params=broken)), jax.random.key(0), 4)
    assert np.isnan(returns).all()


def never_ending():
    """An environment that ends where action 1 is taken, and not before."""

    def reset(key):
        return jnp.int32(0), jnp.zeros(3)

    def step(key, time, action):
        end = action == 1
        return time + 1, TimeStep(jnp.zeros(3), jnp.float32(1), end, jnp.bool_(False), jnp.zeros(3))

    return Env(reset, step, observation_shape=(3,), action_space=Discrete(2))


def test_an_evaluation_that_does_not_end_is_given_up_and_says_how_to_end_it():
    config = replace(CONFIG, env_id=never_ending())
    state = config.build().init(jax.random.key(0))
    lazy = jax.tree.map(jnp.zeros_like, state.learner.params)  # of equal logits the first is the most probable one
    state = state._replace(learner=state.learner._replace(params=lazy))
    with pytest.raises(InputError, match=r"^time_limit: 0 .* 8 of 8 episodes had not ended after 50 steps"):
        evaluate(config, state, jax.random.key(0), episodes=8, deterministic=True, max_steps=50)
    assert (evaluate(config, state, jax.random.key(0), episodes=8) > 0).all()
    limited = replace(config, time_limit=7)
    np.testing.assert_array_equal(evaluate(limited, state, jax.random.key(0), 8, deterministic=True), 7)
    traced = jax.jit(lambda state: evaluate(config, state, jax.random.key(0), 8, True, max_steps=50))(state)
    assert np.isnan(traced).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_sizes": (5,)}, r"hidden_sizes: \(5,\) is not accepted; it must be \(4,\), with which the state was"),
        ({"activation": "relu"}, "activation: 'relu' .* 'tanh', with which the state was trained"),
        ({"env_id": "Copy-probe"}, "env_id: 'Copy-probe' .* 'Gamble-probe', with which the state was trained"),
        ({"frame_stack": 2}, "frame_stack: 2 .* 1, with which the state was trained"),
    ],
)
def test_a_config_that_the_state_was_not_trained_with_is_named(state, changes, message):
    with pytest.raises(InputError, match=message):
        evaluate(replace(CONFIG, **changes), state, jax.random.key(0), episodes=2)


@pytest.mark.parametrize("wrong", [None, 3, {"params": 1}, CONFIG])
def test_something_that_is_no_state_is_named(wrong):
    with pytest.raises(InputError, match=r"^state: .* a Result of this config, or its state"):
        evaluate(CONFIG, wrong, jax.random.key(0), episodes=2)


def test_a_batch_of_states_is_to_be_mapped_over(state):
    batch = jax.tree.map(lambda x: jnp.stack([x, x, x]), state)
    with pytest.raises(InputError, match=r"^state: 'a batch of 3 states' .* vmap over them"):
        evaluate(CONFIG, batch, jax.random.key(0), episodes=2)


def test_the_scale_of_a_gaussian_is_the_trained_one():
    config = replace(a2c.Config(), env_id="MountainCarContinuous-v0", initial_scale=0.01, learning_rate=0.0)
    config = replace(config, num_envs=1, total_frames=5)
    result = jax.jit(make_train(config))(jax.random.key(0))
    # Actions cost a tenth of their square: with the default scale of 1 some 50 an episode.
    assert (evaluate(config, result, jax.random.key(1), episodes=4) > -1).all()


@pytest.mark.parametrize("wrong", [0, None, "key", np.zeros(3), jax.random.split(jax.random.key(0), 3)])
def test_a_key_that_is_none_is_named(state, wrong):
    with pytest.raises(InputError, match=r"^key: "):
        evaluate(CONFIG, state, wrong, episodes=2)
    with pytest.raises(InputError, match=r"^key: "):
        make_train(CONFIG)(wrong)


def test_both_kinds_of_key_give_the_same_numbers(state):
    new, old = (evaluate(CONFIG, state, key, episodes=8) for key in (jax.random.key(3), jax.random.PRNGKey(3)))
    np.testing.assert_array_equal(new, old)


def test_a_run_of_reinforce_whose_rollouts_are_too_short_says_that_it_learns_nothing():
    config = replace(reinforce.Config(), num_envs=2, rollout_length=8, longest_episode=8, total_frames=64)
    metrics = jax.jit(make_train(replace(config, env_id="Pendulum-v1")))(jax.random.key(0)).metrics
    assert (metrics.losses["learned_steps"] == 0).all()
    metrics = jax.jit(make_train(replace(config, env_id="Pendulum-v1", time_limit=4)))(jax.random.key(0)).metrics
    assert (metrics.losses["learned_steps"] > 0).any()


def test_an_agent_is_evaluated_in_another_environment_that_looks_the_same():
    """In one whose episodes are shorter, by the statistics of observations of training."""
    config = replace(a3c.Config(), env_id=counting(5), total_frames=640, normalize_observations=True)
    result = make_train(config)(jax.random.key(0))
    other, state = in_environment(config, result, counting(3))
    assert evaluate(config, result, jax.random.key(1), 4).tolist() == [10.0] * 4
    assert evaluate(other, state, jax.random.key(1), 4).tolist() == [6.0] * 4
    with pytest.raises(InputError, match=r"env_id: .*observation_shape \(2,\)"):
        in_environment(config, result, "CartPole-v1")
