"""The loop around a replay buffer: when it learns, what it counts, and how devices share it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import probes  # noqa: F401  (registers the probe environments)
import pytest

from purejaxrl_a3c import compiler_options, devices, dqn, envs, make_train, networks, objectives, ppo, replay
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.loops import EpsilonConfig, epsilon_greedy
from purejaxrl_a3c.run import memory
from purejaxrl_a3c.run.chunks import compile_run, state_types

KEY = jax.random.key(0)
SMALL: dict[str, Any] = {
    "num_envs": 4,
    "rollout_length": 3,
    "hidden_sizes": (8,),
    "learning_starts": 40,
    "replay_size": 200,
    "batch_size": 8,
    "updates_per_iteration": 2,
    "total_frames": 12 * 10,
}
CONFIG = replace(dqn.Config(), **SMALL)


def states_of(config, iterations):
    """The states before and after each iteration."""
    algorithm = config.build()

    @jax.jit
    def run(key):
        def iterate(state, i):
            new = algorithm.step(jax.random.fold_in(key, i), state)[0]
            return new, new

        start = algorithm.init(key)
        return start, jax.lax.scan(iterate, start, jnp.arange(iterations))[1]

    start, rest = run(KEY)
    return jax.tree.map(lambda x, y: np.concatenate([np.asarray(x)[None], np.asarray(y)]), start, rest)


def test_learning_starts_with_the_iteration_that_ends_with_so_many_frames():
    states = states_of(CONFIG, 6)
    # 12 frames an iteration: the fourth ends with 48, the first number not below 40.
    np.testing.assert_array_equal(states.learner.updates, [0, 0, 0, 0, 2, 4, 6])
    moved = [
        np.any(np.diff(x, axis=0) != 0, axis=tuple(range(1, x.ndim))) for x in jax.tree.leaves(states.learner.params)
    ]
    np.testing.assert_array_equal(np.any(moved, axis=0), [False, False, False, True, True, True])
    np.testing.assert_array_equal(states.replay.written, 3 * np.arange(7))


def test_every_frame_is_counted_also_before_learning_starts():
    metrics = jax.jit(make_train(CONFIG))(KEY).metrics
    np.testing.assert_array_equal(metrics.frames, 12 * np.arange(1, 11))
    np.testing.assert_array_equal(metrics.losses["gradient_norm"] > 0, metrics.frames >= 40)


def test_target_networks_move_every_so_many_gradient_steps():
    config = replace(CONFIG, target_update_every=3, target_update_rate=1.0, total_frames=12 * 20)
    states = states_of(config, 12)
    target, params = (
        np.stack([ravel(x, i) for i in range(13)]) for x in (states.learner.target, states.learner.params)
    )
    changed = np.any(np.diff(target, axis=0) != 0, axis=1)
    before, after = states.learner.updates[:-1], states.learner.updates[1:]
    np.testing.assert_array_equal(changed, after // 3 > before // 3)
    on_time = (after % 3 == 0) & changed  # the copy is of the iteration's last step, so its parameters are there to see
    assert on_time.sum() == 3
    np.testing.assert_array_equal(target[1:][on_time], params[1:][on_time])


def ravel(tree, i):
    return np.concatenate([x[i].ravel() for x in jax.tree.leaves(tree)])


def test_a_soft_target_moves_by_its_rate_and_a_copy_is_exact():
    slow, fast = jnp.array([0.0, 4.0, 1e8]), jnp.array([8.0, 0.0, 0.1])
    np.testing.assert_array_equal(objectives.follow(slow, fast, 0.25, jnp.bool_(False)), slow)
    np.testing.assert_allclose(objectives.follow(slow, fast, 0.25, True), [2.0, 3.0, 7.5e7])
    np.testing.assert_array_equal(objectives.follow(slow, fast, 1.0, jnp.bool_(True)), fast)


@pytest.mark.parametrize(
    "config", [replace(CONFIG, target_update_every=7), replace(ppo.Config(), num_envs=8, total_frames=2_048)]
)
def test_large_arrays_stay_apart_and_are_learned_the_same(monkeypatch, config):
    joined = jax.jit(make_train(config))(KEY).state.learner
    monkeypatch.setattr("purejaxrl_a3c.backend.vectors.LARGE", 10)
    jax.clear_caches()  # of what was traced with everything in one vector
    apart = jax.jit(make_train(config))(KEY).state.learner
    assert len(jax.tree.leaves(apart.opt_state)) > len(jax.tree.leaves(joined.opt_state))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), apart.params, joined.params)
    if hasattr(joined, "target"):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), apart.target, joined.target)


def test_epsilon_falls_linearly_in_frames_and_is_1_before_learning_starts():
    level = epsilon_greedy(EpsilonConfig(epsilon_final=0.2, epsilon_frames=100), random_frames=30).level
    epsilons = [level(jnp.float32(frames), jnp.arange(3)) for frames in (0, 29, 30, 50, 100, 1_000)]
    np.testing.assert_allclose(epsilons, np.repeat([[1], [1], [0.76], [0.6], [0.2], [0.2]], 3, axis=1), rtol=1e-6)


def test_actions_are_random_before_learning_starts_and_greedy_after():
    config = replace(CONFIG, epsilon_final=0.0, epsilon_frames=0, learning_starts=1200, total_frames=2400)
    config = replace(config, replay_size=2400)
    states = states_of(config, 110)
    rows = jax.tree.map(lambda x: x[-1], states.replay.rows)
    network = networks.make_q(config.network, envs.make(config.env, 0.99))
    untrained = jax.tree.map(lambda x: x[0], states.learner.params["q"])
    q = objectives.q_values(network, untrained, jnp.asarray(rows.obs[:300].reshape(1200, 4)))
    # Half of the actions of the untrained network's choice: the mean of the actions alone would not tell them apart.
    assert abs((rows.action[:300].ravel() == np.argmax(q, axis=1)).mean() - 0.5) < 4 * 0.5 / 1200**0.5
    for iteration in (104, 109):  # acts with the parameters that the iteration before it left
        params = jax.tree.map(lambda x, i=iteration: x[i], states.learner.params["q"])
        here = slice(3 * iteration, 3 * iteration + 3)
        q = objectives.q_values(network, params, jnp.asarray(rows.obs[here].reshape(12, 4)))
        np.testing.assert_array_equal(rows.action[here].ravel(), np.argmax(q, axis=1))


def reference_gradient(q, q_target, batch, weight, double, limit):
    """Errors and targets of DQN in plain NumPy, from Q-values [M, A]."""
    q_obs, q_next = q
    goals = []
    for m in range(len(weight)):
        best = np.argmax(q_next[m] if double else q_target[m])
        goals.append(batch.reward[m] + batch.discount[m] * q_target[m, best])
    error = np.array([q_obs[m, batch.action[m]] for m in range(len(weight))]) - np.array(goals)
    slope = np.zeros_like(q_obs)
    for m in range(len(weight)):
        slope[m, batch.action[m]] = weight[m] * np.clip(error[m], -limit, limit) / len(weight)
    return error, slope


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("limit", [1.0, np.inf])
def test_dqn_gradient_is_that_of_the_clipped_errors(double, dueling, limit):
    rng = np.random.default_rng(0)
    env = envs.make(envs.Config(), 0.99)
    network = networks.make_q(replace(networks.BodyConfig(), hidden_sizes=(8,)), env, dueling=dueling)
    params, target = network.init(jax.random.key(1)), network.init(jax.random.key(2))
    params, target = (jax.tree.map(lambda x: 10 * x, tree) for tree in (params, target))
    batch = replay.Transitions(
        obs=jnp.asarray(rng.normal(size=(24, 4)), jnp.float32),
        action=jnp.asarray(rng.integers(0, 2, 24), jnp.int32),
        reward=jnp.asarray(rng.normal(size=24), jnp.float32),
        discount=jnp.asarray([0.9, 0, 0.9, 0.81, 0, 0.9] * 4, jnp.float32),
        next_obs=jnp.asarray(rng.normal(size=(24, 4)), jnp.float32),
    )
    weight = jnp.asarray(rng.uniform(0.1, 1, 24), jnp.float32)
    gradient, error, scalars = jax.jit(
        lambda *args: objectives.dqn_gradient(network, *args, double=double, error_limit=limit)
    )(params, target, batch, weight)

    q_obs, back = jax.vjp(lambda params: objectives.q_values(network, params, batch.obs), params)
    q_next = objectives.q_values(network, params, batch.next_obs)
    q_target = objectives.q_values(network, target, batch.next_obs)
    assert ((np.argmax(q_next, 1) != np.argmax(q_target, 1)) & (batch.discount > 0)).any()  # the choice matters
    expected, slope = reference_gradient(
        (np.asarray(q_obs), np.asarray(q_next)), np.asarray(q_target), batch, np.asarray(weight), double, limit
    )
    np.testing.assert_allclose(error, np.abs(expected), rtol=1e-4)
    np.testing.assert_allclose(scalars["value_loss"], 0.5 * np.square(expected).mean(), rtol=1e-4)
    (wanted,) = back(jnp.asarray(slope))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5), gradient, wanted)
    assert (np.abs(expected) > 1.0).any()
    assert (np.abs(expected) < 1.0).any()


def test_dueling_values_and_advantages_add_up():
    env = envs.make(envs.Config(), 0.99)
    network = networks.make_q(replace(networks.BodyConfig(), hidden_sizes=(8,)), env, dueling=True)
    params = network.init(KEY)
    obs = jnp.array([[0.1, -0.2, 0.3, 0.4]])
    shifted = jax.tree.map(lambda x: x, params)
    shifted["q_head"] = {"params": shifted["q_head"]["params"] | {"bias": jnp.full(2, 5.0)}}
    q = objectives.q_values(network, params, obs)
    # A constant in all advantages changes nothing: their mean is subtracted.
    np.testing.assert_allclose(objectives.q_values(network, shifted, obs), q, atol=1e-6)
    shifted["value_head"] = {"params": shifted["value_head"]["params"] | {"bias": jnp.full(1, 5.0)}}
    np.testing.assert_allclose(objectives.q_values(network, shifted, obs), q + 5.0, rtol=1e-5)


@pytest.mark.parametrize("prioritized", [False, True])
def test_devices_learn_the_same_from_their_own_environments(prioritized):
    config = replace(CONFIG, prioritized=prioritized, normalize_observations=True)

    def run(key):
        result = make_train(config, "device")(key)
        return result.state, result.metrics

    state, metrics = jax.jit(jax.vmap(run, axis_name="device", in_axes=None, axis_size=2))(KEY)
    for leaf in jax.tree.leaves((state.learner, state.replay.top, metrics)):
        np.testing.assert_allclose(leaf[0], leaf[1], rtol=1e-5, atol=1e-6)
    rows = state.replay.rows
    assert rows.reward.shape == (2, 48, 2)  # half of the four environments each
    assert (rows.obs[0] != rows.obs[1]).any()
    alone = jax.jit(make_train(config))(KEY)
    # Before anything is learned, the devices' environments are those of a single device.
    both = np.concatenate([rows.action[0], rows.action[1]], axis=1)
    np.testing.assert_array_equal(both[:9], alone.state.replay.rows.action[:9])
    np.testing.assert_array_equal(metrics.frames[0], alone.metrics.frames)


def test_a_run_on_devices_has_the_state_of_one_device():
    config = replace(CONFIG, prioritized=True)
    result = devices.train_on_devices(config, KEY, jax.devices()[:1])
    expected = jax.eval_shape(make_train(config), KEY)
    jax.tree.map(lambda x, y: np.testing.assert_equal((x.shape, x.dtype), (y.shape, y.dtype)), result, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"core": "lstm"}, "core: 'lstm' is not accepted"),
        ({"env_id": "Pendulum-v1"}, "action_space: .* is not accepted; it must be discrete"),
        ({"learning_starts": 121}, "learning_starts: 121 is not accepted; it must be at most 120"),
        ({"replay_size": 11}, "replay_size: 11 is not accepted; it must be at least 12"),
        ({"batch_size": 0}, "batch_size"),
        ({"total_frames": 2**33, "rollout_length": 4}, "total_frames: 8589934592 is not accepted; it must be at most"),
        ({"epsilon_final": 1.5}, "epsilon_final"),
        ({"target_update_every": 0}, "target_update_every"),
    ],
)
def test_settings_that_do_not_fit_are_rejected(changes, message):
    with pytest.raises(InputError, match=message):
        make_train(replace(CONFIG, **changes))


def test_a_buffer_that_cannot_fit_is_an_error_before_compilation():
    config = replace(CONFIG, replay_size=10**13, total_frames=10**9)
    with pytest.raises(InputError, match=r"the replay buffer takes .*, which a smaller replay_size reduces"):
        memory.check_fits(state_types(config), 12, jax.devices()[:1])


def test_the_bytes_of_the_buffer_are_those_of_its_rows():
    types = state_types(CONFIG)
    # 48 rows of 4 environments: two observations of 4 numbers, an action, a reward, two flags; and a counter and a top.
    assert memory.replay_size(types) == 48 * 4 * (2 * 16 + 4 + 4 + 2) + 8


def test_the_options_that_make_dqn_fast_change_the_order_of_kernels_and_no_number():
    train, options = make_train(CONFIG), compiler_options(CONFIG)
    programs = [jax.jit(train, compiler_options=given).lower(KEY).compile() for given in ({}, options)]
    assert programs[0].as_text() != programs[1].as_text()  # an option that this version ignores would change nothing
    plain, ordered = ([np.asarray(x) for x in jax.tree.leaves(program(KEY))] for program in programs)
    for x, y in zip(plain, ordered, strict=True):
        np.testing.assert_array_equal(x, y)


def test_there_are_such_options_for_small_layers_only():
    assert compiler_options(CONFIG)
    assert not compiler_options(replace(CONFIG, hidden_sizes=(256, 256)))
    assert not compiler_options(ppo.Config())


def test_a_run_of_the_command_line_is_compiled_with_the_options(monkeypatch):
    monkeypatch.setattr(dqn, "one_after_the_other", lambda params: {"no_such_option": True})
    with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_option"):
        compile_run(CONFIG)
