"""One battery that every algorithm passes: add a line to ``CONFIGS``."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import probes  # noqa: F401  (registers the probe environments)
import pytest

from purejaxrl_a3c import (
    a2c,
    a3c,
    averaging,
    d4pg,
    dqn,
    evaluate,
    impala,
    make_train,
    nstep_q,
    ppo,
    pqn,
    r2d2,
    reinforce,
    rnd,
    sac,
    td3,
)
from purejaxrl_a3c.config import bounds_of, field_types, flat, from_json, is_config, is_float, replace, to_json
from purejaxrl_a3c.run import checkpoint
from purejaxrl_a3c.run.chunks import compile_run, run_in_chunks
from purejaxrl_a3c.run.evaluate import run_episodes
from purejaxrl_a3c.run.metrics_file import columns
from purejaxrl_a3c.updates import Asynchrony, Queue, Service

TESTS = Path(__file__).parent

SMALL: dict[str, Any] = {
    "env_id": "CartPole-v1",
    "rollout_length": 6,
    "hidden_sizes": (8, 8),
    "total_frames": 6 * 8 * 12,
}
PENDULUM = SMALL | {"env_id": "Pendulum-v1"}
WORKERS: dict[str, Any] = {"num_workers": 4, "envs_per_worker": 2}
REPLAY: dict[str, Any] = {
    "learning_starts": 90,  # so that the first iteration learns nothing
    "replay_size": 4 * 48,  # so that the buffer is full after four iterations
    "batch_size": 16,
    "updates_per_iteration": 2,
}
EPSILON: dict[str, Any] = {"epsilon_frames": 200}
CONFIGS: dict[str, Any] = {
    "a2c": replace(a2c.Config(), num_envs=8, **SMALL),
    "a3c": replace(a3c.Config(), **WORKERS, **SMALL),
    "a3c_shared_torso": replace(a3c.Config(), shared_torso=True, **WORKERS, **SMALL),
    "a2c_lstm": replace(a2c.Config(), num_envs=8, core="lstm", num_cells=4, **SMALL),
    "a3c_gru_continuous": replace(
        a3c.Config(), core="gru", num_cells=4, time_limit=20, stagger_resets=20, **WORKERS, **PENDULUM
    ),
    "a2c_wrapped": replace(
        a2c.Config(),
        num_envs=8,
        sticky_actions=0.1,
        frame_stack=2,
        clip_rewards=0.5,
        stagger_resets=9,
        normalize_observations=True,
        scale_rewards=True,
        **SMALL,
    ),
    "a3c_clock": replace(
        a3c.Config(),
        asynchrony=Asynchrony("clock", Service("exponential"), max_lead=2, reads="torn_leaves"),
        correction="adaptive_delay",
        momentum=-0.1,
        **WORKERS,
        **SMALL,
    ),
    "averaging": replace(averaging.Config(), sync_every=2, **WORKERS, **SMALL),
    "impala": replace(
        impala.Config(),
        num_workers=2,
        envs_per_worker=4,
        asynchrony=Asynchrony("round_robin", reads="lagged", lag=3.0, max_lag=4),
        clip_rho=1.001,
        learning_rate=1e-2,
        **SMALL,
    ),
    "reinforce": replace(
        reinforce.Config(), num_envs=4, longest_episode=6, time_limit=6, **(PENDULUM | {"rollout_length": 12})
    ),
    "ppo": replace(
        ppo.Config(),
        num_envs=8,
        epochs=2,
        num_minibatches=4,
        clip_range_above=0.2,
        clip_values=True,
        learning_rate=1e-2,
        **SMALL,
    ),
    "ppo_stale": replace(
        ppo.Config(),
        num_envs=8,
        num_workers=4,
        epochs=2,
        num_minibatches=2,
        asynchrony=Asynchrony("clock", Service("exponential", num_cores=2), reads="lagged", lag=2.0, max_lag=3),
        loss_correction="masked",
        weight_floor=0.9,
        weight_limit=1.1,
        clip_values=True,
        learning_rate=1e-2,
        **SMALL,
    ),
    "ppo_queue": replace(
        ppo.Config(),
        num_envs=8,
        num_workers=4,
        epochs=2,
        num_minibatches=2,
        asynchrony=Asynchrony(
            "queue",
            Service("lognormal"),
            queue=Queue(batch_rollouts=2, queue_capacity=3, discard_bound=2),
        ),
        loss_correction="decoupled",
        learning_rate=1e-2,
        **SMALL,
    ),
    "ppo_groups": replace(
        ppo.Config(),
        num_envs=8,
        epochs=2,
        num_minibatches=2,
        time_limit=6,
        group_size=4,
        clip_range_above=0.25,
        learning_rate=3e-2,
        **PENDULUM,
    ),
    "a2c_min_gru": replace(a2c.Config(), num_envs=8, core="min_gru", num_cells=4, **SMALL),
    "ppo_transformer": replace(
        ppo.Config(),
        num_envs=8,
        epochs=2,
        num_minibatches=2,
        learning_rate=1e-2,
        core="transformer",
        num_cells=4,
        memory_window=3,
        num_attention_heads=2,
        clip_range_above=0.2,
        **SMALL,
    ),
    "ppo_lstm_continuous": replace(
        ppo.Config(),
        num_envs=8,
        epochs=2,
        num_minibatches=2,
        policy_loss="kl",
        learning_rate=1e-2,
        core="lstm",
        num_cells=4,
        time_limit=20,
        **PENDULUM,
    ),
    "nstep_q": replace(
        nstep_q.Config(),
        n_step=3,
        dueling=True,
        target_update_every=8,
        learning_rate=1e-2,
        **WORKERS,
        **EPSILON,
        **SMALL,
    ),
    "nstep_q_clock_gru": replace(
        nstep_q.Config(),
        asynchrony=Asynchrony("clock", Service("exponential"), reads="torn_leaves"),
        target="sarsa",
        target_update_every=6,
        target_update_rate=0.9,
        epsilon_final=(0.3, 0.6),
        learning_rate=1e-2,
        core="gru",
        num_cells=4,
        time_limit=20,
        **WORKERS,
        **EPSILON,
        **SMALL,
    ),
    "pqn": replace(pqn.Config(), num_envs=8, epochs=2, num_minibatches=4, learning_rate=1e-2, **EPSILON, **SMALL),
    "pqn_lstm": replace(
        pqn.Config(),
        num_envs=8,
        epochs=2,
        num_minibatches=2,
        learning_rate=1e-2,
        core="lstm",
        num_cells=4,
        **EPSILON,
        **SMALL,
    ),
    "dqn": replace(
        dqn.Config(),
        num_envs=8,
        learning_rate=1e-2,
        target_update_every=3,
        target_update_rate=1.0,
        **REPLAY,
        **EPSILON,
        **SMALL,
    ),
    "dqn_prioritized": replace(
        dqn.Config(),
        num_envs=8,
        n_step=3,
        dueling=True,
        prioritized=True,
        importance_exponent=0.9,
        learning_rate=1e-2,
        target_update_every=1,
        target_update_rate=0.3,
        normalize_observations=True,
        scale_rewards=True,
        **REPLAY,
        **EPSILON,
        **SMALL,
    ),
    "r2d2": replace(
        r2d2.Config(),
        num_envs=8,
        core="gru",
        num_cells=4,
        burn_in=2,
        sequence_length=7,
        time_limit=20,
        learning_rate=1e-2,
        target_update_every=2,
        target_update_rate=0.3,
        **(REPLAY | {"learning_starts": 130, "replay_size": 6 * 48}),
        **EPSILON,
        **SMALL,
    ),
    "r2d2_lru": replace(
        r2d2.Config(),
        num_envs=8,
        core="lru",
        num_cells=4,
        burn_in=2,
        sequence_length=7,
        learning_rate=1e-2,
        target_update_every=2,
        target_update_rate=0.3,
        **(REPLAY | {"learning_starts": 130, "replay_size": 6 * 48}),
        **EPSILON,
        **SMALL,
    ),
    "sac": replace(sac.Config(), num_envs=8, noise_repeat=2, prioritized=True, time_limit=20, **REPLAY, **PENDULUM),
    "sac_discrete": replace(sac.Config(), num_envs=8, target_update_rate=0.3, **REPLAY, **SMALL),
    "td3": replace(td3.Config(), num_envs=8, time_limit=20, smoothing_clip=0.1, **REPLAY, **PENDULUM),
    "d4pg": replace(
        d4pg.Config(), num_envs=8, num_critics=2, smoothing_noise=0.1, num_atoms=11, time_limit=20, **REPLAY, **PENDULUM
    ),
    "rnd": replace(
        rnd.Config(agent=ppo.Config()),
        loss_correction="second_moment",
        num_envs=8,
        epochs=1,
        num_minibatches=2,
        learning_rate=1e-2,
        predictor_epochs=1,
        num_predictor_minibatches=2,
        num_features=4,
        warm_up=1,
        **SMALL,
    ),
}
KEY, OTHER_KEY = jax.random.key(0), jax.random.key(1)


# Slow, because another line of the battery has their algorithm or its family.
VARIANTS = (
    "a3c_shared_torso",
    "a3c_gru_continuous",
    "a2c_lstm",
    "a2c_min_gru",
    "d4pg",
    "nstep_q",
    "ppo_lstm_continuous",
    "ppo_stale",
    "ppo_groups",
    "ppo_transformer",
    "pqn",
    "pqn_lstm",
    "dqn",
    "r2d2_lru",
    "sac_discrete",
    "td3",
    "a2c_wrapped",
)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name in VARIANTS)) for name in CONFIGS],
)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def config(name):
    return CONFIGS[name]


@pytest.fixture(scope="module", autouse=True)
def nothing_may_be_nan():
    """Every program of the battery raises where it makes one."""
    jax.config.update("jax_debug_nans", True)
    yield
    jax.config.update("jax_debug_nans", False)


@pytest.fixture(scope="module")
def train(config):
    return jax.jit(make_train(config)).lower(KEY).compile()


@pytest.fixture(scope="module")
def result(train):
    return train(KEY)


# One for each loop and kind of rule; the others share them.
BY_LOOP = ("a2c", "a3c", "a3c_clock", "ppo", "rnd", "nstep_q_clock_gru", "dqn_prioritized", "r2d2")


def floats_of(config):
    """Its settings that are floats now, by name."""
    return {name: value for name, value in flat(config).items() if isinstance(value, float)}


def assert_equal(a, b, **tolerance):
    def check(x, y):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, **({"rtol": 0, "atol": 0} | tolerance))

    jax.tree.map(check, a, b)


# Between two compiled programs: XLA may sum in another order where it has laid the buffers out otherwise.
ROUNDING = {"rtol": 1e-3, "atol": 1e-4}


def test_metrics_have_an_entry_an_iteration_and_are_finite(config, result):
    iterations = 12
    metrics = result.metrics
    for name, values in columns(metrics).items():
        assert values.shape == (iterations,), name
        if name not in ("episode_return", "episode_length"):
            assert np.isfinite(values).all(), name
    np.testing.assert_array_equal(metrics.frames, 48 * np.arange(1, iterations + 1))
    np.testing.assert_array_equal(np.isnan(metrics.episode_return), metrics.episodes == 0)
    assert metrics.episodes.sum() > 5
    assert metrics.length_sum.sum() <= metrics.frames[-1]
    if flat(config)["env_id"] == "CartPole-v1":
        # Every frame pays 1, so the two statistics are one, whatever wrappers make of the rewards.
        np.testing.assert_array_equal(metrics.episode_return, metrics.episode_length)
        assert (metrics.losses.get("entropy", np.zeros(1)) <= np.log(2) + 1e-5).all()
    learns = metrics.frames >= flat(config).get("learning_starts", 0)
    np.testing.assert_array_equal(metrics.losses["gradient_norm"] > 0, learns)
    assert (metrics.losses["skipped_updates"] == 0).all()
    assert (metrics.losses["explained_variance"] <= 1).all()


def test_the_same_key_gives_the_same_run_and_another_key_another(train, result):
    assert_equal(train(KEY), result)
    assert (train(OTHER_KEY).metrics.losses["value_mean"] != result.metrics.losses["value_mean"]).any()


@pytest.mark.fast_for("a3c_clock", "ppo", "r2d2")  # the others by `batch`, where keys differ, too
def test_a_vmapped_run_equals_its_runs_one_by_one(config, result):
    keys = jnp.stack([OTHER_KEY, KEY])
    many = jax.jit(jax.vmap(make_train(config)))(keys)
    assert_equal(jax.tree.map(lambda x: x[1], many.metrics), result.metrics, **ROUNDING)


FLOATS = {
    "adam_epsilon": 1e-2,
    "clip_c": 0.9,
    "clip_range": 0.01,
    "clip_range_above": 0.01,
    "clip_rewards": 0.1,
    "clip_rho": 0.9,
    "correction_strength": 30.0,
    "entropy_coefficient": 0.1,
    "epsilon_final": 0.9,
    "error_limit": 0.01,
    "exploration_noise": 0.7,
    "extrinsic_coefficient": 0.1,
    "gae_lambda": 0.7,
    "gamma": 0.9,
    "importance_exponent": 0.1,
    "initial_scale": 0.3,
    "initial_temperature": 0.1,
    "intrinsic_coefficient": 0.1,
    "intrinsic_gamma": 0.5,
    "kl_penalty": 30.0,
    "kl_penalty_target": 1e-5,
    "lag": 1.0,
    "learning_rate": 3e-3,
    "max_error_share": 0.1,
    "max_gradient_norm": 0.1,
    "momentum": 0.5,
    "outer_learning_rate": 0.5,
    "outer_momentum": 0.9,
    "predictor_learning_rate": 1e-2,
    "priority_exponent": 0.1,
    "q_lambda": 0.3,
    "rmsprop_decay": 0.9,
    "rmsprop_epsilon": 1e-2,
    "second_moment_limit": 1e-6,
    "service_cv": 0.9,
    "learner_time": 0.2,
    "smoothing_clip": 0.01,
    "smoothing_noise": 0.5,
    "sticky_actions": 0.9,
    "target_entropy": 0.5,
    "target_entropy_share": 0.1,
    "target_kl": 1e-4,
    "target_update_rate": 0.5,
    "time_slice": 0.25,
    "value_coefficient": 1.0,
    "value_max": 10.0,
    "value_min": -100.0,
    "value_rescaling": 1.0,
    "weight_floor": 0.999,
    "weight_limit": 1.001,
}
"""Another value for every float."""


def unused_floats(config):
    """Floats that these settings do not use."""
    settings = flat(config)
    unused = set()
    if settings["env_id"] != "Pendulum-v1":  # no Gaussian
        unused |= {"initial_scale", "target_entropy"}
    else:
        unused |= {"target_entropy_share"}
    if settings.get("correction", "none") == "none":
        unused |= {"correction_strength"}
    correction = settings.get("loss_correction", "none")
    if correction != "masked":
        unused |= {"weight_floor", "weight_limit"}
    if correction != "second_moment":
        unused |= {"second_moment_limit"}
    if correction != "none" and not settings["clip_values"]:
        unused |= {"clip_range"}
    if settings.get("reads") != "lagged":
        unused |= {"lag"}
    if settings.get("schedule") not in ("clock", "queue") or settings.get("service_law") == "exponential":
        unused |= {"service_cv"}
    if settings.get("schedule") != "queue":
        unused |= {"learner_time"}
    if not settings.get("num_cores"):
        unused |= {"time_slice"}
    if settings.get("group_size"):
        unused |= {"gae_lambda", "value_coefficient"}
    if not settings.get("prioritized", True):
        unused |= {"importance_exponent", "priority_exponent"}
    if "policy_loss" in settings:
        unused |= {"kl_penalty", "kl_penalty_target"} if settings["policy_loss"] == "clip" else {"clip_range"}
    return unused


@pytest.fixture(scope="module")
def batch(config):
    """Names ``[n]`` of the floats that the config uses, and metrics ``[n + 2, I]`` of runs that differ in one of them.

    One program for all: run ``i`` has another value of float ``i``, the last but one none, the last another key.
    """
    values = floats_of(config)
    assert values.keys() <= FLOATS.keys()
    names = sorted(values.keys() - unused_floats(config))
    defaults = jnp.array([values[field] for field in names])
    others = jnp.array([FLOATS[field] for field in names])
    rows = jnp.where(jnp.eye(len(names) + 2, len(names), dtype=bool), others[None], defaults[None])
    keys = jnp.stack([KEY] * (len(names) + 1) + [OTHER_KEY])
    run = jax.jit(jax.vmap(lambda config, key: make_train(config)(key).metrics))
    return names, run(replace(config, **dict(zip(names, rows.T, strict=True))), keys)


def test_every_float_can_be_mapped_over_and_has_an_effect(batch, result):
    names, metrics = batch
    assert_equal(jax.tree.map(lambda x: x[-2], metrics), result.metrics, **ROUNDING)
    for i, field in enumerate(names):
        reports = {"value_loss", "entropy"} & metrics.losses.keys()
        changes = [(metrics.losses[name][i] != metrics.losses[name][-2]).any() for name in reports]
        assert any(changes), field


def test_runs_mapped_over_keys_and_floats_are_those_one_by_one(batch, train):
    _, metrics = batch
    assert_equal(jax.tree.map(lambda x: x[-1], metrics), train(OTHER_KEY).metrics, **ROUNDING)


@pytest.mark.fast_for("a3c", "ppo", "dqn_prioritized")
def test_another_python_float_is_the_same_run_as_the_array(config, batch):
    names, metrics = batch
    alone = jax.jit(lambda: make_train(replace(config, gamma=FLOATS["gamma"]))(KEY).metrics)()
    assert_equal(jax.tree.map(lambda x: x[names.index("gamma")], metrics), alone, **ROUNDING)


@pytest.mark.fast_for("a2c", "a3c_clock", "r2d2", "rnd")
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


def test_a_run_in_chunks_is_the_same_run_also_when_it_goes_on_from_a_checkpoint(name, config, result, tmp_path):
    run = compile_run(config)

    def joined(chunks):
        metrics = jax.tree.map(lambda *x: np.concatenate(x), *chunks)
        assert metrics.frames.dtype == np.int64  # exact, however many there are
        return metrics._replace(frames=metrics.frames.astype(np.int32))

    def ends(chunks):
        """The last state, and the metrics of all chunks."""
        chunks = [jax.device_get(chunk) for chunk in chunks]
        return chunks[-1].state, [chunk.metrics for chunk in chunks]

    state, metrics = ends(run_in_chunks(run, KEY))
    metrics = joined(metrics)
    assert_equal((state, metrics), jax.device_get(tuple(result)), **ROUNDING)

    chunks = []
    for chunk in run_in_chunks(run, KEY, every=[5]):
        chunks.append(jax.device_get(chunk))
        if chunk.state.iteration == 5:
            checkpoint.write(tmp_path, chunk.state, {"algorithm": name, "seed": 0, "config": to_json(config)})
            before = [chunk.metrics for chunk in chunks]
    assert len(chunks) > 2
    last, parts = ends(chunks)
    assert_equal((last, joined(parts)), (state, metrics))

    found = checkpoint.find(tmp_path)
    record = checkpoint.read_record(found)
    assert from_json(type(config), record["config"]) == config
    resumed_state, rest = ends(run_in_chunks(run, KEY, checkpoint.read_state(found, run.state)))
    assert_equal((resumed_state, joined([*before, *rest])), (state, metrics))


def test_a_step_is_traced_once(config):
    """What it makes of a state has the same types, weak ones too, so the next step needs no other program."""
    algorithm = config.build()
    state = jax.eval_shape(algorithm.init, KEY)
    following, _ = jax.eval_shape(algorithm.step, KEY, state)

    def same(before, after):
        assert (before.shape, before.dtype, before.weak_type) == (after.shape, after.dtype, after.weak_type)

    jax.tree.map(same, state, following)


@pytest.mark.fast_for("a3c", "ppo", "rnd", "nstep_q_clock_gru", "dqn_prioritized")
def test_memory_does_not_grow_with_the_number_of_frames_beyond_the_metrics(config, train, result):
    def peak(program):
        memory = program.memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes + memory.output_size_in_bytes

    longer = jax.jit(make_train(replace(config, total_frames=48 * 10_000))).lower(KEY).compile()
    scalars = 4 * len(jax.tree.leaves(result.metrics))
    growth = (peak(longer) - peak(train)) / (10_000 - 12)
    assert growth <= 2 * scalars


def with_other_floats(config):
    """``config`` with another value of every float that it uses."""
    return replace(config, **{name: FLOATS[name] for name in floats_of(config).keys() - unused_floats(config)})


def test_an_evaluation_acts_as_training_did(config, result):
    """Whatever the floats are: evaluation may not forget any that matter to acting."""
    other = with_other_floats(config)
    expected = run_episodes(other.build(), result.state, KEY, episodes=5, deterministic=False).returns
    np.testing.assert_allclose(evaluate(other, result, KEY, episodes=5), expected, rtol=1e-5)


def test_evaluation_maps_over_states_and_keys(config, result):
    one = evaluate(config, result, KEY, episodes=5)
    assert one.shape == (5,)
    states = jax.tree.map(lambda x: jnp.stack([x, x]), result.state)
    many = jax.vmap(lambda state, key: evaluate(config, state, key, episodes=5))(
        states, jnp.stack([KEY, jax.random.key(1)])
    )
    np.testing.assert_allclose(many[0], one, rtol=1e-5)
    assert (many[1] != one).any()


@pytest.mark.fast_for("a3c", "sac")
def test_a_key_of_either_kind_gives_the_same_run(config, result):
    assert_equal(jax.jit(make_train(config))(jax.random.PRNGKey(0)), result)


def test_strings_and_sizes_are_static_and_a_config_is_frozen(config):
    assert hash(config) == hash(replace(config))
    with pytest.raises(AttributeError):
        config.env = None
    leaves = jax.tree.leaves(replace(config, gamma=jnp.float32(0.5)))
    assert leaves == [jnp.float32(0.5)]


def test_names_of_settings_are_unique_and_lie_within_bounds(config):
    def settings(config):
        for name, annotation in field_types(type(config)).items():
            value = getattr(config, name)
            if is_config(value):
                yield name, annotation
                yield from settings(value)
            else:
                yield name, annotation

    names = [name for name, _ in settings(config)]
    assert len(names) == len(set(names))
    for name, annotation in settings(config):
        if is_float(annotation) and name not in (
            "env_params",
            "env_kwargs",
            "randomize",
        ):  # whose bounds are the environment's
            assert bounds_of(annotation) is not None, name


X64 = """
import sys, jax, numpy as np
from test_contract import CONFIGS
from purejaxrl_a3c import evaluate, make_train
for name in sys.argv[1:]:
    print(name, file=sys.stderr)
    result = jax.jit(make_train(CONFIGS[name]))(jax.random.key(0))
    ours = result.metrics, result.state._replace(actor_state=())  # gymnax's own numbers have 64 bits then
    wide = [jax.tree_util.keystr(p) for p, x in jax.tree_util.tree_leaves_with_path(ours) if x.dtype.itemsize > 4]
    assert all(path.endswith("obs") and "rollouts" in path for path in wide), wide  # as gymnax made them
    assert np.isfinite(evaluate(CONFIGS[name], result, jax.random.key(1), episodes=3)).all()
"""


@pytest.mark.parametrize(
    "names",
    [
        BY_LOOP[:4],
        (*BY_LOOP[4:], "ppo_stale"),  # whose workers share cores
        pytest.param(tuple(name for name in CONFIGS if name not in (*BY_LOOP, "ppo_stale")), marks=pytest.mark.slow),
    ],
    ids=["first", "second", "others"],
)
def test_they_run_with_64_bit_numbers_enabled(names):
    """Their own numbers stay of 32 bits."""
    environment = os.environ | {
        "JAX_ENABLE_X64": "1",
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
    }
    ran = subprocess.run(
        [sys.executable, "-c", X64, *names], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]


def test_nothing_is_nan_by_design(config, result):
    """The programs of this file would have raised; what is NaN is made of the metrics on the host."""
    assert jax.config.values["jax_debug_nans"]
    evaluate(config, result, KEY, episodes=2)
    with jax.debug_nans(False):
        assert np.isnan(result.metrics.episode_return).sum() == (result.metrics.episodes == 0).sum()
