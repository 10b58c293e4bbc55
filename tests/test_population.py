"""Tests of population based training."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c import InputError, a2c, evaluate, make_population, make_train, replace
from purejaxrl_a3c.run.population import exploit_and_explore

CONFIG = replace(a2c.Config(), num_envs=4, rollout_length=8, hidden_sizes=(8,), total_frames=640)
RANGES = {"learning_rate": (1e-4, 1e-2), "entropy_coefficient": (0.0, 0.1)}


def test_the_worst_take_over_from_the_best_and_change_their_settings():
    size, replaced = 16, 4
    scores = jnp.array([3.0, jnp.nan, 9, 1, 7, 8, 2, 6, 5, 4, 10, 11, 12, 13, 14, -jnp.inf])
    settings = {"learning_rate": jnp.geomspace(1e-4, 1e-2, size), "entropy_coefficient": jnp.linspace(0, 0.1, size)}
    worst, best = {1, 3, 6, 15}, {11, 12, 13, 14}
    again, taken = 0, set()
    for seed in range(200):
        parents, found = exploit_and_explore(jax.random.key(seed), settings, scores, RANGES, replaced)
        for member in range(size):
            parent = int(parents[member])
            taken.add(parent)
            assert parent in best if member in worst else parent == member
            for name, (low, high) in RANGES.items():
                value, before = float(found[name][member]), float(settings[name][parent])
                assert low * 0.9999 <= value <= high * 1.0001
                if member not in worst:
                    assert value == before
                elif not any(np.isclose(value, np.clip(before * factor, low, high)) for factor in (0.8, 1.25)):
                    again += 1
    assert best <= taken
    assert again / (200 * 2 * len(worst)) == pytest.approx(0.25, abs=0.04)


def test_nobody_takes_over_what_has_no_score():
    scores = jnp.array([jnp.nan, jnp.nan, jnp.nan, 1.0])
    settings = {"learning_rate": jnp.arange(4.0)}
    for seed in range(20):
        parents, found = exploit_and_explore(jax.random.key(seed), settings, scores, RANGES, 2)
        kept = np.asarray(parents) == np.arange(4)
        assert set(np.asarray(parents)[~kept]) <= {3}
        np.testing.assert_array_equal(np.asarray(found["learning_rate"])[kept], np.arange(4.0)[kept])


def test_without_replacing_every_member_is_a_run_of_its_own():
    key = jax.random.key(0)
    population = jax.jit(make_population(CONFIG, RANGES, size=3, frames_per_round=160, share=0.0))(key)
    keys = jax.random.split(jax.random.split(key, 3)[1], 3)
    assert population.scores.shape == (4, 3)
    alone = jax.jit(lambda settings, key: make_train(replace(CONFIG, **settings))(key))
    for i in range(3):
        state, settings = population.member(i)
        expected = alone(settings, keys[i])
        for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(expected.state), strict=True):
            if not jax.dtypes.issubdtype(y.dtype, jax.dtypes.prng_key):
                np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)
        metrics = jax.tree.map(lambda x: np.asarray(x).reshape(4, 5).sum(1), metrics_of(expected))
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(population.scores[:, i], metrics["total"] / metrics["episodes"], rtol=1e-4)


def metrics_of(result):
    return {"total": result.metrics.return_sum, "episodes": result.metrics.episodes}


def test_all_frames_are_trained_and_the_last_round_may_be_shorter():
    train = jax.jit(make_population(CONFIG, RANGES, size=2, frames_per_round=200, share=0.0))
    population = train(jax.random.key(0))  # 20 iterations in rounds of 7
    assert population.scores.shape == (3, 2)
    assert population.state.iteration.tolist() == [20, 20]


def test_small_populations_replace_one_member_and_no_score_is_said():
    population = jax.jit(make_population(CONFIG, RANGES, size=2, frames_per_round=160))(jax.random.key(0))
    assert (np.asarray(population.parents) != np.arange(2)).any()
    nothing = population._replace(scores=jnp.full((1, 2), jnp.nan))
    with pytest.raises(InputError, match="frames_per_round"):
        nothing.best  # noqa: B018


def flatten(params):
    return jax.flatten_util.ravel_pytree(params)[0]


def test_members_go_on_from_the_state_of_their_parents():
    config = replace(CONFIG, total_frames=320)
    settings = {"learning_rate": (0.0, 0.0)}  # so that parameters only change by being taken over
    population = jax.jit(make_population(config, settings, size=8, frames_per_round=160, share=0.5))(jax.random.key(1))
    alone = jax.jit(make_population(config, settings, size=8, frames_per_round=160, share=0.0))(jax.random.key(1))
    taken, own = (jax.vmap(flatten)(one.state.learner.params) for one in (population, alone))
    assert len(np.unique(own, axis=0)) == 8  # otherwise nothing could be seen
    parents = np.asarray(population.parents[1])
    assert (parents != np.arange(8)).any()
    np.testing.assert_array_equal(taken, np.asarray(own)[parents])
    np.testing.assert_array_equal(population.parents[0], np.arange(8))


def test_the_best_member_can_be_evaluated_and_the_run_mapped():
    train = make_population(CONFIG, RANGES, size=4, frames_per_round=160)
    populations = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), 2))
    assert populations.scores.shape == (2, 4, 4)
    population = jax.tree.map(lambda x: x[1], populations)
    state, settings = population.member(population.best)
    assert np.isfinite(evaluate(replace(CONFIG, **settings), state, jax.random.key(1), 4)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranges": {"hidden_sizes": (1, 2)}}, "hidden_sizes"),
        ({"ranges": {"num_envs": (1, 2)}}, "num_envs"),
        ({"ranges": {"learning_rate": (1e-2, 1e-4)}}, "learning_rate"),
        ({"ranges": {"learning_rate": (-1.0, 1e-4)}}, "learning_rate: -1"),
        ({"ranges": {}}, "ranges"),
        ({"size": 0}, "size: 0"),
        ({"share": 0.6}, "share: 0.6"),
        ({"frames_per_round": 0}, "frames_per_round: 0"),
    ],
)
def test_what_is_not_accepted_is_said(changes, message):
    with pytest.raises(InputError, match=message):
        make_population(CONFIG, **{"ranges": RANGES, **changes})
