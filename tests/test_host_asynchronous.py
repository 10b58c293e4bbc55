"""Tests of A3C with workers that really are asynchronous."""

import csv
import functools
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from purejaxrl_a3c import InputError, a2c, a3c, host, load, replace
from purejaxrl_a3c.backend.vectors import ravel
from purejaxrl_a3c.host import race
from purejaxrl_a3c.host import shared as memory
from purejaxrl_a3c.host.crew import Crew
from purejaxrl_a3c.host.results import Settings
from purejaxrl_a3c.host.worker import Assignment
from purejaxrl_a3c.run.cli import main
from purejaxrl_a3c.updates import Asynchrony, optimizers

pytest.importorskip("gymnasium")

CONFIG = replace(
    a3c.Config(),
    env_id="gym/CartPole-v1",
    num_workers=3,
    envs_per_worker=2,
    rollout_length=5,
    total_frames=900,
    hidden_sizes=(8,),
)


@pytest.mark.parametrize(
    ("backend", "changes"),
    [
        ("processes", {"frame_stack": 2, "clip_rewards": 0.5}),
        ("threads", {"core": "lstm", "num_cells": 4, "momentum": 0.5, "correction": "delay"}),
    ],
)
def test_in_turn_it_is_the_simulated_run(backend, changes):
    config = replace(CONFIG, **changes)
    key = jax.random.key(3)
    expected = host.train(replace(config, asynchrony=Asynchrony("round_robin")), key)
    result = host.train_async(config, key, push="in_turn", backend=backend)
    # The snapshots of the workers are not kept.
    there, here = ((one.params, one.opt_state, one.version) for one in (expected.state.learner, result.state.learner))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(y, x, rtol=1e-4, atol=1e-6), there, here)
    np.testing.assert_array_equal(result.state.learner.staleness, expected.state.learner.staleness)
    assert int(result.state.iteration) == 30
    for name in ("frames", "episodes", "return_sum", "length_sum"):
        np.testing.assert_allclose(getattr(result.metrics, name), getattr(expected.metrics, name))
    for name in ("gradient_norm", "gradient_clipped", "skipped_updates", "staleness_mean", "staleness_max"):
        np.testing.assert_allclose(
            result.metrics.losses[name], expected.metrics.losses[name], rtol=1e-3, atol=1e-5, err_msg=name
        )
    assert set(expected.metrics.losses) - set(result.metrics.losses) == {"virtual_time", "staleness_within"}
    np.testing.assert_array_equal(result.pushes.worker, np.arange(90) % 3)


def test_the_time_of_a_task_begins_when_all_workers_do():
    late = iter([0.0, 0.0, 0.0, 1.0])  # the first one is only looked at

    def make_env(num_envs):
        time.sleep(next(late))
        return host.make("gym/CartPole-v1", num_envs)

    pushes = host.train_async(CONFIG, jax.random.key(0), backend="threads", make_env=make_env).pushes
    assert (pushes.pushed - pushes.pulled).max() < 0.9


@pytest.mark.parametrize("backend", ["threads", "processes"])
@pytest.mark.parametrize("push", ["locked", "hogwild"])
def test_every_push_is_counted_once_and_its_staleness_is_right(push, backend):
    result = host.train_async(CONFIG, jax.random.key(0), push=push, backend=backend)
    pushes = result.pushes
    assert len(pushes.worker) == 90
    assert result.metrics.frames[-1] == 900
    assert (pushes.pulled <= pushes.ready).all()
    assert (pushes.ready <= pushes.pushed).all()
    for worker in range(3):
        own = np.flatnonzero(pushes.worker == worker)
        others = np.diff(own, prepend=-1) - 1
        if push == "locked":  # a worker pulls holding the lock with which it has pushed
            # Before its first push it pulled when it was started.
            np.testing.assert_array_equal(pushes.staleness[own[1:]], others[1:])
            assert (pushes.staleness[own[:1]] <= others[:1]).all()
        else:
            assert (pushes.staleness[own] <= others).all()
            assert (pushes.staleness >= 0).all()
    counts = np.bincount(np.minimum(pushes.staleness, 23), minlength=24)  # the last one is for that or more
    np.testing.assert_array_equal(counts, result.state.learner.staleness)
    returns = host.evaluate(CONFIG, result, jax.random.key(1), episodes=3)
    assert (returns >= 8).all()


