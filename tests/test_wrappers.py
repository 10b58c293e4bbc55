import functools
import math
from collections import deque
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest
import scipy.stats

from purejaxrl_a3c import a2c, envs, evaluate, make_train, networks
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.envs import normalize, spaces, statistics, wrappers
from purejaxrl_a3c.loops.layout import EnvLayout
from purejaxrl_a3c.loops.on_policy import Parts, algorithm
from purejaxrl_a3c.loops.origin import origin
from purejaxrl_a3c.types import Objective, UpdateRule

GAMMA = 0.99
ENV = envs.Config(env_id="Diary-probe")
NOISE, TAG, TIME, ACTION = range(4)  # of an observation of the Diary probe


def diary(length=5, **parameters):
    """The episodic environment, its episodes recorded."""
    return wrappers.record_episodes(envs.make_episodic("Diary-probe", {"length": length, **parameters}))


def play(env, actions, seed=0):
    """Time steps ``[T]`` of an environment that resets itself, and what was acted on before each, in NumPy."""

    @jax.jit
    def run(key, keys, actions):
        def tick(loop, x):
            state, obs = loop
            state, timestep = env.step(x[0], state, x[1])
            return (state, timestep.obs), (obs, timestep)

        return jax.lax.scan(tick, env.reset(key), (keys, actions))[1]

    keys = jax.random.split(jax.random.key(seed), 1 + 2 * len(actions))
    return jax.tree.map(np.asarray, run(keys[0], keys[1:].reshape(-1, 2), jnp.asarray(actions)))


def some_actions(steps, seed=0):
    return np.random.default_rng(seed).integers(5, size=steps).astype(np.int32)


def firsts(timesteps):
    """Which steps started an episode."""
    return np.append(True, (timesteps.terminated | timesteps.truncated)[:-1])


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


# Episodic wrappers


@pytest.mark.parametrize("frames", [3, 5, 7])
def test_a_time_limit_truncates_and_never_terminates(frames):
    """Around episodes that terminate after five steps, and whose own clock cuts them off after six."""
    own = diary(max_steps_in_episode=6)
    _, timesteps = play(wrappers.auto_reset(wrappers.time_limit(own, frames)), some_actions(20))
    ends = np.arange(1, 21) % min(frames, 5) == 0
    np.testing.assert_array_equal(timesteps.truncated, ends & (frames < 5))
    np.testing.assert_array_equal(timesteps.terminated, ends & (frames >= 5))


def test_a_time_limit_leaves_the_environments_own_one_in_place():
    own = diary(length=100, max_steps_in_episode=3)
    _, timesteps = play(wrappers.auto_reset(wrappers.time_limit(own, 5)), some_actions(9))
    np.testing.assert_array_equal(np.flatnonzero(timesteps.truncated), [2, 5, 8])


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_sticky_actions_repeat_what_was_executed_but_never_at_the_start(probability):
    asked = some_actions(6000)
    env = wrappers.auto_reset(wrappers.sticky_actions(diary(length=6), probability))
    _, timesteps = play(env, asked)
    first, executed = firsts(timesteps), timesteps.final_obs[:, ACTION]
    np.testing.assert_array_equal(executed[first], asked[first])
    previous = np.roll(executed, 1)
    assert ((executed == asked) | (executed == previous)).all()
    tells = ~first & (asked != previous)
    stuck = int((executed == previous)[tells].sum())
    assert tells.sum() > 1000
    assert scipy.stats.binomtest(stuck, int(tells.sum()), probability).pvalue > 1e-3
    if probability == 1:  # the first action of an episode, all along: also of the second one
        np.testing.assert_array_equal(executed.reshape(-1, 6), np.repeat(asked[::6, None], 6, axis=1))


def test_actions_of_several_numbers_stick_as_a_whole():
    pictures = probes.pictures(100)

    def step(key, state, action):
        return action, pictures.step(key, jnp.int32(0), 0)[1]  # the state tells what was executed

    env = pictures._replace(
        reset=lambda key: (jnp.zeros(3), pictures.reset(key)[1]), step=step, action_space=spaces.Continuous(3)
    )
    sticky = wrappers.sticky_actions(env, 0.5)
    state, _ = sticky.reset(jax.random.key(0))
    step, previous, stuck = jax.jit(sticky.step), None, []
    for t in range(20):
        asked = jnp.full(3, t, jnp.float32) + jnp.arange(3) / 10
        state, _ = step(jax.random.key(t), state, asked)
        executed = state[0]
        stuck.append(bool((executed != asked).all()))
        np.testing.assert_array_equal(executed, previous if stuck[-1] else asked)
        previous = executed
    assert not stuck[0]
    assert 3 < sum(stuck) < 17


