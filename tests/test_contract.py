"""One battery that every algorithm passes: add a line to ``CONFIGS``."""

import dataclasses
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import probes  # noqa: F401  (registers the probe environments)
import pytest

from purejaxrl_a3c import a2c, a3c, averaging, envs, evaluate, impala, make_train, ppo, reinforce, rnd
from purejaxrl_a3c.run import checkpoint
from purejaxrl_a3c.run.train import compile_run, run_in_pieces
from purejaxrl_a3c.updates import Asynchrony, Service

SMALL: dict[str, Any] = {
    "env_id": "CartPole-v1",
    "rollout_length": 6,
    "hidden_sizes": (8, 8),
    "total_frames": 6 * 8 * 12,
}
CONFIGS: dict[str, Any] = {
    "a2c": a2c.Config(num_envs=8, **SMALL),
    "a3c": a3c.Config(num_workers=4, envs_per_worker=2, **SMALL),
    "a3c_shared_torso": a3c.Config(num_workers=4, envs_per_worker=2, shared_torso=True, **SMALL),
    "a2c_lstm": a2c.Config(num_envs=8, core="lstm", num_cells=4, **SMALL),
    "a3c_gru_continuous": a3c.Config(
        num_workers=4,
        envs_per_worker=2,
        core="gru",
        num_cells=4,
        wrappers=envs.Wrappers(time_limit=20, stagger_resets=20),
        **(SMALL | {"env_id": "Pendulum-v1"}),
    ),
    "a2c_wrapped": a2c.Config(
        num_envs=8,
        wrappers=envs.Wrappers(
            sticky_actions=0.1,
            frame_stack=2,
            clip_rewards=0.5,
            stagger_resets=9,
            normalize_observations=True,
            scale_rewards=True,
        ),
        **SMALL,
    ),
    "a3c_clock": a3c.Config(
        num_workers=4,
        envs_per_worker=2,
        asynchrony=Asynchrony("clock", Service("exponential"), max_lead=2, reads="torn_leaves"),
        correction="adaptive_delay",
        momentum=-0.1,
        **SMALL,
    ),
    "averaging": averaging.Config(
        worker=a2c.Config(num_envs=2, **(SMALL | {"total_frames": 6 * 2 * 12})), num_workers=4, every=2
    ),
    "impala": impala.Config(
        num_workers=2,
        envs_per_worker=4,
        asynchrony=Asynchrony("round_robin", reads="lagged", lag=3.0, max_lag=4),
        clip_rho=1.001,
        learning_rate=1e-2,
        **SMALL,
    ),
    "reinforce": reinforce.Config(
        num_envs=4,
        longest_episode=6,
        wrappers=envs.Wrappers(time_limit=6),
        **(SMALL | {"env_id": "Pendulum-v1", "rollout_length": 12}),
    ),
    "ppo": ppo.Config(num_envs=8, epochs=2, minibatches=4, clip_values=True, learning_rate=1e-2, **SMALL),
    "ppo_lstm_continuous": ppo.Config(
        num_envs=8,
        epochs=2,
        minibatches=2,
        policy_loss="kl",
        learning_rate=1e-2,
        core="lstm",
        num_cells=4,
        wrappers=envs.Wrappers(time_limit=20),
        **(SMALL | {"env_id": "Pendulum-v1"}),
    ),
    "rnd": rnd.Config(
        agent=ppo.Config(num_envs=8, epochs=1, minibatches=2, learning_rate=1e-2, **SMALL),
        predictor_epochs=1,
        predictor_minibatches=2,
        num_features=4,
        warm_up=1,
    ),
}
KEY = jax.random.key(0)


@pytest.fixture(scope="module", params=CONFIGS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def config(name):
    return CONFIGS[name]


@pytest.fixture(scope="module")
def result(config):
    return jax.jit(make_train(config))(KEY)


def inner(config):
    """The name of the field that holds the settings around which an algorithm is built, or None."""
    return next((name for name in ("worker", "agent") if hasattr(config, name)), None)


def changed(config, **changes):
    """``config`` with other values of its fields, or of its worker's or agent's."""
    own = {key: value for key, value in changes.items() if key in vars(config)}
    rest = {key: value for key, value in changes.items() if key not in own}
    name = inner(config)
    return replace(config, **own, **({name: replace(getattr(config, name), **rest)} if rest else {}))


def floats_of(config):
    """Its float fields and its worker's or agent's, by name."""
    values = {key: value for key, value in vars(config).items() if isinstance(value, float)}
    name = inner(config)
    return values | (floats_of(getattr(config, name)) if name else {})


def assert_equal(a, b, **tolerance):
    def check(x, y):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, **({"rtol": 0, "atol": 0} | tolerance))

    jax.tree.map(check, a, b)


