"""Actors and a learner outside of JAX, against the simulated queue, and with what may go wrong."""

import csv
import json
import re
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c import InputError, a2c, envs, host, impala, load, make_train, ppo, replace
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.host import actors, actors_run
from purejaxrl_a3c.host.actor import Task
from purejaxrl_a3c.run.chunks import run_in_chunks
from purejaxrl_a3c.run.cli import main
from purejaxrl_a3c.types import Env, TimeStep
from purejaxrl_a3c.updates import Asynchrony, Queue
from purejaxrl_a3c.updates.clock import Service


def _step(key, state, action):
    del key
    place, now = state
    place, now = place + action, now + 1
    obs = jnp.stack([place, now]).astype(jnp.float32) / 5
    terminated = (now == 7) & (place > 3)
    return (place, now), TimeStep(obs, jnp.float32(place), terminated, (now == 9) & ~terminated, final_obs=obs)


# Nothing in it is random, so that it does not matter which keys a step gets.
WALK = Env(lambda key: ((jnp.int32(0), jnp.int32(0)), jnp.zeros(2)), _step, (2,), spaces.Discrete(2))


def walking(count):
    """So many of them as a `HostEnv`."""
    env = envs.make(envs.Config(env_id=WALK), 0.99)
    keys = jax.random.split(jax.random.key(0), (count, 2))
    start, step_all = jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))
    now = {}

    def reset(seed):
        del seed
        now["state"], obs = start(keys[:, 0])
        return np.asarray(obs)

    def step(action):
        now["state"], answer = step_all(keys, now["state"], jnp.asarray(action))
        return host.HostStep(**{name: np.asarray(x) for name, x in answer._asdict().items()})

    return host.HostEnv(count, (2,), spaces.Discrete(2), reset, step, lambda: None)


def queue_of(**changes):
    return Asynchrony(
        "queue", service=Service("exponential"), queue=Queue(batch_rollouts=2, queue_capacity=3, **changes)
    )


SIZES: dict[str, Any] = {"env_id": WALK, "num_workers": 3, "rollout_length": 5, "hidden_sizes": (8,)}
PPO = replace(ppo.Config(), num_envs=6, num_minibatches=2, epochs=2, **SIZES)
IMPALA = replace(impala.Config(), envs_per_worker=2, reads="newest", lag=0.0, **SIZES)
CONFIGS: dict[str, Any] = {
    "ppo": replace(PPO, asynchrony=queue_of(), loss_correction="decoupled"),
    "ppo, parts": replace(PPO, asynchrony=queue_of(parts_per_rollout=2, publish_every=2, queue_order="newest")),
    "impala": replace(IMPALA, asynchrony=queue_of(discard_bound=1, learner_time=2.5)),
    "impala, lstm": replace(IMPALA, asynchrony=queue_of(admission_bound=1), core="lstm", num_cells=8),
    "impala, stacked": replace(IMPALA, asynchrony=queue_of(), frame_stack=2),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_in_the_order_of_the_simulation_it_learns_what_that_learns(name):
    config, key = replace(CONFIGS[name], total_frames=600), jax.random.key(3)
    expected = jax.jit(make_train(config))(key)
    result = host.train_actors(config, key, deterministic=True, make_env=walking)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-6),
        result.state.learner.params,
        expected.state.learner.params,
    )
    for field in ("frames", "episodes", "return_sum", "length_sum"):
        np.testing.assert_allclose(getattr(result.metrics, field), getattr(expected.metrics, field))
    np.testing.assert_array_equal(result.state.learner.staleness, expected.state.learner.staleness)
    for name in ("queue_length", "busy_workers", "busy_learner", "discarded"):
        np.testing.assert_allclose(result.metrics.losses[name], expected.metrics.losses[name], rtol=1e-5)


RACING = replace(IMPALA, asynchrony=Asynchrony("queue", queue=Queue(batch_rollouts=2, queue_capacity=3)))


def test_actors_that_take_turns_with_the_learner_learn_the_same_whoever_is_faster():
    """With one actor and no rollout ahead there is only one order."""
    turns = Asynchrony("queue", queue=Queue(batch_rollouts=1, queue_capacity=1, admission_bound=0))
    config = replace(RACING, asynchrony=turns, num_workers=1, total_frames=300)
    real, simulated = (
        host.train_actors(config, jax.random.key(0), deterministic=fixed, make_env=walking) for fixed in (False, True)
    )
    jax.tree.map(np.testing.assert_array_equal, real.state.learner.params, simulated.state.learner.params)
    assert real.updates.staleness.shape == (30, 1, 1)
    assert not real.updates.staleness.any()