def test_a_repeated_action_adds_up_rewards_until_the_episode_ends():
    actions = some_actions(20)
    obs, timesteps = play(wrappers.auto_reset(wrappers.repeat_action(diary(length=5), 3)), actions)
    # Five frames are three and two more, of which the last step must show the true end.
    frames = np.array([range(3), range(3, 5)] * 10, dtype=object)
    for t, action in enumerate(actions):
        assert timesteps.reward[t] == sum(probes.diary_reward(action, time) for time in frames[t])
        assert timesteps.terminated[t] == (t % 2 == 1)
        assert timesteps.final_obs[t, TIME] == timesteps.episode_length[t] == frames[t][-1] + 1
        assert timesteps.final_obs[t, ACTION] == action
        assert timesteps.final_obs[t, TAG] == obs[t, TAG]
    np.testing.assert_allclose(timesteps.episode_return[1::2], timesteps.reward.reshape(-1, 2).sum(-1), rtol=1e-6)
    # Each of the frames has randomness of its own.
    assert len(np.unique(timesteps.final_obs[:, NOISE])) == 20


def test_a_time_limit_counts_the_frames_of_the_environment_not_the_repeated_actions():
    config = replace(ENV, env_params={"length": 100}, time_limit=5, action_repeat=2)
    _, timesteps = play(envs.make(config, GAMMA), some_actions(9))
    np.testing.assert_array_equal(timesteps.episode_length, [2, 4, 5] * 3)
    np.testing.assert_array_equal(timesteps.truncated, [False, False, True] * 3)


def test_clipped_rewards_leave_the_episodes_return_alone():
    actions = some_actions(40)
    _, timesteps = play(wrappers.auto_reset(wrappers.clip_rewards(diary(length=4), 0.5)), actions)
    rewards = probes.diary_reward(actions, np.arange(40) % 4)
    assert rewards.min() < -0.5
    assert rewards.max() > 0.5
    np.testing.assert_array_equal(timesteps.reward, np.clip(rewards, -0.5, 0.5))
    np.testing.assert_allclose(timesteps.episode_return, rewards.reshape(-1, 4).cumsum(1).ravel(), rtol=1e-6)


def ids(time):
    """What `probes.pictures` shows."""
    return np.arange(12).reshape(2, 2, 3) + time


OBSERVED: dict[str, tuple[Any, Any]] = {
    # name: (wrapper, what it makes of the picture at a time)
    "observe": (lambda env: wrappers.observe(env, (2, 0)), lambda time: ids(time)[..., [2, 0]]),
    "flatten": (wrappers.flatten, lambda time: ids(time).reshape(-1)),
    "one_hot": (lambda env: wrappers.one_hot(env, 16), lambda time: np.eye(16)[ids(time)]),
}


@pytest.mark.parametrize("name", OBSERVED)
def test_wrappers_of_observations_change_every_observation_alike(name):
    wrap, expected = OBSERVED[name]
    env = wrappers.auto_reset(wrap(probes.pictures(4)))
    obs, timesteps = play(env, np.zeros(9, np.int32))
    assert env.observation_shape == expected(0).shape
    np.testing.assert_array_equal(obs, [expected(t % 4) for t in range(9)])
    np.testing.assert_array_equal(timesteps.final_obs, [expected(t % 4 + 1) for t in range(9)])
    np.testing.assert_array_equal(timesteps.obs, [expected((t + 1) % 4) for t in range(9)])
    np.testing.assert_array_equal(timesteps.terminated, [t % 4 == 3 for t in range(9)])


def test_frames_are_stacked_within_one_episode_only():
    actions = some_actions(23)
    plain, plain_steps = play(wrappers.auto_reset(diary(length=5)), actions)
    env = wrappers.auto_reset(wrappers.stack_frames(diary(length=5), 3))
    obs, timesteps = play(env, actions)
    assert env.observation_shape == (12,)
    frames: deque[Any] = deque(maxlen=3)
    for t, first in enumerate(firsts(plain_steps)):
        if first:
            frames.extend([plain[t]] * 3)
        np.testing.assert_array_equal(obs[t], np.concatenate(frames))
        frames.append(plain_steps.final_obs[t])
        np.testing.assert_array_equal(timesteps.final_obs[t], np.concatenate(frames))
    np.testing.assert_array_equal(timesteps.obs[:-1], obs[1:])


