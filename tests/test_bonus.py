from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import probes  # noqa: F401  (registers the probe environments)
import pytest
import reference

from purejaxrl_a3c import a2c, a3c, averaging, bonuses, envs, impala, networks, objectives, ppo, reinforce, rnd
from purejaxrl_a3c.bonuses import moments
from purejaxrl_a3c.bonuses.rnd import Features
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.envs import statistics
from purejaxrl_a3c.loops import rollout
from purejaxrl_a3c.objectives import returns

KEY = jax.random.key(0)
GAMMA, LAMBDA = 0.8, 0.7
NETWORK = replace(networks.Config(), hidden_sizes=(8,), core="gru", num_cells=3)
CONFIG = replace(
    rnd.Config(), intrinsic_gamma=0.9, num_features=4, num_predictor_minibatches=2, predictor_learning_rate=1e-2
)
W, B, T = 1, 2, 20  # episodes have 10 steps: with blocks of 20 one ends at the end of a block


@pytest.fixture(scope="module")
def env():
    return envs.make(envs.Config(env_id="Copy-probe"), GAMMA)


@pytest.fixture(scope="module")
def network(env):
    return networks.make(NETWORK, env, num_values=2)


@pytest.fixture(scope="module")
def params(network):
    return jax.tree.map(lambda x: 2.0 * x, network.init(KEY))


def two_streams(network, extrinsic_coefficient=2.0, intrinsic_coefficient=1.0):
    return bonuses.two_streams(
        network,
        GAMMA,
        intrinsic_gamma=0.9,
        extrinsic_coefficient=extrinsic_coefficient,
        intrinsic_coefficient=intrinsic_coefficient,
    )


@pytest.fixture(scope="module")
def blocks(env, network, params):
    """Trajectories ``[W, B, T]``: two blocks, one after the other."""

    @jax.jit
    def act(actor_state, key):
        noise, keys = rollout.draw(network, key, jnp.arange(B * T).reshape(B, T))
        return jax.vmap(rollout.unroll, (None, None, None, 0, 0, 0))(env, network, params, actor_state, noise, keys)

    actor_state = jax.vmap(lambda key: rollout.start(env, network, key))(jax.random.split(KEY, B))
    actor_state, first = act(actor_state, jax.random.key(1))
    second = act(actor_state, jax.random.key(2))[1]
    return [jax.tree.map(lambda x: x[None], rows) for rows in (first, second)]


def test_moments_are_those_of_everything_seen_and_normalizing_clips():
    batches = [np.random.default_rng(i).normal(3.0, 2.0, size=(50, 2)).astype(np.float32) for i in range(3)]
    found = statistics.start((2,))
    for batch in batches:
        found = moments.update_moments(found, jnp.asarray(batch))
    everything = np.concatenate(batches)
    np.testing.assert_allclose(found.mean, everything.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.variance, everything.var(0), rtol=1e-4)
    rows: Any = np.array([[3.0, 3.0], [1e3, -1e3]], np.float32)
    expected = np.clip((rows - everything.mean(0)) / everything.std(0), -5, 5)
    np.testing.assert_allclose(moments.normalize(found, rows), expected, rtol=1e-3, atol=1e-4)
    assert abs(moments.normalize(found, rows)).max() == 5


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_moments_leave_out_samples_with_numbers_that_would_spoil_them(value):
    samples: Any = np.random.default_rng(0).normal(3.0, 2.0, size=(20, 2)).astype(np.float32)
    start = moments.update_moments(moments.start_moments((2,)), samples)
    samples[3, 1] = value
    jax.tree.map(np.testing.assert_array_equal, moments.update_moments(start, jnp.asarray(samples)), start)
    # If only one device has such a sample, no device may go on without the others.
    both: Any = np.stack([samples, np.ones_like(samples)])
    found = jax.vmap(moments.update_moments, (None, 0, None), axis_name="device")(start, both, "device")
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, np.stack([y, y])), found, start)


