"""What the benchmarks rest on, on small sizes."""

import jax.numpy as jnp
import numpy as np

from benchmarks.claims import common, threads
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


def test_a_rate_is_chosen_on_other_seeds_than_it_is_reported_on():
    """Noise alone, of which the best of 12 rates would look good on the same seeds."""
    noise = np.random.default_rng(1).normal(size=(200, 12, 30))
    assert common.at_best_rates(noise)[0].mean() > 0.2
    assert abs(common.cross_fitted(noise).mean()) < 0.05
    better = noise + 10 * (np.arange(12) == 4)[:, None]
    np.testing.assert_array_equal(common.cross_fitted(better), better[:, 4])


def test_the_power_of_the_best_rate_is_found_between_the_rates_of_a_grid():
    """Returns whose best rate falls like the power -0.7 of the staleness."""
    rates, at = np.array([1e-4 * 1.6**i for i in range(12)]), np.array([1.0, 5, 17, 65])
    distance = np.log(rates)[None] - np.log(6e-3 * at**-0.7)[:, None]
    noise = np.random.default_rng(0).normal(size=(4, 12, 30))
    returns = 100 * np.exp(-(distance**2))[..., None] + 5 * noise
    slope, low, high = common.slope_interval(returns, rates, at)
    assert abs(slope + 0.7) < 0.1
    assert low < slope < high < -0.5
