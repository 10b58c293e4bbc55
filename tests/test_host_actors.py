"""Actors and a learner outside of JAX, against the simulated queue, and with what may go wrong."""

import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c import InputError, a2c, envs, host, impala, make_train, ppo, replace
from purejaxrl_a3c.envs import spaces
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
        programs, names = made(*arguments)
        return programs._replace(learn=lambda *x: 1 / 0), names

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
