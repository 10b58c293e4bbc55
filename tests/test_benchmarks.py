"""What the benchmarks rest on, on small sizes."""

import jax.numpy as jnp
import numpy as np

from benchmarks.claims import threads
from benchmarks.learning import train_and_evaluate
from benchmarks.timing import Timed
from purejaxrl_a3c import a2c
from purejaxrl_a3c.config import replace


def test_a_slow_first_call_does_not_decide_how_many_iterations_are_timed(monkeypatch):
    calls = iter([1.0])  # seconds; all later ones take a millisecond an iteration
    monkeypatch.setattr(Timed, "_run", lambda self: next(calls, 1e-3 * self.n))
    assert Timed(lambda key: jnp.float32(0), lambda key, x, n: x + n, seconds=0.1).n == 100


def test_sampled_actions_are_not_the_most_probable_ones():
    config = replace(a2c.Config(), env_id="Catch-bsuite", hidden_sizes=(8,), total_frames=160, learning_rate=0.0)
    (_, greedy), (_, sampled) = (train_and_evaluate(config, 2, 16, deterministic) for deterministic in (True, False))
    assert greedy.shape == sampled.shape == (2,)
    assert (greedy != sampled).any()


def test_real_threads_count_the_pushes_since_their_pull():
    staleness, seconds = threads.race(threads.compiled(), threads=3, seed=0, pushes=300)
    assert staleness.shape == (300,)
    assert staleness[0] == 0
    # Everybody misses what the others push meanwhile, so the mean is N - 1, but for the first and the last tasks.
    assert abs(staleness.mean() - 2) < 0.1
    assert seconds > 0


def test_a_distribution_function_of_staleness_keeps_its_tail():
    function = threads.histogram(np.array([0, 0, 2, 10**6]))
    np.testing.assert_array_equal(function[:4], [0.5, 0.5, 0.75, 0.75])
    assert function[-1] == 1
