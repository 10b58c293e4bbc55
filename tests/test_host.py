"""Tests of environments outside of JAX, and of training in them."""

import contextlib
import io
import json
import signal
import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_processes import start

from purejaxrl_a3c import InputError, a2c, a3c, dqn, envs, host, load, make_train, ppo, pqn, r2d2, replace, rnd
from purejaxrl_a3c.backend import randomness
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.host import compiled, lockstep, reports
from purejaxrl_a3c.host.patience import time_limit
from purejaxrl_a3c.loops import acting, rollout
from purejaxrl_a3c.run.algorithms import ALGORITHMS
from purejaxrl_a3c.run.cli import main
from purejaxrl_a3c.run.stopped import Stopped
from purejaxrl_a3c.run.train import build
from purejaxrl_a3c.updates import Asynchrony

pytest.importorskip("gymnasium")
import gymnasium
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv


class Counting(gymnasium.Env):
    """Shows the episode and the step; ends after 3 steps where the first action was 1, and is cut off after 5."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Discrete(2, start=7)

    def __init__(self):
        self.episode, self.time, self.short = -1, 0, False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.time = self.episode + 1, 0
        return np.array([self.episode, 0.0]), {}

    def step(self, action):
        assert action in (7, 8)
        self.short = action == 8 if self.time == 0 else self.short
        self.time += 1
        return np.array([self.episode, float(self.time)]), 10.0, self.short and self.time == 3, self.time >= 5, {}


def vector(mode, count=2):
    return SyncVectorEnv([Counting] * count, autoreset_mode=mode)


def in_processes():
    """Each of the copies in a process of its own, with observations in shared memory."""
    return AsyncVectorEnv([Counting] * 2, context="forkserver", autoreset_mode=AutoresetMode.SAME_STEP)


WAYS: dict[str, Any] = {
    "same step": lambda: vector(AutoresetMode.SAME_STEP),
    "disabled": lambda: vector(AutoresetMode.DISABLED),
    "in processes": in_processes,
}


@pytest.mark.parametrize("way", WAYS)
def test_episodes_end_where_they_should_in_each_way_of_resetting(way):
    env = host.from_gymnasium(WAYS[way]())
    assert (env.num_envs, env.observation_shape, env.action_space) == (2, (2,), spaces.Discrete(2))
    np.testing.assert_array_equal(env.reset(3), [[0, 0], [0, 0]])
    steps = [env.step(np.array([1, 0])) for _ in range(6)]  # the first one terminates, the second is cut off
    np.testing.assert_array_equal([s.terminated[0] for s in steps], [False, False, True, False, False, True])
    np.testing.assert_array_equal([s.truncated[1] for s in steps], [False, False, False, False, True, False])
    assert not any(s.truncated[0] or s.terminated[1] for s in steps)
    np.testing.assert_array_equal([s.obs[0] for s in steps], [[0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [2, 0]])
    np.testing.assert_array_equal([s.obs[1] for s in steps], [[0, 1], [0, 2], [0, 3], [0, 4], [1, 0], [1, 1]])
    np.testing.assert_array_equal([s.final_obs[0] for s in steps], [[0, 1], [0, 2], [0, 3], [1, 1], [1, 2], [1, 3]])
    np.testing.assert_array_equal(steps[4].final_obs[1], [0, 5])
    np.testing.assert_array_equal([s.episode_return[0] for s in steps], [10, 20, 30, 10, 20, 30])
    np.testing.assert_array_equal([s.episode_length[1] for s in steps], [1, 2, 3, 4, 5, 1])
    assert steps[0].obs.dtype == steps[0].reward.dtype == np.float32
    env.close()


def test_what_was_returned_does_not_change_with_the_next_step():
    env = host.from_gymnasium(SyncVectorEnv([Counting] * 2, autoreset_mode=AutoresetMode.SAME_STEP, copy=False))
    env.reset(0)
    step = env.step(np.array([1, 0]))
    before = [np.array(x) for x in step]
    env.step(np.array([1, 0]))
    for now, then in zip(step, before, strict=True):
        np.testing.assert_array_equal(now, then)


class Showing(gymnasium.Env):
    """Shows what it is told to, by the step of the episode; ends after 2 steps."""

    action_space = gymnasium.spaces.MultiDiscrete([2, 3])

    def __init__(self, space, show):
        self.observation_space, self.show, self.time = space, show, 0

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return self.show(0), {}

    def step(self, action):
        self.time += 1
        return self.show(self.time), float(action @ np.array([1, 10])), self.time == 2, False, {"seen": self.time}


BOX = gymnasium.spaces.Box(0, 9, (2,), np.float32)
SPACES: dict[str, Any] = {
    "array": (BOX, lambda t: np.array([t, 7], np.float64)),
    "list": (BOX, lambda t: [float(t), 7.0]),
    "image": (gymnasium.spaces.Box(0, 255, (3, 8, 8), np.uint8), lambda t: np.full((3, 8, 8), t, np.uint8)),
    "number": (gymnasium.spaces.Discrete(4), lambda t: t),
    "numbers": (gymnasium.spaces.MultiDiscrete([4, 2]), lambda t: np.array([t, 1])),
    "dict": (gymnasium.spaces.Dict(b=BOX, a=gymnasium.spaces.Discrete(4)), lambda t: {"a": t, "b": np.full(2, t)}),
    "tuple": (gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(4), BOX]), lambda t: (t, np.full(2, t, np.float32))),
}


@pytest.mark.parametrize("name", SPACES)
def test_steps_of_each_environment_are_those_of_gymnasiums_vector(name):
    class Another(SyncVectorEnv):
        """Steps by itself, as a subclass may do more."""

    def steps(kind):
        env = host.from_gymnasium(
            kind([lambda: Showing(*SPACES[name])] * 2, autoreset_mode=AutoresetMode.SAME_STEP), name
        )
        return [env.reset(0), *(env.step(np.array([[0, 2], [1, i % 3]])) for i in range(5))]

    expected = steps(Another)
    jax.tree.map(np.testing.assert_array_equal, steps(SyncVectorEnv), expected)
    jax.tree.map(lambda x, y: np.testing.assert_equal(x.dtype, y.dtype), steps(SyncVectorEnv), expected)
    assert [int(np.sum(step.terminated)) for step in expected[1:]] == [0, 2, 0, 2, 0]


def test_an_environment_gets_a_number_as_an_integer_of_python_and_numbers_as_an_array():
    seen = []

    class Recording(Showing):
        def step(self, action):
            seen.append(action)
            return self.show(0), 0.0, False, False, {}

    def act(space, actions):
        seen.clear()
        Recording.action_space = space
        env = host.from_gymnasium(
            SyncVectorEnv([lambda: Recording(*SPACES["array"])] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
        )
        env.reset(0)
        env.step(np.array(actions, np.int32))
        return list(seen)

    numbers = act(gymnasium.spaces.Discrete(3, start=5), [0, 2])
    assert [(type(one), one) for one in numbers] == [(int, 5), (int, 7)]
    pairs = act(gymnasium.spaces.MultiDiscrete([2, 3]), [[0, 2], [1, 1]])
    np.testing.assert_array_equal(np.stack(pairs), [[0, 2], [1, 1]])


@pytest.mark.parametrize("reset_too", [False, True])
@pytest.mark.parametrize("way", ["same step", "disabled"])
def test_what_is_not_finite_at_the_end_of_an_episode_or_after_it_is_an_error(way, reset_too):
    def show(time):
        return np.array([np.nan if time == (0 if reset_too else 2) and started else 1, 7], np.float32)

    started = False
    mode = AutoresetMode.SAME_STEP if way == "same step" else AutoresetMode.DISABLED
    env = host.from_gymnasium(SyncVectorEnv([lambda: Showing(BOX, show)] * 2, autoreset_mode=mode))
    env.reset(0)
    started = True
    env.step(np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="environment 0 returned an observation that is not finite"):
        env.step(np.zeros((2, 2), int))


def test_an_ignored_action_after_each_episode_is_an_error():
    with pytest.raises(InputError, match=r"autoreset_mode: 'NEXT_STEP'.*SAME_STEP or DISABLED"):
        host.from_gymnasium(vector(AutoresetMode.NEXT_STEP))


def test_bounded_actions_reach_the_bounds_and_not_beyond():
    env = host.make("gym/Pendulum-v1", 3)
    seen = []

    class Recording(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        action_space = gymnasium.spaces.Box(np.array([-2, 0], np.float32), np.array([2, np.inf], np.float32))

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {}

        def step(self, action):
            seen.append(action)
            return np.zeros(1, np.float32), 0.0, False, False, {}

    assert env.action_space == spaces.Continuous(1)
    env.close()
    env = host.from_gymnasium(SyncVectorEnv([Recording] * 3, autoreset_mode=AutoresetMode.SAME_STEP))
    assert env.action_space == spaces.continuous([True, False])
    env.reset(0)
    env.step(np.array([[0.5, 3.0], [-9.0, -1.0], [9.0, 0.5]], np.float32))
    np.testing.assert_allclose(np.array(seen), np.array([[1, 3], [-2, 0], [2, 0.5]]))


def test_atari_shows_channels_last_and_keeps_the_score():
    pytest.importorskip("ale_py")
    env = host.make("ale/Pong", 2)
    assert (env.observation_shape, env.action_space) == ((84, 84, 4), spaces.Discrete(6))
    obs = env.reset(0)
    assert (obs.shape, obs.dtype) == ((2, 84, 84, 4), np.uint8)
    steps = [env.step(np.zeros(2, np.int32)) for _ in range(80)]
    env.close()
    assert (steps[-1].obs != obs).any()
    assert steps[-1].episode_return.min() < 0  # who does not move loses


@pytest.mark.parametrize(
    ("env_id", "package", "shape", "space"),
    [
        ("vizdoom/VizdoomBasic-v1", "vizdoom", (60, 80, 1), spaces.Discrete(4)),
        ("gym/HalfCheetah-v5", "mujoco", (17,), spaces.Continuous(6)),
        ("gym/highway_env:highway-fast-v0", "highway_env", (5, 5), spaces.Discrete(5)),
    ],
)
def test_environments_of_extras_step(env_id, package, shape, space, tmp_path, monkeypatch):
    pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)  # ViZDoom and MuJoCo write files where they are started
    env = host.make(env_id, 2)
    assert (env.observation_shape, env.action_space) == (shape, space)
    obs = env.reset(0)
    assert (obs.shape, obs.dtype) == ((2, *shape), np.uint8 if package == "vizdoom" else np.float32)
    actions = np.ones((2, 6), np.float32) if isinstance(space, spaces.Continuous) else np.array([1, 0], np.int32)
    steps = [env.step(actions) for _ in range(4)]
    env.close()
    assert all((step.obs != obs).any() for step in steps)
    assert (steps[-1].episode_length == 4).all()
    assert (steps[-1].episode_return != 0).all()


CONFIGS: dict[str, Any] = {
    "a2c": replace(a2c.Config(), num_envs=4),
    "a2c, lstm": replace(a2c.Config(), num_envs=4, core="lstm", num_cells=8),
    "ppo": replace(ppo.Config(), num_envs=4, rollout_length=8, epochs=2, num_minibatches=2),
    "dqn": replace(dqn.Config(), num_envs=4, learning_starts=100, replay_size=400, prioritized=True),
    "r2d2": replace(r2d2.Config(), num_envs=4, learning_starts=200, replay_size=400, num_cells=8),
    "pqn": replace(pqn.Config(), num_envs=4, rollout_length=8, num_minibatches=2),
    "a3c": replace(a3c.Config(), num_workers=3, envs_per_worker=2, asynchrony=Asynchrony("round_robin")),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_is_that_of_make_train_if_the_environments_are(name):
    config = replace(CONFIGS[name], hidden_sizes=(8,), total_frames=600, time_limit=13)
    key = jax.random.key(7)
    expected = jax.jit(make_train(config))(key)
    assert expected.metrics.episodes.sum() > 10
    # The loop outside of JAX sees the same environments as if they were not of JAX; wrappers are on this side then.
    outside = config.build().outside
    unwrapped = replace(config, env_id=outside.acting.env, time_limit=0)
    result = host.train(unwrapped, key, stepped_from_outside(outside, key))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-6),
        result.state.learner.params,
        expected.state.learner.params,
    )
    for field in ("frames", "episodes", "return_sum", "length_sum"):
        np.testing.assert_allclose(getattr(result.metrics, field), getattr(expected.metrics, field))
    for name in expected.metrics.losses.keys() & {"staleness_mean", "epsilon"}:
        np.testing.assert_allclose(result.metrics.losses[name], expected.metrics.losses[name])


CARTPOLE = replace(a2c.Config(), env_id="gym/CartPole-v1", num_envs=2, total_frames=100, hidden_sizes=(4,))

WRAPPERS: dict[str, Any] = {
    "a2c": {"frame_stack": 2, "observe": (0, 2), "normalize_observations": True},
    "a2c, lstm": {"scale_rewards": True, "clip_rewards": 0.9},
    "ppo": {"normalize_observations": True, "scale_rewards": True},
    # Drawn uniformly: priorities would make differences of rounding larger.
    "dqn": {"frame_stack": 3, "flatten": True, "scale_rewards": True, "prioritized": False},
    "a3c": {"normalize_observations": True, "frame_stack": 2},
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_show_the_same_as_in_make_train(name):
    config = replace(CONFIGS[name], hidden_sizes=(8,), total_frames=600, **WRAPPERS[name])
    key = jax.random.key(5)
    expected = jax.jit(make_train(replace(config, time_limit=13)))(key)
    assert expected.metrics.episodes.sum() > 10
    # Most episodes are truncated, so that it matters what is shown of the true last observation.
    bare = envs.make(envs.Config(wrappers=envs.Wrappers(time_limit=13)), 0.99)
    result = host.train(config, key, stepped_from_outside(config.build().outside, key, bare))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-6),
        result.state.learner.params,
        expected.state.learner.params,
    )
    np.testing.assert_allclose(result.metrics.return_sum, expected.metrics.return_sum)
    here, there = (envs.normalize.get_statistics(one.state.actor_state.env) for one in (result, expected))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), here, there)


def test_statistics_go_on_in_new_episodes():
    config = replace(CARTPOLE, normalize_observations=True, frame_stack=2, total_frames=60)
    run = lockstep.compile_run(config)
    key = jax.random.key(0)
    state, _ = run.advance(key, run.init(key), 3)
    moments: Any = envs.normalize.get_statistics(state.actor_state.env)
    copy = jax.tree.map(jnp.copy, state)  # as a checkpoint is: not the state that the environments belong to
    after = run.advance(key, copy, 1)[0]
    later: Any = envs.normalize.get_statistics(after.actor_state.env)
    assert later.weight[0, 0] > moments.weight[0, 0] + 10


def test_an_evaluation_sees_observations_under_the_statistics_of_the_state():
    config = replace(CARTPOLE, hidden_sizes=(), normalize_observations=True)
    state = host.train(config, jax.random.key(0)).state

    def balancing(path, x):
        """Towards where the pole falls: logits from its angle and its velocity."""
        if "policy" not in jax.tree_util.keystr(path):
            return x
        return jnp.zeros_like(x).at[2:, 1].set(9.0) if x.shape == (4, 2) else jnp.zeros_like(x)

    params = jax.tree_util.tree_map_with_path(balancing, state.learner.params)
    state = state._replace(learner=state.learner._replace(params=params))
    found = host.evaluate(config, state, jax.random.key(1), episodes=4, deterministic=True)
    assert (found > 50).all()
    moments: Any = envs.normalize.get_statistics(state.actor_state.env)
    far = moments._replace(mean=moments.mean + 1e9)  # everything is -10 then, and the action always the same
    state = state._replace(actor_state=state.actor_state._replace(env=state.actor_state.env._replace(statistics=far)))
    found = host.evaluate(config, state, jax.random.key(1), episodes=4, deterministic=True)
    assert (found < 12).all()


@pytest.mark.parametrize("env_id", ["gym/CartPole-v1", "ale/Pong"])
def test_a_time_limit_truncates(env_id):
    env = host.make(env_id, 2, time_limit=6)
    env.reset(0)
    steps = [env.step(np.zeros(2, np.int32)) for _ in range(12)]
    env.close()
    np.testing.assert_array_equal([step.truncated.all() for step in steps], [t % 6 == 5 for t in range(12)])


@pytest.mark.parametrize("env_id", ["gym/CartPole-v1", "ale/Pong"])
def test_sticky_actions_repeat_the_action_before(env_id):
    def seen(probability):
        env = host.make(env_id, 1, sticky_actions=probability)
        env.reset(1)
        actions = [0, 1 if env_id.startswith("gym") else 3] * 4
        found = [env.step(np.array([action], np.int32)).obs for action in actions]
        env.close()
        return np.array(found)

    assert (seen(0.5) != seen(None)).any()
    np.testing.assert_array_equal(seen(0.0), seen(None))


def stepped_from_outside(outside, key, env=None):
    """The environments of `make_train` for this key, as a `HostEnv`; ``env``: without wrappers."""
    layout, env = outside.acting.layout, env or outside.acting.env
    key_init, key_run = jax.random.split(key)
    shape = layout.workers, layout.envs
    env_keys = 2 if outside.objective is None else 4  # into how many keys the loop splits its own
    index = randomness.components(layout.numbers(layout.own_workers()), layout.rollout_length)
    step_all = jax.jit(jax.vmap(jax.vmap(env.step)))
    now = {"time": 0}

    def flat(x):
        return np.asarray(x).reshape(layout.workers * layout.envs, *x.shape[2:])

    def reset(seed):
        del seed
        start = acting.start(jax.random.split(key_init, env_keys)[1], outside.acting._replace(env=env), None)
        now["state"] = start.env
        return flat(start.obs)

    def step(action):
        i, t = divmod(now["time"], layout.rollout_length)
        key_act = outside.key_act(jax.random.fold_in(key_run, i))
        _, keys = rollout.draw(outside.acting.network, key_act, index)
        now["time"] += 1
        action = jnp.asarray(action).reshape(*shape, *action.shape[1:])
        now["state"], answer = step_all(keys[:, :, t], now["state"], action)
        return host.HostStep(**{name: flat(x) for name, x in answer._asdict().items()})

    count = layout.workers * layout.envs
    return host.HostEnv(count, env.observation_shape, env.action_space, reset, step, lambda: None)


def test_packed_reports_are_the_reports():
    rows = [{"a": jnp.int32(i), "b": jnp.float32(i / 4), "c": jnp.arange(3) + i, "d": jnp.bool_(i)} for i in range(2)]
    found = reports.unpack([reports.pack(row) for row in rows], rows[0])
    for name, values in found.items():
        np.testing.assert_array_equal(values, np.stack([row[name] for row in rows]), strict=True)
    none = reports.unpack([], rows[0])
    assert {name: (x.shape, x.dtype) for name, x in none.items()} == {
        name: ((0, *x.shape), x.dtype) for name, x in rows[0].items()
    }


def test_every_iteration_is_reported_while_the_run_goes_on():
    config = replace(a2c.Config(), env_id="gym/CartPole-v1", num_envs=2, total_frames=60, hidden_sizes=(4,))
    seen = []
    result = host.train(config, jax.random.key(0), on_iteration=lambda state, metrics: seen.append(metrics))
    np.testing.assert_array_equal([int(metrics.frames) for metrics in seen], result.metrics.frames)
    again = host.train(config, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, result.state.learner.params, again.state.learner.params)
    returns = host.evaluate(config, result, jax.random.key(1), episodes=5)
    assert returns.shape == (5,)
    assert (returns >= 8).all()  # a pole falls for at least so long
    with pytest.raises(InputError, match=r"env_id: 'gym/Acrobot-v1'.*'gym/CartPole-v1', with which"):
        host.evaluate(replace(config, env_id="gym/Acrobot-v1"), result, jax.random.key(1))
    learner = result.state.learner
    broken = result.state._replace(learner=learner._replace(params=jax.tree.map(lambda x: x * jnp.nan, learner.params)))
    assert np.isnan(host.evaluate(config, broken, jax.random.key(1), episodes=2)).all()
    with pytest.raises(InputError, match=r"max_steps: 3 .*5 of 5 episodes"):
        host.evaluate(config, result, jax.random.key(1), episodes=5, max_steps=3)


def test_actions_of_an_evaluation_are_the_policys():
    config = replace(a2c.Config(), env_id="gym/CartPole-v1", num_envs=2, total_frames=20, hidden_sizes=(4,))
    state = host.train(config, jax.random.key(0)).state
    # A head that always prefers action 1: episodes of Counting then take 3 steps of 10 points.
    env = host.from_gymnasium(vector(AutoresetMode.SAME_STEP, 4))
    counting = replace(config, env_id=stand_in(env))
    params = counting.build().network.init(jax.random.key(0))
    params = jax.tree.map(jnp.zeros_like, params)
    biased = jax.tree_util.tree_map_with_path(
        lambda path, x: x + jnp.array([0.0, 9.0]) if x.shape == (2,) else x, params
    )
    state = state._replace(learner=state.learner._replace(params=biased), origin=counting.build().outside.origin)
    found = host.evaluate(counting, state, jax.random.key(0), episodes=4, deterministic=True, env=env)
    np.testing.assert_array_equal(found, [30, 30, 30, 30])


def stand_in(env):
    """An `Env` of the same shapes and actions."""
    from purejaxrl_a3c.envs import wrappers
    from purejaxrl_a3c.types import Env, TimeStep

    zeros = jnp.zeros(env.observation_shape)
    false = jnp.bool_(False)
    made = Env(
        reset=lambda key: ((), zeros),
        step=lambda key, state, action: ((), TimeStep(zeros, jnp.float32(0), false, false, zeros)),
        observation_shape=env.observation_shape,
        action_space=env.action_space,
    )
    return wrappers.auto_reset(wrappers.record_episodes(made))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(a2c.Config(), env_id="gym/NoSuchThing-v0"), "env_id: 'gym/NoSuchThing-v0'.*Gymnasium can make"),
        (replace(a2c.Config(), env_id="ale/Pongg"), "env_id: 'ale/Pongg'"),
        (
            replace(a2c.Config(), env_id="gym/CartPole-v1", action_repeat=2),
            "action_repeat: 2 .*1, for environments outside",
        ),
        (replace(a3c.Config(), env_id="gym/CartPole-v1", asynchrony=Asynchrony("clock")), "schedule: 'clock'"),
        (replace(rnd.Config(), env_id="gym/CartPole-v1"), "config: .*without a bonus"),
        (a2c.Config(), "env_id: 'CartPole-v1'.*gym, ale, vizdoom and a slash"),
    ],
)
def test_what_cannot_be_trained_here_is_said_before(config, message):
    with pytest.raises(InputError, match=message):
        host.train(config, jax.random.key(0))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_can_be_made_for_environments_outside_or_says_why_not(name):
    env_id = "gym/Pendulum-v1" if name in ("td3", "d4pg") else "gym/CartPole-v1"
    config = replace(ALGORITHMS[name], env_id=env_id)
    if name.startswith("rnd"):
        with pytest.raises(InputError, match="without a bonus"):
            compiled.state_types(config)
    else:
        assert compiled.state_types(config).learner.params


def test_make_train_says_who_trains_in_such_an_environment():
    train = make_train(replace(a2c.Config(), env_id="gym/CartPole-v1"))
    with pytest.raises(InputError, match=r"env_id: 'gym/CartPole-v1'.*purejaxrl_a3c\.host\.train"):
        jax.eval_shape(train, jax.random.key(0))


def test_environments_of_another_shape_or_number_are_an_error():
    config = replace(a2c.Config(), env_id="gym/CartPole-v1", num_envs=2, total_frames=20)
    with pytest.raises(InputError, match=r"env: '3 environments'.*2 environments"):
        host.train(config, jax.random.key(0), host.from_gymnasium(vector(AutoresetMode.SAME_STEP, 3)))
    with pytest.raises(InputError, match=r"timeout: 0 .*> 0"):
        host.train(config, jax.random.key(0), timeout=0)
    with pytest.raises(InputError, match=r"env: 'observation_shape \(2,\)'.*\(4,\)"):
        host.train(config, jax.random.key(0), host.from_gymnasium(vector(AutoresetMode.SAME_STEP, 2)))


def _crash():
    raise ZeroDivisionError("the simulator has crashed")


def breaking(at, how=_crash):
    """CartPoles whose step ``at`` fails."""
    env, steps = host.make("gym/CartPole-v1", 2), iter(range(1, 10**9))

    def step(action):
        if next(steps) == at:
            how()
        return env.step(action)

    return env._replace(step=step)


def test_what_was_learned_before_an_environment_failed_is_kept():
    with pytest.raises(host.StepError, match="gym/CartPole-v1, iteration 4, step 2: ZeroDivisionError") as raised:
        host.train(CARTPOLE, jax.random.key(0), breaking(23))
    result = raised.value.result
    expected = host.train(replace(CARTPOLE, total_frames=40, anneal_learning_rate=False), jax.random.key(0))
    assert int(result.state.iteration) == len(result.metrics.frames) == 4
    np.testing.assert_array_equal(result.metrics.return_sum, expected.metrics.return_sum)


def _run_for_long():
    end = time.monotonic() + 20
    while time.monotonic() < end:
        pass


@pytest.mark.parametrize("how", [lambda: time.sleep(20), _run_for_long], ids=["waits", "runs"])
def test_environments_that_hang_end_the_run_and_what_was_learned_is_kept(how):
    with pytest.raises(host.StepError, match="iteration 4, step 2: TimeoutError: it took more than 1 s") as raised:
        host.train(CARTPOLE, jax.random.key(0), breaking(23, how), timeout=1)
    assert len(raised.value.result.metrics.frames) == 4
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_the_time_limit_leaves_a_timer_of_the_program_alone():
    seen: list[None] = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(None))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with time_limit(0.01) as begin:
            begin()
            time.sleep(0.4)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(seen) == 1


def run(*arguments):
    """What the command line said and returned; in this process, which has imported everything."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as error:
        try:
            main(list(map(str, arguments)))
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), error.getvalue())