def test_without_a_lock_no_number_of_a_push_is_lost_if_nobody_pushes_at_the_same_time():
    config = replace(CONFIG, num_workers=1, total_frames=300)
    locked, hogwild = (
        host.train_async(config, jax.random.key(0), push=push, backend="threads") for push in ("locked", "hogwild")
    )
    for x, y in zip(*(jax.tree.leaves(one.state.learner) for one in (locked, hogwild)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


def test_in_pieces_it_is_the_same_run():
    settings = Settings("in_turn", "threads")
    key = jax.random.key(3)
    whole = host.train_async(CONFIG, key, push="in_turn", backend="threads")
    run = race.compile_run(CONFIG, settings)
    key_init, key_run = jax.random.split(key)
    state, pieces = run.init(key_init), []
    for count in (1, 7, 22):
        state, metrics = run.advance(key_run, state, count)
        pieces.append(metrics)
        assert len(metrics.frames) == count
    # Only at the end is the state that of these pushes exactly.
    jax.tree.map(np.testing.assert_array_equal, state, whole.state)
    joined = jax.tree.map(lambda *rows: np.concatenate(rows), *pieces)
    for name in ("frames", "episodes", "return_sum"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole.metrics, name))
    assert set(joined.losses) == set(run.metrics.losses)


def test_a_state_is_continued_from_where_it_was():
    config = replace(CONFIG, anneal_learning_rate=True)
    run = race.Run(config, Settings("in_turn", "threads"))
    key = jax.random.key(0)
    before, _ = run.advance(key, run.init(key), 10)
    run.close()
    again = race.Run(config, Settings("in_turn", "threads"))
    after, metrics = again.advance(key, before, 20)
    assert metrics.frames.tolist() == list(range(330, 901, 30))
    assert int(after.iteration) == 30
    assert int(after.learner.version) == 90
    assert after.learner.staleness.sum() == 90
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(ravel(after.learner.params), ravel(before.learner.params))


@pytest.mark.parametrize("engine", ["processes", "threads"])
def test_workers_race_on_the_command_line_too(engine, tmp_path):
    settings = ["--env-id", "gym/CartPole-v1", "--num-workers", 2, "--envs-per-worker", 2, "--hidden-sizes", 4]
    trained = _run("train", "a3c", *settings, "--engine", engine, "--total-frames", 2000, "--out", tmp_path / "run")
    assert trained.returncode == 0, trained.stderr
    resumed = _run("train", "--resume", tmp_path / "run", "--total-frames", 4000)
    assert resumed.returncode == 0, resumed.stderr
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frames"]) for row in rows] == list(range(40, 4001, 40))
    assert all(float(row["wall_time"]) > 0 for row in rows)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["engine"] == engine
    state = load(tmp_path / "run").state
    assert (int(state.iteration), int(state.learner.version)) == (100, 200)


def _run(*arguments):
    command = [sys.executable, "-m", "purejaxrl_a3c", *map(str, arguments), *["--evaluation-episodes", "2"]]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a3c", "--engine", "threads"), "engine: 'threads' is not accepted; it must be lockstep for environments of"),
        (("ppo", "--engine", "processes", "--env-id", "gym/CartPole-v1"), "lockstep except for A3C"),
        (("a3c", "--push", "hogwild", "--env-id", "gym/CartPole-v1"), "push: .*'locked' if engine is lockstep"),
        (("a3c", "--ray-address", "auto"), "ray_address: .*None if engine is lockstep"),
    ],
)
def test_the_command_line_says_what_cannot_race(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments])
    assert ended.value.code == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


