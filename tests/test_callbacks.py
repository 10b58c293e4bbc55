"""Tests of what runs beside a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c import (
    InputError,
    Result,
    a2c,
    a3c,
    evaluate,
    evaluate_every,
    make_train,
    replace,
    train_in_pieces,
)
from purejaxrl_a3c.run.evaluate import run_episodes
from purejaxrl_a3c.run.train import build

CONFIG = replace(a3c.Config(), num_workers=4, total_frames=800, hidden_sizes=(4,), anneal_learning_rate=False)
KEY = jax.random.key(0)


def test_a_callback_reports_and_changes_nothing():
    def callback(iteration, state, metrics):
        return {"twice": 2 * iteration, "size": sum(jnp.abs(x).sum() for x in jax.tree.leaves(state.learner.params))}

    plain = jax.jit(make_train(CONFIG))(KEY)
    reported = jax.jit(make_train(CONFIG, callback=callback))(KEY)
    # Two programs: they agree up to rounding.
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-6), reported.state, plain.state)
    np.testing.assert_array_equal(reported.metrics.losses["twice"], 2 * np.arange(1, 1 + len(plain.metrics.frames)))
    assert reported.metrics.losses["size"][-1] > 0
    for name, values in plain.metrics.losses.items():
        np.testing.assert_allclose(reported.metrics.losses[name], values, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"gradient_norm": 0.0}, "a metric named 'gradient_norm'"),
        ({"frames": 0.0}, "a metric named 'frames'"),
        ({"two": jnp.zeros(2)}, r"two of shape \(2,\)"),
    ],
)
def test_a_callback_reports_scalars_under_names_of_its_own(more, message):
    with pytest.raises(InputError, match=message):
        jax.eval_shape(make_train(CONFIG, callback=lambda *_: more), KEY)


@pytest.mark.parametrize("seeds", [None, 2])
def test_an_evaluation_in_a_run_is_that_of_its_policy_then(seeds):
    callback = evaluate_every(CONFIG, frames=350, episodes=5, seed=3)
    train = make_train(CONFIG, callback=callback)
    run = jax.jit(train if seeds is None else jax.vmap(train))
    result = run(KEY if seeds is None else jax.random.split(KEY, seeds))
    means = result.metrics.losses["evaluation_return_mean"]
    step = build(CONFIG).frames_per_step
    every = -(-350 // step)
    measured = np.isfinite(means)
    np.testing.assert_array_equal(
        measured, np.broadcast_to(result.metrics.frames % (every * step) == 0, measured.shape)
    )
    if seeds is None:
        # The run until then.
        last = int(np.flatnonzero(measured)[-1]) + 1
        until = make_train(replace(CONFIG, total_frames=last * step))
        state = jax.jit(until)(KEY).state
        key = jax.random.fold_in(jax.random.key(3), last)
        expected = run_episodes(build(CONFIG), state, key, 5, deterministic=True).returns
        np.testing.assert_allclose(means[last - 1], expected.mean())
        np.testing.assert_allclose(result.metrics.losses["evaluation_return_std"][last - 1], expected.std())


@pytest.mark.parametrize(("arguments", "message"), [({"frames": 0}, "frames: 0"), ({"episodes": 0}, "episodes: 0")])
def test_what_cannot_be_evaluated_is_said_before(arguments, message):
    with pytest.raises(InputError, match=message):
        evaluate_every(CONFIG, **({"frames": 100} | arguments))


def test_a_run_in_pieces_is_the_run():
    seen: list[Result] = []
    result = train_in_pieces(CONFIG, KEY, seen.append)
    whole = make_train(CONFIG)(KEY)
    np.testing.assert_array_equal(result.metrics.frames, whole.metrics.frames)
    np.testing.assert_allclose(result.metrics.return_sum, whole.metrics.return_sum)
    assert sum(len(piece.metrics.frames) for piece in seen) == len(result.metrics.frames)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "gym/CartPole-v1"])
def test_a_run_can_be_ended_early(env_id):
    if env_id.startswith("gym"):
        pytest.importorskip("gymnasium")
    config = replace(a2c.Config(), env_id=env_id, total_frames=10**8, hidden_sizes=(4,))
    result = train_in_pieces(config, KEY, lambda piece: int(piece.metrics.frames[-1]) > 100)
    assert 100 < result.metrics.frames[-1] < 10**7
    assert int(result.state.iteration) == len(result.metrics.frames)
    if not env_id.startswith("gym"):
        assert evaluate(config, result, KEY, episodes=2).shape == (2,)