@pytest.mark.usefixtures("no_cache_in_the_home_folder")
@pytest.mark.parametrize("env_id", ["CartPole-v1", "gym/CartPole-v1"])
def test_the_command_line_hands_no_program_to_another_thread_between_steps(env_id, tmp_path):
    program = (
        "import jax, sys; from purejaxrl_a3c.run.cli import main; main(sys.argv[1:])\n"
        "print(jax.config.values['jax_cpu_enable_async_dispatch'])"
    )
    small = ["--num-envs", "2", "--hidden-sizes", "4", "--total-frames", "40", "--evaluation-episodes", "1"]
    command = [sys.executable, "-c", program, "train", "a2c", "--env-id", env_id, *small]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == str(not env_id.startswith("gym/"))


@pytest.mark.usefixtures("no_cache_in_the_home_folder")
def test_the_command_line_trains_resumes_and_evaluates(tmp_path):
    settings = ["--env-id", "gym/CartPole-v1", "--num-envs", 2, "--hidden-sizes", 4, "--evaluation-episodes", 3]
    trained = run("train", "a2c", *settings, "--total-frames", 60, "--out", tmp_path / "run")
    assert trained.returncode == 0, trained.stderr
    resumed = run("train", "--resume", tmp_path / "run", "--total-frames", 100)
    assert resumed.returncode == 0, resumed.stderr
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == [str(frames) for frames in range(10, 101, 10)]
    evaluated = run("evaluate", tmp_path / "run", "--evaluation-episodes", 3, "--json")
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads(evaluated.stdout)["frames"] == 100
    config, state, act = load(tmp_path / "run")
    obs = np.array([0.1, 0.2, -0.1, 0.3], np.float32)
    outputs = build(config).policy(state)((), jnp.asarray(obs), jnp.bool_(True))[1]
    assert act(obs)[0] == outputs.policy.mode()
    another = ["--initialize-from", tmp_path / "run", "--total-frames", 60, "--out", tmp_path / "2"]
    again = run("train", "a2c", *settings, *another)
    assert again.returncode == 0, again.stderr