@pytest.mark.parametrize("folder_is_set", [True, False])
def test_processes_run_what_was_compiled_before(folder_is_set, tmp_path):
    """A program that is read from JAX's cache cannot be sent to another process.

    JAX goes on using a cache that it has opened when the setting of its folder is taken back.
    """
    settings = {
        "jax_compilation_cache_dir": str(tmp_path / "cache"),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: jax.config.values[name] for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    try:
        jax.jit(jax.numpy.sin)(1.0).block_until_ready()
        if not folder_is_set:
            jax.config.update("jax_compilation_cache_dir", None)
        for _ in range(2):
            jax.clear_caches()
            host.train_async(replace(CONFIG, total_frames=300), jax.random.key(0))
        assert list((tmp_path / "cache").iterdir())  # of all other programs
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


class _Broken:
    """A `HostEnv` of CartPoles that does something at its step ``at``, until ``times`` starts have done it."""

    def __init__(self, what, folder, times, at=7):
        self.what, self.folder, self.times, self.at = what, folder, times, at

    def __call__(self, num_envs):
        env = host.make("gym/CartPole-v1", num_envs)
        steps = 0

        def step(action):
            nonlocal steps
            steps += 1
            if steps == self.at and any(map(self._is_first, range(self.times))):
                return self.what(env.step(action))
            return env.step(action)

        return env._replace(step=step)

    def _is_first(self, time):
        """Whether nobody has done it for so many times yet; workers may get here at the same moment."""
        try:
            (self.folder / str(time)).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def _raises(answer):
    raise ZeroDivisionError("the simulator has crashed")


def _hangs(answer):
    time.sleep(60)
    return answer


def _dies(answer):
    os.kill(os.getpid(), signal.SIGKILL)


def _wrong_shape(answer):
    return answer._replace(obs=answer.obs[:, :3])


@pytest.mark.parametrize("what", [_raises, _hangs, _dies, _wrong_shape])
def test_a_worker_that_fails_is_started_again(what, tmp_path):
    result = host.train_async(CONFIG, jax.random.key(0), make_env=_Broken(what, tmp_path, 2), timeout=1.0)
    assert len(list(tmp_path.iterdir())) == 2
    assert len(result.pushes.worker) == 90
    assert set(result.pushes.worker) == {0, 1, 2}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (_raises, "ZeroDivisionError: the simulator has crashed"),
        (_hangs, "took longer than 1 s"),
        (_dies, "the worker ended with status -9"),
        (_wrong_shape, r"ValueError: an observation has shape \(3,\), not \(4,\)"),
    ],
)
def test_a_worker_that_fails_too_often_ends_the_run_and_nothing_learned_is_lost(what, said, tmp_path):
    make_env = _Broken(what, tmp_path, 1000, at=28)
    where = rf"gym/CartPole-v1, worker \d, rollout 5, step 2: {said}"
    with pytest.raises(host.WorkerError, match=where) as raised:
        host.train_async(CONFIG, jax.random.key(0), make_env=make_env, timeout=1.0, max_restarts=0)
    result = raised.value.result
    assert len(result.pushes.worker) >= 5  # each worker pushes five times
    assert int(result.state.iteration) == len(result.metrics.frames) == len(result.pushes.worker) // 3
    assert host.evaluate(CONFIG, result, jax.random.key(1), episodes=1).shape == (1,)


def test_in_turn_the_others_wait_for_a_worker_that_is_started_again(tmp_path):
    result = host.train_async(
        CONFIG, jax.random.key(0), push="in_turn", make_env=_Broken(_dies, tmp_path, 1), timeout=5.0
    )
    np.testing.assert_array_equal(result.pushes.worker, np.arange(90) % 3)


@pytest.mark.parametrize("push", ["locked", "in_turn"])
def test_a_worker_that_died_while_it_pushed_does_not_stop_the_others(push):
    zeros = np.zeros(2, np.float32)
    shared = memory.allocate("threads", 2, zeros, [], 4, memory.log_type(1))
    now = memory.arrays(shared)
    memory.start(now, zeros, [])
    told = [Assignment(worker, 2, 1, 1, zeros, 0, push) for worker in range(2)]
    unused: Any = SimpleNamespace(push=None)
    crew = Crew(told, unused, lambda num_envs: 1 / 0, shared, "threads")  # type: ignore[arg-type,return-value]
    failure = crew.watch(4, timeout=1.0, max_restarts=0)
    assert failure is not None
    assert "ZeroDivisionError" in failure.error
    # As if the second one had been killed between taking the lock or its turn, and giving it back.
    now.pushing[0] = 1
    assert shared.lock.acquire()
    assert crew._stop(1)
    assert shared.lock.acquire(timeout=1)
    assert push != "in_turn" or shared.turns[1].acquire(timeout=1)
    assert now.pushing[0] == memory.NOBODY


