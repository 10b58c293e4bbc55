"""Tests of A3C's workers and its parameter server as actors of Ray."""

import os
import signal
from typing import Any

import jax
import numpy as np
import pytest
import test_host_asynchronous
from test_host_asynchronous import CONFIG, _Broken, _dies, _hangs, _raises

from purejaxrl_a3c import host, replace
from purejaxrl_a3c.host import on_ray

pytest.importorskip("gymnasium")
ray = pytest.importorskip("ray")

# The file of the tests cannot be imported where workers run.
ray.cloudpickle.register_pickle_by_value(test_host_asynchronous)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Ray on this machine, for all tests; each would start its own otherwise."""
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def started(monkeypatch):
    """The `Workers` that are started, so that a test can reach their processes."""
    found: list[Any] = []

    class Watched(on_ray.Workers):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            found.append(self)

    monkeypatch.setattr(on_ray, "Workers", Watched)
    return found


def test_one_worker_is_the_run_that_repeats():
    config = replace(CONFIG, num_workers=1, total_frames=300)
    key = jax.random.key(3)
    expected = host.train_async(config, key, push="in_turn", backend="threads")
    result = host.train_async(config, key, backend="ray")
    pairs = zip(jax.tree.leaves(expected.state.learner), jax.tree.leaves(result.state.learner), strict=True)
    for there, here in pairs:
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result.metrics.return_sum, expected.metrics.return_sum)
    assert ray.is_initialized()  # whoever has started Ray ends it


# What an environment raises is answered like the death of a worker, which is tested.
@pytest.mark.parametrize("what", [pytest.param(_raises, marks=pytest.mark.slow), _hangs, _dies])
def test_a_worker_that_fails_is_replaced_and_the_run_goes_on(what, tmp_path):
    result = host.train_async(
        CONFIG, jax.random.key(0), backend="ray", make_env=_Broken(what, tmp_path, 1), timeout=1.0
    )
    assert len(list(tmp_path.iterdir())) == 1
    assert len(result.pushes.worker) == 90
    assert set(result.pushes.worker) == {0, 1, 2}
    for worker in range(3):
        own = np.flatnonzero(result.pushes.worker == worker)
        others = np.diff(own, prepend=-1) - 1
        # Less only after a new start, which pulls anew.
        assert (result.pushes.staleness[own] <= others).all()
        assert (result.pushes.staleness[own] < others).sum() <= 2
    assert int(result.state.iteration) == 30


def test_a_worker_that_fails_too_often_ends_the_run_and_nothing_learned_is_lost(tmp_path):
    make_env = _Broken(_raises, tmp_path, 1000, at=28)
    where = r"gym/CartPole-v1, worker \d, rollout 5, step 2: ZeroDivisionError"
    with pytest.raises(host.WorkerError, match=where) as raised:
        host.train_async(CONFIG, jax.random.key(0), backend="ray", make_env=make_env, max_restarts=0)
    assert len(raised.value.result.pushes.worker) >= 5


def test_without_the_server_what_was_learned_until_then_is_kept(started):
    def kill(pushes):
        if pushes > 30:
            ray.kill(started[0]._server)

    config = replace(CONFIG, total_frames=10**7)
    with pytest.raises(host.WorkerError, match="the parameter server is lost") as raised:
        host.train_async(config, jax.random.key(0), backend="ray", on_progress=kill)
    assert len(raised.value.result.pushes.worker) > 30
    assert host.evaluate(config, raised.value.result, jax.random.key(1), episodes=1).shape == (1,)


def test_four_workers_one_of_which_is_killed_from_outside(started):
    """As somebody would who ends a process by its number."""
    killed: list[int] = []

    def kill(pushes):
        if pushes > 100 and not killed:
            killed.append(started[0].processes()[2])
            os.kill(killed[0], signal.SIGKILL)

    config = replace(CONFIG, num_workers=4, total_frames=24_000)
    result = host.train_async(config, jax.random.key(0), backend="ray", on_progress=kill)
    assert killed
    assert len(result.pushes.worker) == 2400
    assert (np.bincount(result.pushes.worker) > 100).all()