def test_the_command_line_keeps_what_was_learned_before_an_environment_failed(tmp_path, monkeypatch):
    from rich.console import Console

    from purejaxrl_a3c.run import session
    from purejaxrl_a3c.run.interrupts import Interrupts
    from purejaxrl_a3c.run.options import Options
    from purejaxrl_a3c.run.request import Request

    monkeypatch.setattr(lockstep, "make_as_told", lambda config, count: breaking(23))
    request = Request("a2c", CARTPOLE, Options(out=tmp_path / "run"))
    said = r"iteration 4, step 2: ZeroDivisionError.*--resume"
    with Interrupts() as interrupts, pytest.raises(Stopped, match=said):
        session.train(request, Console(stderr=True), interrupts)
    assert int(load(tmp_path / "run").state.iteration) == 4
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    "config",
    [
        replace(CARTPOLE, num_envs=4, frame_stack=2, normalize_observations=True),
        replace(a3c.Config(), env_id="gym/CartPole-v1", num_workers=4, envs_per_worker=2, total_frames=400, core="gru"),
        replace(dqn.Config(), env_id="gym/CartPole-v1", num_envs=4, total_frames=400, learning_starts=100),
    ],
    ids=["a2c", "a3c", "dqn"],
)
def test_devices_share_a_run(config):
    config = replace(config, hidden_sizes=(4,))
    key_init, key = jax.random.split(jax.random.key(0))

    def train(on):
        run = lockstep.compile_run(config, on=on)
        state, metrics = run.advance(key, run.init(key_init), run.iterations)
        # It is continued in new episodes, as after a checkpoint.
        return state.learner.params, metrics, run.advance(key, jax.tree.map(jnp.copy, state), 1)[1]

    alone, shared = train(None), train(lockstep.spread(config, jax.devices()[:2]))
    for name in ("frames", "episodes", "return_sum"):
        np.testing.assert_allclose(getattr(shared[1], name), getattr(alone[1], name))
    if isinstance(config, dqn.Config):  # every device draws from what it has itself seen
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(shared[0]))
        return
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5), shared[0], alone[0])
    np.testing.assert_allclose(shared[2].return_sum, alone[2].return_sum)