def test_what_is_not_finite_is_an_error_that_names_the_environment():
    import gymnasium
    from gymnasium.vector import AutoresetMode, SyncVectorEnv

    class Bad(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (2,))
        action_space = gymnasium.spaces.Discrete(2)
        reward, obs = 0.0, 0.0

        def reset(self, *, seed=None, options=None):
            return np.zeros(2, np.float32), {}

        def step(self, action):
            return np.full(2, self.obs, np.float32), self.reward, False, False, {}

    vector: Any = SyncVectorEnv([Bad] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    env = host.from_gymnasium(vector)
    env.reset(0)
    vector.envs[1].reward = np.inf
    with pytest.raises(ValueError, match="environment 1 returned a reward that is not finite"):
        env.step(np.zeros(3, np.int32))
    vector.envs[1].reward, vector.envs[2].obs = 0.0, np.nan
    with pytest.raises(ValueError, match="environment 2 returned an observation that is not finite"):
        env.step(np.zeros(3, np.int32))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_no_process_is_left(end, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import jax
            from purejaxrl_a3c import a3c, host, replace

            if __name__ == "__main__":
                config = replace(a3c.Config(), env_id="gym/CartPole-v1", num_workers=2, total_frames=10**7)
                says = lambda pushes: pushes and print("running", flush=True)
                host.train_async(config, jax.random.key(0), on_progress=says)
        """)
    )
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"running\n"
    assert len(_members(process.pid)) >= 4  # this one, the server, two workers
    process.send_signal(end)
    process.stdout.close()
    process.wait(30)
    until = time.monotonic() + 20
    while _members(process.pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert _members(process.pid) == []


def _members(session):
    """The processes of a session that run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, *numbers = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended
            continue
        if int(numbers[2]) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        (replace(a2c.Config(), env_id="gym/CartPole-v1"), {}, r"config: .*a3c\.Config"),
        (replace(CONFIG, asynchrony=Asynchrony("round_robin")), {}, "asynchrony: .*the default"),
        (replace(CONFIG, env_id="CartPole-v1"), {}, "env_id: 'CartPole-v1'"),
        (CONFIG, {"push": "lock"}, "push: 'lock'.*locked, hogwild, in_turn"),
        (CONFIG, {"backend": "mpi"}, "backend: 'mpi'.*processes, threads, ray"),
        (CONFIG, {"backend": "ray", "push": "hogwild"}, "push: 'hogwild'.*locked if backend is ray"),
        (CONFIG, {"ray_address": "auto"}, "ray_address: 'auto'.*None unless backend is ray"),
        (CONFIG, {"timeout": 0}, "timeout: 0 .*> 0"),
        (replace(CONFIG, scale_rewards=True), {}, "scale_rewards: True .*False: .*no statistics"),
        (CONFIG, {"max_restarts": -1}, "max_restarts: -1"),
        (CONFIG, {"make_env": functools.partial(host.make, "gym/Acrobot-v1")}, r"env: 'observation_shape \(6,\)'"),
    ],
)
def test_what_is_not_accepted_is_said_before(config, arguments, message):
    with pytest.raises(InputError, match=message):
        host.train_async(config, jax.random.key(0), **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("push", ["locked", "hogwild"])
def test_two_processes_learn_gymnasiums_cartpole(push):
    config = replace(
        a3c.Config(),
        env_id="gym/CartPole-v1",
        num_workers=2,
        envs_per_worker=8,
        total_frames=500_000,
        optimizer=optimizers.RMSProp(),
    )
    returns = [
        host.evaluate(
            config, host.train_async(config, jax.random.key(seed), push=push), jax.random.key(9), deterministic=True
        ).mean()
        for seed in range(3)
    ]
    assert np.median(returns) >= 450