def test_stacked_pictures_lie_side_by_side_on_the_last_axis():
    env = wrappers.auto_reset(wrappers.stack_frames(probes.pictures(4), 2))
    assert env.observation_shape == (2, 2, 6)
    obs, timesteps = play(env, np.zeros(6, np.int32))
    np.testing.assert_array_equal(obs[2], np.concatenate([ids(1), ids(2)], axis=-1))
    np.testing.assert_array_equal(timesteps.final_obs[3], np.concatenate([ids(3), ids(4)], axis=-1))
    np.testing.assert_array_equal(obs[4], np.concatenate([ids(0), ids(0)], axis=-1))


# Environments that go on for ever


def test_the_next_episode_starts_by_itself_and_the_old_ones_end_is_kept():
    obs, timesteps = play(wrappers.auto_reset(diary(length=4)), some_actions(22))
    time = np.arange(22) % 4
    np.testing.assert_array_equal(timesteps.terminated, time == 3)
    np.testing.assert_array_equal(obs[:, TIME], time)
    np.testing.assert_array_equal(timesteps.final_obs[:, TIME], time + 1)
    np.testing.assert_array_equal(timesteps.episode_length, time + 1)
    # One tag an episode, and each episode's own: resets do not repeat one another.
    np.testing.assert_array_equal(timesteps.final_obs[:, TAG], obs[:, TAG])
    np.testing.assert_array_equal(obs[:, TAG], np.repeat(obs[::4, TAG], 4)[:22])
    assert len(np.unique(obs[::4, TAG])) == 6
    # The noise of a reset is not that of the step before it.
    assert len(np.unique(np.append(obs[:, NOISE], timesteps.final_obs[3::4, NOISE]))) == 22 + 5


def copies(env, count, steps):
    """Whether each of ``count`` copies was truncated, and terminated, at each step: two ``[count, steps]``."""

    @jax.jit
    def run(keys):
        def one(keys):
            def tick(state, keys):
                state, timestep = env.step(keys, state, jnp.int32(0))
                return state, (timestep.truncated, timestep.terminated)

            state, _ = env.reset(keys[0, 0])
            return jax.lax.scan(tick, state, keys[1:])[1]

        return jax.vmap(one)(keys)

    return (np.asarray(x) for x in run(jax.random.split(jax.random.key(0), (count, steps + 1, 2))))


def test_staggered_copies_cut_their_first_episode_at_times_that_are_spread_out():
    truncated, terminated = copies(wrappers.auto_reset(diary(length=15), stagger=10), 800, 60)
    np.testing.assert_array_equal(truncated.sum(1), 1)
    times = truncated.argmax(1) + 1
    assert times.max() <= 10
    assert scipy.stats.chisquare(np.bincount(times, minlength=11)[1:]).pvalue > 1e-3
    # Later episodes are whole.
    for i, time in enumerate(times):
        np.testing.assert_array_equal(np.flatnonzero(terminated[i]) + 1, np.arange(time + 15, 61, 15))


def test_a_cut_episode_is_marked_by_a_length_of_zero_and_whole_ones_keep_theirs():
    env = wrappers.auto_reset(diary(length=6), stagger=12)
    cuts = 0
    for seed in range(8):
        _, timesteps = play(env, some_actions(20), seed)
        ended = np.flatnonzero(timesteps.terminated | timesteps.truncated)
        lengths = np.diff(ended, prepend=-1)
        is_cut = timesteps.truncated[ended]
        np.testing.assert_array_equal(timesteps.episode_length[ended], np.where(is_cut, 0, lengths))
        assert (lengths[~is_cut] == 6).all()
        assert not is_cut[1:].any()
        cuts += is_cut.sum()
        # Between the ends it counts as always.
        np.testing.assert_array_equal(timesteps.episode_length[: ended[0]], np.arange(1, ended[0] + 1))
        assert timesteps.episode_length.dtype == np.int32
    assert 0 < cuts < 8