@pytest.mark.usefixtures("no_cache_in_the_home_folder")
def test_processes_share_a_run_each_with_its_own_environments(tmp_path):
    settings = ["train", "a2c", "--env-id", "gym/CartPole-v1", "--num-envs", "4", "--hidden-sizes", "4"]
    alone = run(*settings, "--total-frames", 400, "--out", tmp_path / "alone", "--evaluation-episodes", 3)
    assert alone.returncode == 0, alone.stderr
    together = [*settings, "--total-frames", "400", "--out", str(tmp_path / "together"), "--evaluation-episodes", "3"]
    processes = start(together, 2)
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs

    def read(name):
        return np.genfromtxt(tmp_path / name / "metrics.csv", delimiter=",", names=True)

    for field in ("frames", "episodes", "episode_return", "policy_loss"):
        np.testing.assert_allclose(read("together")[field], read("alone")[field], rtol=1e-3, atol=1e-4, err_msg=field)
    resumed = run("train", "--resume", tmp_path / "together", "--total-frames", 600, "--num-devices", 1)
    assert resumed.returncode == 0, resumed.stderr


@pytest.mark.usefixtures("no_cache_in_the_home_folder")
def test_replay_trains_on_the_command_line_too(tmp_path):
    settings = ["--env-id", "gym/Pendulum-v1", "--num-envs", 2, "--hidden-sizes", 4, "--learning-starts", 20]
    trained = run("train", "sac", *settings, "--total-frames", 60, "--out", tmp_path / "run", "--json")
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["frames"] == 60


@pytest.mark.usefixtures("no_cache_in_the_home_folder")
def test_the_command_line_refuses_what_it_cannot_train(tmp_path):
    refused = run("train", "rnd", "--env-id", "gym/CartPole-v1", "--out", tmp_path / "run")
    assert refused.returncode == 2
    assert "without a bonus, for environments outside of JAX" in refused.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a2c_learns_gymnasiums_cartpole():
    config = replace(a2c.Config(), env_id="gym/CartPole-v1", total_frames=500_000)
    returns = [
        host.evaluate(config, host.train(config, jax.random.key(seed)), jax.random.key(9), deterministic=True).mean()
        for seed in range(3)
    ]
    assert np.median(returns) >= 450