def test_an_observation_that_is_not_finite_does_not_spoil_the_bonus(env, blocks):
    bonus = bonuses.random_network_distillation(CONFIG, NETWORK, env)
    state = bonus.observe(bonus.init(KEY, (W, B)), blocks[0])
    values = jnp.array([jnp.nan, jnp.inf, -jnp.inf])
    spoilt = blocks[0]._replace(final_obs=blocks[0].final_obs.at[0, 0, 3].set(values))
    after, paid = jax.jit(bonus.update)(KEY, state, spoilt)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((after, paid.bonus)))
    jax.tree.map(np.testing.assert_array_equal, after.observations, state.observations)


def test_a_gradient_that_is_not_finite_does_not_spoil_the_predictor(env, blocks):
    bonus = bonuses.random_network_distillation(CONFIG, NETWORK, env)
    state = bonus.observe(bonus.init(KEY, (W, B)), blocks[0])
    state = state._replace(target=jax.tree.map(lambda x: 1e30 * x, state.target))
    after, paid = jax.jit(bonus.update)(KEY, state, blocks[0])
    jax.tree.map(np.testing.assert_array_equal, after.predictor, state.predictor)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((after, paid.bonus)))


def test_bonuses_are_divided_by_the_deviation_of_their_discounted_sums(env, blocks):
    """Which goes on from block to block and does not know of episodes."""
    bonus = bonuses.random_network_distillation(CONFIG, NETWORK, env)
    state = bonus.observe(bonus.init(KEY, (W, B)), blocks[0])
    errors, sums, total = [], [], np.zeros((W, B))
    for rows in blocks:
        before = state
        state, paid = jax.jit(bonus.update)(KEY, before, rows)
        # The same without a division: against statistics of nothing.
        seen = moments.normalize(before.observations, rows.final_obs.reshape(-1, 3))
        target = Features(networks.make_torso(NETWORK.body, (3,)), (), 4).apply(before.target, seen)
        guess = Features(networks.make_torso(NETWORK.body, (3,)), (8, 8), 4).apply(before.predictor, seen)
        errors.append(np.asarray(((target - guess) ** 2).mean(-1)).reshape(W, B, T))  # type: ignore[operator]
        for t in range(T):
            total = 0.9 * total + errors[-1][..., t]
            sums.append(total)
        np.testing.assert_allclose(paid.bonus, errors[-1] / np.std(sums), rtol=1e-3)
        np.testing.assert_allclose(state.filter, total, rtol=1e-4)
        jax.tree.map(np.testing.assert_array_equal, state.target, before.target)
        assert state.observations.weight == before.observations.weight + W * B * T


def test_what_was_seen_often_is_worth_less_than_what_is_new(env, blocks):
    bonus = bonuses.random_network_distillation(CONFIG, NETWORK, env)
    new = blocks[0]._replace(final_obs=blocks[0].final_obs.at[..., -1, :].add(jnp.array([0.0, 0.0, 3.0])))
    state = bonus.observe(bonus.init(KEY, (W, B)), new)
    update = jax.jit(bonus.update)
    early = update(KEY, state, blocks[0])[1].bonus
    for i in range(60):
        state, _ = update(jax.random.fold_in(KEY, i), state, blocks[0])
    late = update(KEY, state, new)[1].bonus
    assert late[..., -1].min() > 5 * late[..., :-1].mean()
    assert early[..., :-1].mean() > 0.2 * early[..., -1].mean()


