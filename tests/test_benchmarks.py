"""What the benchmarks rest on, on small sizes."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import learning, outside, record, self_play, suites
from benchmarks.claims import common, speedup, tasks, threads
from benchmarks.learning import train_and_evaluate
from benchmarks.timing import Timed
from purejaxrl_a3c import a2c, rnd
from purejaxrl_a3c.config import check, replace, to_json


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
    staleness, times, seconds = threads.race(threads.compiled(), threads=3, seed=0, pushes=300)
    assert staleness.shape == times.shape == (300,)
    assert (times > 0).all()
    assert times.sum() <= 3 * seconds  # three threads, whose tasks follow each other without a gap
    assert staleness[0] == 0
    # A worker misses what the others push from its first pull to its last push. So the mean is N - 1 if everyone's last
    # push is that of the race, and a bit less otherwise: a thread may wait long for a core of a busy machine.
    assert 1.5 < staleness.mean() <= 2
    assert seconds > 0


def test_a_distribution_function_of_staleness_keeps_its_tail():
    function = threads.histogram(np.array([0, 0, 2, 10**6]))
    np.testing.assert_array_equal(function[:4], [0.5, 0.5, 0.75, 0.75])
    assert function[-1] == 1


def test_a_rate_is_chosen_on_other_seeds_than_it_is_reported_on():
    """Noise alone, of which the best of 12 rates would look good on the same seeds."""
    noise = np.random.default_rng(1).normal(size=(200, 12, 30))
    assert noise.mean(-1).max(-1).mean() > 0.2
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


def test_every_point_of_a_sweep_is_run_with_its_own_seed_and_settings():
    """Seven points in batches of three: none is lost, and none that fills the last batch up is left."""

    def run(key, a, b):
        return 100 * a + b, jax.random.key_data(key)[-1]

    found, seeds = common.sweep(run, {"a": (1, 2), "b": (3, 5, 7)}, 3, batch=4, first_seed=10)
    np.testing.assert_array_equal(found[..., 0], [[103, 105, 107], [203, 205, 207]])
    np.testing.assert_array_equal(seeds, np.broadcast_to([10, 11, 12], (2, 3, 3)))


def test_settings_are_chosen_on_seeds_that_are_not_reported():
    """At each point another rate is the best, and only on the seeds of the search is the highest one better still."""

    def run(key, point, learning_rate):
        searched = jax.random.key_data(key)[-1] >= common.SEARCH
        return -jnp.abs(learning_rate - point - searched), learning_rate

    (returns, rates), chosen, _ = common.at_chosen_rates(run, {"point": (1.0, 2.0)}, (1.0, 2.0, 3.0), search=2, seeds=4)
    np.testing.assert_array_equal(chosen, [2, 3])
    np.testing.assert_array_equal(rates, [[2] * 4, [3] * 4])
    np.testing.assert_array_equal(returns, np.full((2, 4), -1.0))


def test_an_interval_over_tasks_resamples_the_seeds_within_each():
    """Tasks that differ by far do not widen it; seeds do, as the standard error says."""
    rng = np.random.default_rng(0)
    apart = np.array([[0.0], [5.0], [10.0]])
    a, b = (mean + apart + 0.1 * rng.normal(size=(3, 400)) for mean in (1.0, 0.8))
    middle, low, high = tasks.gain(a, b)
    assert abs(middle - 0.2) < 0.02
    # The interquartile mean of normal values has 1.09 times the standard error of their mean.
    error = 1.09 * 0.1 * np.sqrt(2 / (3 * 400))
    np.testing.assert_allclose([middle - low, high - middle], 1.96 * error, rtol=0.15)
    assert tasks.decided((middle, low, high), 0.15) == "confirmed"
    assert tasks.decided((middle, low, high), 0.25) == "refuted"
    assert tasks.decided((middle, low, high), middle) == "not decided"


def test_the_seeds_that_would_decide_give_a_power_of_80_percent():
    seeds = tasks.seeds_to_decide((0.1, 0.1 - 0.196, 0.1 + 0.196), 0)  # a standard error of 0.1 with 30 seeds
    rng = np.random.default_rng(0)
    found = 0.1 + 0.1 * np.sqrt(tasks.SEEDS / seeds) * rng.normal(size=20_000)
    assert abs((found > 1.96 * 0.1 * np.sqrt(tasks.SEEDS / seeds)).mean() - 0.8) < 0.01


def test_a_score_is_not_reached_before_there_is_a_running_mean_of_it():
    """Acrobot's returns are negative: neither no episode at all nor a single good one is a score of -150."""
    frames = 500.0 * np.arange(1, 41)
    episodes = np.r_[0, np.ones(39)]
    returns = np.where(np.arange(40) < 20, -500.0, -90.0)
    returns[1] = -80
    metrics = SimpleNamespace(frames=frames, episodes=episodes, episode_return=returns)
    reached = np.asarray(speedup.running_return(metrics, 0)) >= -150
    assert not reached[:21].any()
    assert reached[-1]
    assert 4 < np.argmax(reached) - 20 < 20