# Between two compiled programs: XLA may sum in another order where it has laid the buffers out otherwise.
ROUNDING = {"rtol": 1e-3, "atol": 1e-4}


def test_metrics_have_an_entry_an_iteration_and_are_finite(config, result):
    iterations = 12
    for field, values in result.metrics._asdict().items():
        assert values.shape == (iterations,), field
        if field not in ("episode_return", "episode_length"):
            assert np.isfinite(values).all(), field
    metrics = result.metrics
    np.testing.assert_array_equal(metrics.frames, 48 * np.arange(1, iterations + 1))
    np.testing.assert_array_equal(np.isnan(metrics.episode_return), metrics.episodes == 0)
    assert metrics.episodes.sum() > 5
    assert (metrics.episodes * metrics.episode_length)[metrics.episodes > 0].sum() <= metrics.frames[-1]
    if config.env_id == "CartPole-v1":
        # Every frame pays 1, so the two statistics are one, whatever wrappers make of the rewards.
        np.testing.assert_array_equal(metrics.episode_return, metrics.episode_length)
        assert (metrics.entropy <= np.log(2) + 1e-5).all()
    assert (metrics.gradient_norm > 0).all()


def test_the_same_key_gives_the_same_run_and_another_key_another(config, result):
    train = jax.jit(make_train(config))
    assert_equal(train(KEY), result)
    assert (train(jax.random.key(1)).metrics.value_mean != result.metrics.value_mean).any()


def test_a_vmapped_run_equals_its_runs_one_by_one(config, result):
    keys = jnp.stack([jax.random.key(5), KEY])
    many = jax.jit(jax.vmap(make_train(config)))(keys)
    assert_equal(jax.tree.map(lambda x: x[1], many.metrics), result.metrics, **ROUNDING)


FLOATS = {
    "adam_epsilon": 1e-2,
    "clip_c": 0.9,
    "clip_range": 0.01,
    "clip_rho": 0.9,
    "kl_coefficient": 30.0,
    "kl_target": 1e-5,
    "predictor_learning_rate": 1e-2,
    "stop_kl": 1e-4,
    "correction_strength": 30.0,
    "momentum": 0.5,
    "outer_learning_rate": 0.5,
    "outer_momentum": 0.9,
    "extrinsic_coefficient": 0.1,
    "initial_scale": 0.3,
    "intrinsic_coefficient": 0.1,
    "intrinsic_gamma": 0.5,
    "learning_rate": 3e-3,
    "gamma": 0.9,
    "lambda_": 0.7,
    "entropy_coefficient": 0.1,
    "value_coefficient": 1.0,
    "max_gradient_norm": 0.1,
    "rmsprop_decay": 0.9,
    "rmsprop_epsilon": 1e-2,
}


def test_every_float_can_be_mapped_over_and_has_an_effect(config, result):
    values = floats_of(config)
    assert values.keys() <= FLOATS.keys()
    floats = set(values)
    if config.env_id != "Pendulum-v1":  # no Gaussian
        floats -= {"initial_scale"}
    if getattr(config, "correction", "none") == "none":
        floats -= {"correction_strength"}
    if "policy_loss" in vars(getattr(config, "agent", config)):
        clip = getattr(config, "agent", config).policy_loss == "clip"
        floats -= {"kl_coefficient", "kl_target"} if clip else {"clip_range"}

    def run(changes):
        return make_train(changed(config, **changes))(KEY).metrics

    # One program for all: row i of the batch changes field i, the last row none.
    names = sorted(floats)
    defaults = jnp.array([values[field] for field in names])
    others = jnp.array([FLOATS[field] for field in names])
    rows = jnp.where(jnp.eye(len(names) + 1, len(names), dtype=bool), others[None], defaults[None])
    batch = jax.jit(jax.vmap(lambda row: run(dict(zip(names, row, strict=True)))))(rows)
    assert_equal(jax.tree.map(lambda x: x[-1], batch), result.metrics, **ROUNDING)
    for i, field in enumerate(names):
        changes = [(x[i] != x[-1]).any() for x in (batch.value_loss, batch.entropy)]
        assert any(changes), field
    # The same change by way of a Python float is the same run.
    alone = jax.jit(lambda: run({"gamma": FLOATS["gamma"]}))()
    row = jax.tree.map(lambda x: x[names.index("gamma")], batch)
    assert_equal(row, alone, **ROUNDING)