def test_the_bonus_goes_on_after_the_end_of_an_episode_and_the_rewards_do_not(network, params, blocks):
    last = np.asarray(blocks[1].terminated | blocks[1].truncated)[0]
    assert last[:, :-1].any()
    assert last[:, -1].all()
    row = jax.tree.map(lambda x: x[0, 1], blocks[1])._replace(bonus=jnp.linspace(0.1, 2.0, T))
    estimator = two_streams(network, extrinsic_coefficient=3.0, intrinsic_coefficient=0.5)
    _, outputs = network.unroll(params, *jax.tree.map(lambda x: x[None], (row.carry, row.obs, row.first)))
    value = outputs.value[0]

    def estimate(**block):
        return returns.gae(**block, gae_lambda=LAMBDA)

    found = estimator.targets(estimate, value, estimator.bootstrap(params, row), row)
    plain = np.asarray(value, float)

    def value_of(i, t, obs, first):
        carry = jax.tree.map(lambda x: x[t], row.next_carry)
        return float(network.step(params, carry, obs, jnp.bool_(first))[1].value[i])

    next_value = np.array([value_of(0, t, row.final_obs[t], False) for t in range(T)])
    extrinsic = reference.gae(
        value=plain[:, 0],
        next_value=next_value,
        reward=np.asarray(row.reward, float),
        discount=0.8 * (1.0 - np.asarray(row.terminated)),
        last=last[1].astype(float),
        gae_lambda=LAMBDA,
    )
    # What is acted on next, after a reset or not.
    next_obs = [*row.obs[1:], row.end_obs]
    intrinsic = reference.gae(
        value=plain[:, 1],
        next_value=np.array([value_of(1, t, next_obs[t], last[1, t]) for t in range(T)]),
        reward=np.asarray(row.bonus, float),
        discount=np.full(T, 0.9),
        last=np.zeros(T),
        gae_lambda=LAMBDA,
    )
    np.testing.assert_allclose(found.advantage, 3.0 * extrinsic + 0.5 * intrinsic, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.value[:, 0], plain[:, 0] + extrinsic, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.value[:, 1], plain[:, 1] + intrinsic, rtol=1e-3, atol=1e-4)


def test_both_values_learn(network, params, blocks):
    """The squared errors are added up."""
    rows = jax.tree.map(lambda x: x[0], blocks[1])
    rows = rows._replace(bonus=jnp.ones((B, T)))
    estimator = two_streams(network)
    objective = objectives.policy_gradient(network, objectives.Config(gae_lambda=LAMBDA), estimator)
    _, terms = objective.loss(params, objective.prepare(params, rows))
    _, outputs = network.unroll(params, rows.carry, rows.obs, rows.first)

    def errors(value, row):
        def estimate(**block):
            return returns.gae(**block, gae_lambda=LAMBDA)

        return jnp.square(estimator.targets(estimate, value, estimator.bootstrap(params, row), row).value - value)

    expected = jax.vmap(errors)(outputs.value, rows).mean((0, 1)).sum()
    assert terms["value_loss"] == pytest.approx(float(expected), rel=1e-4)


def test_the_warm_up_leaves_the_run_where_it_starts():
    agent = replace(a2c.Config(), env_id="Copy-probe", hidden_sizes=(8,), num_envs=2)
    states = [replace(CONFIG, agent=agent, warm_up=rollouts).build().init(KEY) for rollouts in (0, 3)]
    jax.tree.map(np.testing.assert_array_equal, states[0].actor_state, states[1].actor_state)
    assert states[0].bonus.observations.weight == 0
    assert states[1].bonus.observations.weight == 3 * 2 * 5


@pytest.mark.parametrize(
    "agent",
    [
        replace(a2c.Config(), num_envs=2),
        replace(a3c.Config(), num_workers=3, envs_per_worker=2, shared_torso=True),
        replace(impala.Config(), num_workers=2, envs_per_worker=2, core="gru", num_cells=3),
        replace(ppo.Config(), env_id="Pendulum-v1", num_envs=4, core="lstm", num_cells=3, num_minibatches=2),
        replace(reinforce.Config(), num_envs=2, longest_episode=4),
        replace(averaging.Config(), num_workers=2, envs_per_worker=2),
    ],
    ids=lambda agent: type(agent).__module__.rpartition(".")[2],
)
def test_every_agent_can_be_given_a_bonus(agent):
    agent = replace(agent, rollout_length=4, hidden_sizes=(8,))
    algorithm = replace(rnd.Config(), agent=agent, num_predictor_minibatches=2).build()
    state = jax.eval_shape(algorithm.init, KEY)
    after, metrics = jax.eval_shape(algorithm.step, KEY, state)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert all(x.shape == () for x in jax.tree.leaves(metrics))