def test_a_score_is_not_reached_before_every_worker_can_have_ended_an_episode():
    """Sixteen workers whose episodes take 500 steps have ended none after 4,000 frames; what ends first is short."""
    frames = 500.0 * np.arange(1, 41)
    metrics = SimpleNamespace(frames=frames, episodes=np.zeros(40), episode_return=np.full(40, np.nan))
    assert not (np.asarray(speedup.running_return(metrics, 16 * 500)) >= -150)[frames < 8000].any()
    metrics.episodes, metrics.episode_return = np.ones(40), np.full(40, -90.0)
    reached = np.asarray(speedup.running_return(metrics, 16 * 500)) >= -150
    np.testing.assert_array_equal(reached, frames >= 8000)


def test_elo_finds_the_ratings_that_results_were_made_of():
    ratings = np.array([-300.0, -50.0, 100.0, 250.0])
    share = 1 / (1 + 10 ** ((ratings[None] - ratings[:, None]) / 400))
    points = 100_000 * share * (1 - np.eye(4))
    points[0, 3] = points[3, 0] = 0  # who never met counts for nothing
    np.testing.assert_allclose(self_play.elo(points), ratings, atol=0.5)
    assert np.isfinite(self_play.elo(np.array([[0.0, 10], [0, 0]]))).all()


def test_a_row_with_other_settings_is_measured_again_and_in_another_folder():
    row = outside.ROWS["SAC on HalfCheetah"]
    other = row._replace(settings=row.settings | {"batch-size": 128})
    written = {**outside.about_of(row), "random": 1.0, "runs": []}
    assert outside.about_of(row).items() <= written.items()
    assert not outside.about_of(other).items() <= written.items()
    assert len({outside.folder_of(one, "SAC") for one in (row, other, row._replace(frames=9))}) == 3


def test_a_table_of_other_seeds_is_not_overwritten(monkeypatch, tmp_path):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    learning.check_same("learning", 5, 128)  # there is none
    (tmp_path / "learning.json").write_text('{"results": {"row": {}}, "seeds": [0, 1], "episodes": 128}')
    learning.check_same("learning", 2, 128)
    with pytest.raises(SystemExit, match="rows of 2 seeds"):
        learning.main("defaults", seeds=5)
    with pytest.raises(SystemExit, match="rows of 128 episodes"):
        learning.main("defaults", seeds=2, episodes=8)


# Settings that had other names, and what switched some of them off, when a few of the tables were measured.
RENAMED = {
    "lambda_": "gae_lambda",
    "minibatches": "num_minibatches",
    "stop_kl": "target_kl",
    "kl_target": "kl_penalty_target",
    "kl_coefficient": "kl_penalty",
    "predictor_minibatches": "num_predictor_minibatches",
}
ONCE_ZERO = {"sticky_actions", "clip_rewards", "target_kl", "momentum"}


def settings_of(config):
    """The settings of a config as results keep them, by today's names."""
    found = dict[str, object]()
    for name, value in record.plain(config).items():
        if isinstance(value, dict) and name in ("wrappers", "agent", "asynchrony", "service"):
            found |= settings_of(value)
        else:
            name = RENAMED.get(name, name)
            found[name] = None if name in ONCE_ZERO and value == 0 else value
    return found


def test_settings_of_suites_are_accepted():
    for panels in suites.SUITES.values():
        for configs in panels.values():
            for config in configs.values():
                check(config)


@pytest.mark.parametrize("evaluated", ["", learning.SAMPLED])
@pytest.mark.parametrize("suite", suites.SUITES)
def test_tables_of_learning_are_of_the_settings_that_stand_in_the_suites(suite, evaluated):
    rows = record.rows_of(("learning" if suite == "defaults" else f"learning_{suite}") + evaluated)
    configs = {f"{label} {title}": one for title, some in suites.SUITES[suite].items() for label, one in some.items()}
    assert rows.keys() <= configs.keys()
    for name, row in rows.items():
        config, default = configs[name], type(configs[name])()
        if isinstance(config, rnd.Config):
            default = replace(default, agent=type(config.agent)())
        measured, now, defaults = (settings_of(one) for one in (row["config"], to_json(config), to_json(default)))
        # A setting that was added since has its default.
        assert {key: defaults.get(key) for key in now} | measured == now, name
