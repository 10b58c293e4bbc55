import numpy as np

from purejaxrl_a3c.run.plots import binned_mean


def test_means_over_equal_stretches_of_the_run():
    frames = 80 * np.arange(1, 101)
    ends, means = binned_mean(frames, np.arange(1.0, 101.0), np.ones(100), bins=10)
    np.testing.assert_allclose(ends, 800 * np.arange(1, 11))
    np.testing.assert_allclose(means, np.arange(5.5, 100, 10))


def test_means_count_episodes_and_leave_out_stretches_without_any():
    frames, episodes = np.array([10, 20, 30, 40]), np.array([1, 3, 0, 0])
    ends, means = binned_mean(frames, np.array([0.0, 4.0, np.nan, np.nan]), episodes, bins=2)
    np.testing.assert_allclose(ends, [20])
    np.testing.assert_allclose(means, [3.0])