def test_iterations_go_on_from_a_saved_state_as_if_never_interrupted(config, result):
    algorithm = config.build()
    key_init, key_run = jax.random.split(KEY)

    @jax.jit
    def advance(state):
        def iterate(state, _):
            return algorithm.step(jax.random.fold_in(key_run, state.iteration), state)

        return jax.lax.scan(iterate, state, length=6)

    state, first = advance(jax.jit(algorithm.init)(key_init))
    uninterrupted, second = advance(state)
    leaves, structure = jax.tree.flatten(state)
    saved = [np.asarray(leaf) for leaf in leaves]  # raises for a key, which the state must not hold
    state, again = advance(jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in saved]))
    assert_equal((state, again), (uninterrupted, second))
    assert_equal(state, result.state, **ROUNDING)
    assert_equal(jax.tree.map(lambda *x: jnp.concatenate(x), first, second), result.metrics, **ROUNDING)


def test_a_run_in_pieces_is_the_same_run_also_when_it_goes_on_from_a_checkpoint(config, result, tmp_path):
    run = compile_run(config)

    def joined(pieces):
        return jax.tree.map(lambda *x: np.concatenate(x), *pieces)

    def ends(pieces):
        """The last state, and the metrics of all pieces."""
        pieces = [jax.device_get(piece) for piece in pieces]
        return pieces[-1].state, joined([piece.metrics for piece in pieces])

    state, metrics = ends(run_in_pieces(run, KEY))
    assert_equal((state, metrics), jax.device_get(tuple(result)), **ROUNDING)

    pieces = []
    for piece in run_in_pieces(run, KEY, every=5):
        pieces.append(jax.device_get(piece))
        if piece.state.iteration == 5:
            checkpoint.write(tmp_path, piece.state, {"config": dataclasses.asdict(config)})
            before = [piece.metrics for piece in pieces]
    assert len(pieces) > 2
    assert_equal(ends(pieces), (state, metrics))

    record = checkpoint.read_record(tmp_path)
    assert checkpoint.config_from(type(config), record["config"]) == config
    resumed_state, rest = ends(run_in_pieces(run, KEY, checkpoint.read_state(tmp_path, run.state)))
    assert_equal((resumed_state, joined([*before, rest])), (state, metrics))


def test_a_step_is_traced_once(config):
    algorithm = config.build()
    traces = []

    @jax.jit
    def step(key, state):
        traces.append(1)
        return algorithm.step(key, state)

    state = jax.jit(algorithm.init)(KEY)
    for iteration in range(3):
        state, _ = step(jax.random.fold_in(KEY, iteration), state)
    assert len(traces) == 1


def test_memory_does_not_grow_with_the_number_of_frames_beyond_the_metrics(config, result):
    def peak(iterations):
        frames = getattr(config, inner(config) or "", config).total_frames
        longer = changed(config, total_frames=frames // 12 * iterations)
        memory = jax.jit(make_train(longer)).lower(KEY).compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes + memory.output_size_in_bytes

    scalars = 4 * len(result.metrics)
    growth = (peak(10_000) - peak(1_000)) / 9_000
    assert growth <= 2 * scalars


def test_evaluation_maps_over_states_and_keys(config, result):
    one = evaluate(config, result.state, KEY, episodes=5)
    assert one.shape == (5,)
    states = jax.tree.map(lambda x: jnp.stack([x, x]), result.state)
    many = jax.vmap(lambda state, key: evaluate(config, state, key, episodes=5))(
        states, jnp.stack([KEY, jax.random.key(1)])
    )
    np.testing.assert_allclose(many[0], one, rtol=1e-5)
    assert (many[1] != one).any()


def test_strings_and_sizes_are_static_and_a_config_is_frozen(config):
    assert hash(config) == hash(replace(config))
    with pytest.raises(AttributeError):
        config.gamma = 0.5