def test_a_real_queue_keeps_its_rules():
    config = replace(RACING, total_frames=3000, discard_bound=1)
    seen: list[int] = []
    result = host.train_actors(config, jax.random.key(0), make_env=walking, on_progress=seen.append)
    np.testing.assert_array_equal(seen, result.metrics.frames)
    assert len(result.updates.taken) == len(result.updates.staleness)
    assert (np.diff(result.updates.taken) >= 0).all()
    assert 0 < result.updates.staleness.max() <= 1
    assert int(result.state.learner.staleness.sum()) == result.updates.staleness.size
    assert result.metrics.losses["queue_length"].max() <= 3
    assert (result.metrics.losses["busy_workers"] > 0).all()
    assert (np.diff(result.metrics.losses["wall_time"]) >= 0).all()
    assert host.evaluate(config, result, jax.random.key(1), episodes=3, env=walking(3)).shape == (3,)


class Broken:
    """Makes environments of which one fails at its 20th step, so many times."""

    def __init__(self, times, how):
        self.left, self.how, self.lock = times, how, threading.Lock()

    def __call__(self, count):
        env, steps = walking(count), iter(range(10**9))

        def step(action):
            if next(steps) == 20:
                with self.lock:
                    fails, self.left = self.left > 0, self.left - 1
                if fails:
                    self.how()
            return env.step(action)

        return env._replace(step=step)


def _raise():
    raise ZeroDivisionError("the simulator has crashed")


def test_an_actor_that_fails_is_started_again():
    config = replace(RACING, total_frames=3000)
    result = host.train_actors(config, jax.random.key(0), make_env=Broken(2, _raise))
    assert result.metrics.frames[-1] == 3000


@pytest.mark.parametrize(
    ("how", "arguments", "said"),
    [
        (
            _raise,
            {"max_restarts": 0},
            r"the environment: actor \d, step \d: ZeroDivisionError: the simulator has crashed",
        ),
        (lambda: time.sleep(20), {"timeout": 2.0}, "the environment: no actor did anything for 2 s"),
    ],
)
def test_what_was_learned_before_an_actor_failed_is_kept(how, arguments, said):
    config = replace(RACING, total_frames=30_000)
    with pytest.raises(host.WorkerError, match=said) as raised:
        host.train_actors(config, jax.random.key(0), make_env=Broken(10, how), **arguments)
    result = raised.value.result
    assert 0 < len(result.metrics.frames) < 1000
    assert len(result.updates.staleness) > 0


def test_an_error_of_what_learns_ends_the_run(monkeypatch):
    from purejaxrl_a3c.host import actor

    made: Any = actor.compile_programs

    def broken(*arguments):
        programs, *names = made(*arguments)
        return programs._replace(learn=lambda *x: 1 / 0), *names

    monkeypatch.setattr(actor, "compile_programs", broken)
    with pytest.raises(host.WorkerError, match="the learner: ZeroDivisionError"):
        host.train_actors(RACING, jax.random.key(0), make_env=walking)


@pytest.mark.parametrize(
    ("config", "arguments", "said"),
    [
        (a2c.Config(), {}, "config: .*ppo.Config or impala.Config"),
        (IMPALA, {}, "schedule: 'random'.*queue"),
        (CONFIGS["ppo"], {}, "service_law: 'exponential'.* unless deterministic"),
        (CONFIGS["impala"], {"timeout": 0}, "timeout: 0 .*> 0"),
        (replace(RACING, normalize_observations=True), {}, "normalize_observations: True"),
        (replace(RACING, time_limit=3), {}, "time_limit: 3 .*0, for environments of one's own"),
    ],
)
def test_what_is_not_accepted_is_said_before(config, arguments, said):
    with pytest.raises(InputError, match=said):
        host.train_actors(config, jax.random.key(0), make_env=walking, **arguments)


def test_it_trains_in_gymnasium():
    pytest.importorskip("gymnasium")
    config = replace(RACING, env_id="gym/CartPole-v1", total_frames=600)
    result = host.train_actors(config, jax.random.key(0))
    assert result.metrics.episodes.sum() > 3


@pytest.fixture(scope="module")
def in_pieces():
    """The last `Result` of a run in pieces, all metrics, and the types that were promised."""
    pytest.importorskip("gymnasium")
    config = replace(RACING, env_id="gym/CartPole-v1", total_frames=1200)
    run = actors.compile_run(config)
    pieces = list(run_in_chunks(run, jax.random.key(0), every=[3]))
    return config, run, pieces