def test_an_episode_that_ends_by_itself_on_the_very_step_of_the_cut_is_whole():
    limit = wrappers.time_limit(wrappers.record_episodes(probes.pictures(9)), 1)
    for env, ended in ((wrappers.record_episodes(probes.pictures(1)), "terminated"), (limit, "truncated")):
        _, timesteps = play(wrappers.auto_reset(env, stagger=1), some_actions(3))
        assert getattr(timesteps, ended).all()
        np.testing.assert_array_equal(timesteps.episode_length, 1)


def test_only_a_first_episode_is_cut_and_a_termination_stays_one():
    """The longer cuts would come in later episodes, or on the very step that terminates."""
    truncated, terminated = copies(wrappers.auto_reset(diary(length=4), stagger=12), 300, 24)
    cut = truncated.any(1)
    times = truncated.argmax(1)[cut] + 1
    assert set(times) == {1, 2, 3}
    assert cut.mean() == pytest.approx(3 / 12, abs=0.1)
    np.testing.assert_array_equal(terminated[~cut], np.broadcast_to(np.arange(1, 25) % 4 == 0, terminated[~cut].shape))
    np.testing.assert_array_equal(truncated.sum(1), cut)


def test_without_a_stagger_nothing_is_cut():
    truncated, terminated = copies(wrappers.auto_reset(diary(length=7)), 3, 20)
    assert not truncated.any()
    np.testing.assert_array_equal(terminated, np.broadcast_to(np.arange(1, 21) % 7 == 0, (3, 20)))


W, B, T, BLOCKS = 2, 3, 7, 4


def over_copies(function):
    return jax.vmap(jax.vmap(function))


def play_block(env, states, obs, keys, actions):
    """``T`` steps of ``W x B`` copies, keys and actions ``[T, W, B, ...]``, and a refresh."""

    def tick(loop, x):
        states, obs = loop
        states, timesteps = over_copies(env.step)(x[0], states, x[1])
        return (states, timesteps.obs), (obs, timesteps)

    (states, obs), rows = jax.lax.scan(tick, (states, obs), (keys, actions))
    return env.refresh(states), obs, rows


def play_blocks(env, blocks):
    """What was acted on and time steps, in NumPy ``[blocks, T, W, B, ...]``, and the states after the last refresh."""
    keys = jax.random.split(jax.random.key(0), (1 + 2 * blocks * T, W, B))
    actions = some_actions((blocks, T, W, B))
    states, obs = jax.jit(over_copies(env.reset))(keys[0])
    block = jax.jit(lambda *loop: play_block(env, *loop))
    keys = jnp.moveaxis(keys[1:].reshape(blocks, T, 2, W, B), 2, -1)
    rows = []
    for i in range(blocks):
        states, obs, row = block(states, obs, keys[i], actions[i])
        rows.append(row)
    return states, jax.tree.map(lambda *x: np.stack(x), *rows)


def program(env):
    """What all of the above computes, as text, and the arrays in it."""

    def run(keys, actions):
        states, obs = over_copies(env.reset)(keys[0, ..., 0])
        return play_block(env, states, obs, keys, actions)

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), (T, W, B, 2)))
    traced = jax.make_jaxpr(run)(keys, jax.ShapeDtypeStruct((T, W, B), jnp.int32))
    return str(traced.jaxpr), [np.asarray(x).tolist() for x in traced.consts]


@functools.cache
def unwrapped():
    """An environment that resets itself, and what `play_blocks` makes of it."""
    env = wrappers.auto_reset(diary(length=5))
    return env, play_blocks(env, BLOCKS)[1]


OFFSETS = np.array([0.5, 1000.0, 1000.0, -1e4], np.float32)
SPREADS = np.array([2.0, 2.0, 0.1, 5.0], np.float32)


def far_from_zero(env):
    """Observations of noise, far from 0 in comparison to how they vary: sums of their squares have no digits left."""

    def show(obs):
        return OFFSETS + SPREADS * obs[NOISE]

    def reset(key):
        state, obs = env.reset(key)
        return state, show(obs)

    def step(key, state, action):
        state, timestep = env.step(key, state, action)
        return state, timestep._replace(obs=show(timestep.obs), final_obs=show(timestep.final_obs))

    return env._replace(reset=reset, step=step)