def test_everything_stays_float32_where_jax_has_float64(network, env, blocks):
    rows = jax.tree.map(np.asarray, blocks[1])
    params = jax.eval_shape(network.init, KEY)
    jax.config.update("jax_enable_x64", True)
    try:
        bonus = bonuses.random_network_distillation(CONFIG, NETWORK, env)
        state = jax.eval_shape(lambda key: bonus.observe(bonus.init(key, (W, B)), rows), KEY)
        after, paid = jax.eval_shape(lambda state: bonus.update(KEY, state, rows), state)
        estimator = bonus.estimator(network, GAMMA)
        config = objectives.Config()
        learn = objectives.policy_gradient(network, config, estimator)
        row = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), paid)
        loss = jax.eval_shape(lambda params, row: learn.loss(params, learn.prepare(params, row)), params, row)
    finally:
        jax.config.update("jax_enable_x64", False)
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)
    assert all(x.dtype.itemsize <= 4 for x in jax.tree.leaves((state, paid, loss)))


def test_the_bonus_makes_no_nan_on_its_way(env, network, params, blocks):
    """Operation by operation, so that a NaN that a mask hides is found too."""
    bonus = bonuses.random_network_distillation(CONFIG, NETWORK, env)
    row = jax.tree.map(lambda x: x[0, 0], blocks[1])
    with jax.debug_nans(True):
        state = bonus.init(KEY, (W, B))
        for rows in (*blocks, jax.tree.map(lambda x: 0 * x, blocks[0])):
            state, paid = bonus.update(KEY, state, rows)
        row = row._replace(bonus=paid.bonus[0, 0])
        two_streams(network).bootstrap(params, row)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((state.observations, state.returns, state.filter)))


def test_devices_share_out_the_sums_of_their_own_environments(env):
    bonus = bonuses.random_network_distillation(CONFIG, NETWORK, env)
    state = jax.eval_shape(lambda key: bonus.init(key, (W, B)), KEY)
    for axis in (0, 1):
        found = bonus.split(state, axis)
        assert found.filter == axis
        assert set(jax.tree.leaves(found._replace(filter=-1))) == {-1}


BAD = [
    ("agent", None, "a ppo.Config or an a2c.Config"),
    ("intrinsic_gamma", 1.1, "in [0, 1]"),
    ("extrinsic_coefficient", -1.0, ">= 0"),
    ("predictor_learning_rate", -1.0, ">= 0"),
    ("num_predictor_minibatches", 3, "a divisor of 1024, the frames of a rollout"),
    ("predictor_epochs", 0, "an int >= 1"),
    ("num_features", 0, "an int >= 1"),
    ("warm_up", -1, "an int >= 0"),
]


@pytest.mark.parametrize(("field", "value", "accepted"), BAD)
def test_bad_settings_are_named(field, value, accepted):
    with pytest.raises(InputError, match=field) as error:
        replace(rnd.Config(), **{field: value}).build()
    assert str(error.value).startswith(f"{field}: {value!r} is not accepted; it must be {accepted}")


def test_settings_of_the_agent_are_checked_too():
    with pytest.raises(InputError, match=r"clip_range: 0\.0 is not accepted"):
        replace(rnd.Config(), clip_range=0.0).build()
    clock = replace(a3c.Config(), schedule="clock")
    with pytest.raises(InputError, match="schedule: 'clock' is not accepted"):
        replace(rnd.Config(), agent=clock).build()