def test_a_run_in_pieces_reports_every_iteration_once(in_pieces):
    config, run, pieces = in_pieces
    frames = np.concatenate([piece.metrics.frames for piece in pieces])
    np.testing.assert_array_equal(frames, 30 * np.arange(1, 41))
    assert len(pieces) >= 14
    for piece in pieces:
        assert jax.tree.map(lambda x: x.dtype, piece.metrics) == jax.tree.map(lambda x: x.dtype, run.metrics)
    losses = {name: np.concatenate([one.metrics.losses[name] for one in pieces]) for name in run.metrics.losses}
    assert (np.diff(losses["virtual_time"]) > 0).all()
    assert (np.diff(losses["wall_time"]) > 0).all()
    last = pieces[-1].state
    assert jax.tree.map(lambda x: (np.shape(x), x.dtype), last.learner.params) == jax.tree.map(
        lambda x: (x.shape, x.dtype), run.state.learner.params
    )
    updates = int(last.learner.queue.version)
    assert 10 < updates <= 120
    assert last.learner.staleness.sum() - 2 * updates in (0, 2)  # two rollouts an update, and one may be on its way
    assert np.isfinite(host.evaluate(config, last, jax.random.key(1), episodes=2)).all()


def test_a_run_goes_on_from_a_state_in_new_episodes_and_with_an_empty_queue(in_pieces, monkeypatch):
    config, _, pieces = in_pieces
    acts: list[int] = []
    learns: list[int] = []
    take = actors_run.Run._take

    def noted_task(params, push):
        acts.append(push)
        return Task(params, push)

    def noted_take(self, event, push):
        learns.append(push)
        take(self, event, push)

    monkeypatch.setattr(actors_run, "Task", noted_task)
    monkeypatch.setattr(actors_run.Run, "_take", noted_take)
    middle = next(piece.state for piece in pieces if int(piece.state.iteration) >= 20)
    run, done = actors.compile_run(config), int(middle.iteration)
    state, metrics = run.advance(jax.random.key(0), middle, 5)
    np.testing.assert_array_equal(metrics.frames, 30 * np.arange(done + 1, done + 6))
    assert int(state.iteration) == done + 5
    # The numbers by which randomness is drawn go on; the learner's first batch has two rollouts.
    assert sorted(acts[:3]) == [3 * done, 3 * done + 1, 3 * done + 2]
    assert learns[0] == 3 * done + 1
    assert metrics.losses["virtual_time"][0] > middle.learner.queue.now
    assert state.learner.staleness.sum() > middle.learner.staleness.sum()
    with pytest.raises(AssertionError):
        jax.tree.map(np.testing.assert_array_equal, state.learner.params, middle.learner.params)
    again, _ = run.advance(jax.random.key(0), middle, 1)  # not the last state: new actors
    assert int(again.iteration) == done + 1


def test_actors_act_on_the_command_line_too(tmp_path):
    pytest.importorskip("gymnasium")
    settings = ["--env-id", "gym/CartPole-v1", "--num-envs", "4", "--num-workers", "2", "--rollout-length", "5"]
    settings += ["--num-minibatches", "1", "--epochs", "1", "--hidden-sizes", "4", "--schedule", "queue"]
    rest = ["--evaluation-episodes", "2", "--out", str(tmp_path / "run")]
    main(["train", "ppo", *settings, "--engine", "actors", "--total-frames", "400", *rest])
    main(["train", "--resume", str(tmp_path / "run"), "--total-frames", "800"])
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frames"]) for row in rows] == list(range(20, 801, 20))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["engine"] == "actors"
    assert int(load(tmp_path / "run").state.iteration) == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ppo", "--env-id", "gym/CartPole-v1"), "engine: 'actors' .* except for PPO and IMPALA with schedule queue"),
        (("a3c", "--env-id", "gym/CartPole-v1"), "engine: 'actors' .* except for PPO and IMPALA with schedule queue"),
        (("ppo", "--schedule", "queue"), "engine: 'actors' .* lockstep for environments of JAX"),
        (
            ("ppo", "--env-id", "gym/CartPole-v1", "--schedule", "queue", "--num-workers", "4", "--push", "hogwild"),
            "push: 'hogwild' .*'locked' if engine is actors",
        ),
        (
            ("ppo", "--env-id", "gym/CartPole-v1", "--schedule", "queue", "--num-workers", "4", "--service-cv", "0.5"),
            "service_cv: 0.5 .*nothing is simulated here",
        ),
    ],
)
def test_the_command_line_says_where_no_actors_can_act(arguments, message, capsys):
    pytest.importorskip("gymnasium")
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments, "--engine", "actors"])
    assert ended.value.code == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