@pytest.fixture(scope="module")
def normalized():
    """The same blocks as they are and normalised, and the statistics after the last one."""
    env = far_from_zero(wrappers.auto_reset(diary(length=5)))
    states, shown = play_blocks(normalize.normalize_observations(env), BLOCKS)
    return play_blocks(env, BLOCKS)[1], shown, jax.tree.map(np.asarray, states.statistics)


def moments(raw, blocks):
    """Mean and deviation of what has been drawn by the end of so many blocks: every reset, and every successor."""
    if blocks == 0:
        return np.zeros(4), np.ones(4), 0
    obs, timesteps = raw
    seen = np.concatenate([obs[0, 0].reshape(-1, 4), timesteps.obs[:blocks].reshape(-1, 4)]).astype(float)
    return seen.mean(0), seen.std(0), len(seen)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_observations_are_normalised_by_the_moments_of_all_copies_as_of_the_last_refresh(normalized, block):
    raw, (obs, timesteps), _ = normalized
    mean, deviation, _ = moments(raw, block)
    assert (np.abs(mean) > 100 * deviation)[1:].all() == (block > 0)
    # The step between two float32 of that size.
    tolerance = 1e-3 + 4 * np.abs(mean) * 2.0**-23 / deviation
    for shown, was in (
        (timesteps.final_obs, raw[1].final_obs),
        (timesteps.obs, raw[1].obs),
        (obs[:, 1:], raw[0][:, 1:]),
    ):
        expected = np.clip((was[block] - mean) / deviation, -10, 10)
        np.testing.assert_array_less(np.abs(shown[block] - expected).max((0, 1, 2)), tolerance)


def test_what_was_shown_at_a_blocks_end_is_acted_on_in_the_next(normalized):
    _, (obs, timesteps), _ = normalized
    np.testing.assert_array_equal(obs[1:, 0], timesteps.obs[:-1, -1])


def test_normalisation_changes_nothing_but_observations(normalized):
    raw, shown, _ = normalized
    assert_same(shown[1]._replace(obs=(), final_obs=()), raw[1]._replace(obs=(), final_obs=()))


def test_every_copy_carries_the_moments_of_all(normalized):
    raw, _, kept = normalized
    mean, deviation, count = moments(raw, BLOCKS)
    np.testing.assert_allclose(kept.mean, np.broadcast_to(mean, (W, B, 4)), rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(kept.variance), np.broadcast_to(deviation, (W, B, 4)), rtol=1e-3)
    np.testing.assert_array_equal(kept.weight, np.full((W, B), count))


def test_in_evaluation_the_statistics_are_those_of_training_for_good():
    def wrapped(env):
        return normalize.scale_rewards(normalize.normalize_observations(wrappers.auto_reset(env, stagger=3)), 0.9)

    states, _ = play_blocks(wrapped(diary(offset=5.0, spread=3.0)), 3)
    state = jax.tree.map(lambda x: x[0, 0], states)
    moments = jax.tree.map(np.asarray, state.env.statistics)
    # Another environment shows that nothing is learned from it.
    elsewhere = diary(offset=50.0, spread=1.0, length=9)
    obs, timesteps = play(wrapped(elsewhere).freeze(state), some_actions(40))
    raw, raw_steps = play(wrappers.auto_reset(elsewhere), some_actions(40))
    for shown, was in ((obs, raw), (timesteps.obs, raw_steps.obs), (timesteps.final_obs, raw_steps.final_obs)):
        expected = np.clip((was - moments.mean) / np.sqrt(moments.variance), -10, 10)
        np.testing.assert_allclose(shown, expected, rtol=1e-4, atol=1e-4)
    # Rewards are the environment's own, and no episode is cut.
    assert_same(timesteps._replace(obs=(), final_obs=()), raw_steps._replace(obs=(), final_obs=()))


@pytest.mark.parametrize("gamma", [0.9, 0.0])
def test_rewards_are_scaled_as_vec_normalize_does_with_the_deviation_of_the_last_refresh(gamma):
    env, (_, raw) = unwrapped()
    states, (_, timesteps) = play_blocks(normalize.scale_rewards(env, gamma), BLOCKS)
    assert_same(timesteps._replace(reward=()), raw._replace(reward=()))
    total, totals, deviation = np.zeros((W, B)), [], 1.0
    for i in range(BLOCKS):
        np.testing.assert_allclose(timesteps.reward[i], np.clip(raw.reward[i] / deviation, -10, 10), rtol=1e-4)
        for t in range(T):
            total = gamma * total + raw.reward[i, t]
            totals.append(total)
            total = np.where(raw.terminated[i, t] | raw.truncated[i, t], 0.0, total)
        deviation = np.std(totals)
    np.testing.assert_allclose(np.sqrt(states.statistics.variance), np.full((W, B), deviation), rtol=1e-4)
    assert states.statistics.weight[0, 0] == np.size(totals)


def test_scaled_rewards_are_clipped():
    """Rewards that hardly vary, but are large, are large multiples of their deviation."""
    env = wrappers.auto_reset(diary(length=5))

    def step(key, state, action):
        state, timestep = env.step(key, state, action)
        return state, timestep._replace(reward=timestep.reward + 1000.0)

    _, (_, timesteps) = play_blocks(normalize.scale_rewards(env._replace(step=step), 0.0), 2)
    np.testing.assert_array_equal(timesteps.reward[1], 10.0)


def test_both_kinds_of_statistics_are_refreshed_whichever_lies_outside():
    env, (_, plain) = unwrapped()
    _, (_, one) = play_blocks(normalize.scale_rewards(normalize.normalize_observations(env), 0.9), BLOCKS)
    _, (_, other) = play_blocks(normalize.normalize_observations(normalize.scale_rewards(env, 0.9)), BLOCKS)
    assert_same(one, other)
    np.testing.assert_array_equal(one.obs[0], plain.obs[0])
    assert (one.obs != plain.obs)[1:].all()
    assert (one.reward != plain.reward)[1:].any()


def broken_at(env, steps, value):
    """``env`` with ``value`` as observation and reward at these steps of every episode."""

    def step(key, state, action):
        state, timestep = env.step(key, state, action)
        broken = jnp.isin(timestep.final_obs[TIME], jnp.array(steps)) & ~(timestep.terminated | timestep.truncated)

        def spoil(x):
            return jnp.where(broken, value, x)

        return state, timestep._replace(
            obs=spoil(timestep.obs), final_obs=spoil(timestep.final_obs), reward=spoil(timestep.reward)
        )

    return env._replace(step=step)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_numbers_that_are_not_finite_do_not_enter_the_statistics(value):
    """Nor do finite ones whose squares overflow."""
    env = broken_at(wrappers.auto_reset(diary(length=5)), (2.0,), value)
    states, (_, timesteps) = play_blocks(normalize.normalize_observations(env), BLOCKS)
    raw_obs, raw = play_blocks(env, BLOCKS)[1]
    seen = np.concatenate([raw_obs[0, 0].reshape(-1, 4), raw.obs.reshape(-1, 4)]).astype(float)
    seen = seen[np.abs(seen).max(1) < 1e30]
    moments = jax.tree.map(np.asarray, states.statistics)
    np.testing.assert_array_equal(moments.weight, len(seen))
    np.testing.assert_allclose(moments.mean, np.broadcast_to(seen.mean(0), (W, B, 4)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(moments.variance, np.broadcast_to(seen.var(0), (W, B, 4)), rtol=1e-3, atol=1e-5)
    finite = np.isfinite(raw.final_obs).all(-1)
    assert np.isfinite(timesteps.final_obs[finite]).all()


def test_moments_that_would_overflow_stay_as_they_are():
    def merge(variance):
        moments = statistics.start((2,))._replace(
            weight=jnp.float32(1e6), mean=jnp.ones(2), variance=jnp.array([1.0, variance])
        )
        copies = jax.tree.map(lambda x: jnp.broadcast_to(x, (W, B, *x.shape)), statistics.add(moments, jnp.zeros(2)))
        return jax.tree.map(np.asarray, statistics.merge(copies))

    np.testing.assert_array_equal(merge(1.0).weight, 1e6 + W * B)
    spoilt = merge(3e37)
    np.testing.assert_array_equal(spoilt.weight, 1e6)
    np.testing.assert_array_equal(spoilt.variance, np.broadcast_to(np.array([1.0, 3e37], np.float32), (W, B, 2)))
    np.testing.assert_array_equal(spoilt.new_weight, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_a_reward_that_is_not_finite_spoils_no_other_reward_of_its_episode(value):
    env = broken_at(wrappers.auto_reset(diary(length=5)), (2.0,), value)
    states, (_, timesteps) = play_blocks(normalize.scale_rewards(env, 0.9), BLOCKS)
    _, raw = play_blocks(env, BLOCKS)[1]
    assert np.isfinite(states.statistics.variance).all()
    # Of every five steps, one is left out. The sum goes on from 0.
    total, totals = np.zeros((W, B)), []
    for reward, last in zip(
        raw.reward.reshape(-1, W, B), (raw.terminated | raw.truncated).reshape(-1, W, B), strict=True
    ):
        total = 0.9 * total + reward
        usable = np.abs(np.nan_to_num(total, nan=np.inf)) < 1e30
        totals.append(total[usable])
        total = np.where(last | ~usable, 0.0, total)
    counted = np.concatenate(totals)
    np.testing.assert_array_equal(states.statistics.weight, len(counted))
    np.testing.assert_allclose(np.sqrt(states.statistics.variance), np.full((W, B), counted.std()), rtol=1e-4)
    assert np.isfinite(timesteps.reward[np.isfinite(raw.reward)]).all()


# Through a config

BY_HAND: dict[str, Any] = {
    "time_limit": (3, lambda env: wrappers.auto_reset(wrappers.time_limit(env, 3))),
    "sticky_actions": (0.5, lambda env: wrappers.auto_reset(wrappers.sticky_actions(env, 0.5))),
    "action_repeat": (2, lambda env: wrappers.auto_reset(wrappers.repeat_action(env, 2))),
    "observe": ((3, 1), lambda env: wrappers.auto_reset(wrappers.observe(env, (3, 1)))),
    "flatten": (True, lambda env: wrappers.auto_reset(wrappers.flatten(env))),
    "frame_stack": (2, lambda env: wrappers.auto_reset(wrappers.stack_frames(env, 2))),
    "clip_rewards": (0.5, lambda env: wrappers.auto_reset(wrappers.clip_rewards(env, 0.5))),
    "stagger_resets": (4, lambda env: wrappers.auto_reset(env, 4)),
    "normalize_observations": (True, lambda env: normalize.normalize_observations(wrappers.auto_reset(env))),
    "scale_rewards": (True, lambda env: normalize.scale_rewards(wrappers.auto_reset(env), GAMMA)),
}


@pytest.mark.parametrize("field", BY_HAND)
def test_every_field_of_the_wrappers_puts_its_own_around_the_environment(field):
    value, wrap = BY_HAND[field]
    env_id = "Catch-bsuite" if field == "flatten" else "Diary-probe"  # observations [10, 5], and [4]
    plain = wrappers.record_episodes(envs.make_episodic(env_id))
    env = envs.make(replace(ENV, env_id=env_id, **{field: value}), GAMMA)
    expected = wrap(plain)
    assert env.observation_shape == expected.observation_shape
    assert program(env) == program(expected)
    assert program(env) != program(wrappers.auto_reset(plain))


def test_all_fields_are_tried_above():
    assert set(BY_HAND) == set(vars(envs.Wrappers()))


ALL = envs.Wrappers(
    time_limit=9,
    sticky_actions=0.5,
    action_repeat=2,
    observe=(TAG, TIME, ACTION),
    flatten=True,
    frame_stack=2,
    clip_rewards=1.5,
    stagger_resets=3,
    normalize_observations=True,
    scale_rewards=True,
)


def test_all_wrappers_at_once_are_put_on_in_the_order_of_the_fields():
    env = envs.make(replace(ENV, env_params={"length": 11}, wrappers=ALL), GAMMA)
    expected = wrappers.time_limit(diary(length=11), 9)
    expected = wrappers.repeat_action(wrappers.sticky_actions(expected, 0.5), 2)
    expected = wrappers.stack_frames(wrappers.flatten(wrappers.observe(expected, (TAG, TIME, ACTION))), 2)
    expected = wrappers.auto_reset(wrappers.clip_rewards(expected, 1.5), 3)
    expected = normalize.scale_rewards(normalize.normalize_observations(expected), GAMMA)
    assert env.observation_shape == expected.observation_shape == (6,)
    assert program(env) == program(expected)


def test_episode_statistics_are_those_of_the_raw_environment_under_all_wrappers():
    """The same action all along: sticking to it changes nothing, so that every frame's reward is known."""
    env = envs.make(replace(ENV, env_params={"length": 11}, wrappers=ALL), GAMMA)
    action = 4
    obs, timesteps = play(env, np.full(40, action))
    assert np.abs(obs).max() <= 10
    last = timesteps.terminated | timesteps.truncated
    assert not timesteps.terminated.any()  # the time limit of 9 comes first
    ends = np.flatnonzero(last)
    assert len(ends) > 5
    frames = np.diff(ends)
    np.testing.assert_array_equal(frames, 5)  # of two frames, the last of one
    np.testing.assert_array_equal(timesteps.episode_length[ends[1:]], 9)
    np.testing.assert_array_equal(timesteps.episode_return[ends[1:]], probes.diary_reward(action, np.arange(9)).sum())
    # The agent learns from something else.
    np.testing.assert_allclose(timesteps.reward, 1.5)


def test_a_run_and_an_evaluation_with_all_wrappers_report_the_raw_environments_episodes():
    config = replace(a2c.Config(), num_envs=3, rollout_length=T, total_frames=6 * T, hidden_sizes=(4,))
    config = replace(config, env=ENV, env_params={"length": 4}, wrappers=ALL, observe=(TIME,))

    @jax.jit
    def run(key):
        result = make_train(config)(key)
        return result.metrics, result.state.actor_state.env.statistics, evaluate(config, result.state, key, episodes=40)

    metrics, reward_statistics, returns = run(jax.random.key(0))
    assert metrics.episodes.sum() > 0
    assert (metrics.episode_length[metrics.episodes > 0] <= 4).all()
    assert (reward_statistics.weight == 6 * T).all()
    # Four frames of rewards that are multiples of 1/4, neither clipped nor scaled: 1.5 + the sum of four actions.
    np.testing.assert_array_equal(returns * 2 % 1, 0)
    assert returns.max() > 4 * 1.5  # the limit of clip_rewards


class Seen(NamedTuple):
    """The learner of `watching`."""

    params: Any
    trajectories: Any


def watching():
    """An update rule that keeps what it is given to learn from, and learns nothing."""
    names = "gradient_norm staleness staleness_within"

    def update(key, learner, objective, trajectories):
        return Seen(learner.params, trajectories), dict.fromkeys(names.split(), jnp.float32(0))

    return UpdateRule(
        init=lambda key, params: Seen(params, None),
        actor=lambda learner: jax.tree.map(lambda x: jnp.stack([x] * W), learner.params),
        update=update,
        split=lambda learner: jax.tree.map(lambda x: -1, learner),
    )


def test_learning_sees_the_very_observations_that_were_acted_on():
    env_config = replace(
        ENV, env_params={"offset": 4.0, "spread": 0.5}, normalize_observations=True, scale_rewards=True
    )
    env = envs.make(env_config, GAMMA)
    network_config = replace(networks.Config(), hidden_sizes=(4,), shared_torso=True)
    network = networks.make(network_config, env)
    objective = Objective(lambda *x: None, lambda *x: (jnp.float32(0), {}))
    layout = EnvLayout(W, B, rollout_length=T, iterations=3, split="workers", split_name="num_workers")
    parts = Parts(env, network, objective, watching(), layout, None, origin(env_config, network_config))
    watched = algorithm(parts)
    state = jax.jit(watched.init)(jax.random.key(0))
    larger = jax.tree.map(lambda x: 30.0 * x, state.learner.params)  # so that probabilities tell observations apart
    state = state._replace(learner=Seen(larger, None))
    step = jax.jit(watched.step)
    for i in range(3):
        before = state
        state, _ = step(jax.random.key(i), state._replace(learner=Seen(larger, None)))
        rows = state.learner.trajectories
        np.testing.assert_array_equal(rows.obs[:, :, 0], before.actor_state.obs)
        _, outputs = jax.vmap(network.unroll, (None, None, 0, 0))(larger, network.carry(), rows.obs, rows.first)
        np.testing.assert_allclose(outputs.policy.log_prob(rows.action), rows.log_prob, rtol=1e-4, atol=1e-5)
        goes_on = ~np.asarray(rows.terminated | rows.truncated)[:, :, :-1]
        np.testing.assert_array_equal(rows.obs[:, :, 1:][goes_on], rows.final_obs[:, :, :-1][goes_on])
        if i:
            assert math.isclose(float(np.mean(rows.obs[..., NOISE])), 0.0, abs_tol=1.0)  # it is normalised
