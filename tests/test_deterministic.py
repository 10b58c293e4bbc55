"""Deterministic policies: the losses of TD3 and D4PG in plain NumPy, and environments whose answer is known."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import probes  # noqa: F401  (registers the probe environments)
import pytest
from plain_networks import BODY, ROWS, as_vector, critics, differences, policy_head, random_like, spaces_only, wide

from purejaxrl_a3c import InputError, d4pg, evaluate, make_train, networks, objectives, replace, td3
from purejaxrl_a3c.envs.spaces import Continuous, Discrete
from purejaxrl_a3c.objectives.deterministic import project
from purejaxrl_a3c.replay import Transitions

KEY = jax.random.key(0)
GAMMA = 0.9
CATEGORICAL = objectives.CategoricalConfig(num_atoms=7, value_min=-2.0, value_max=2.5)


def c51_projection(atoms, returns, probs):
    """Algorithm 1 of Bellemare et al. 2017, atom by atom, with whole numbers taken care of."""
    delta = atoms[1] - atoms[0]
    found = np.zeros(atoms.size)
    for value, prob in zip(returns, probs, strict=True):
        position = (min(max(value, atoms[0]), atoms[-1]) - atoms[0]) / delta
        low, high = int(np.floor(position)), int(np.ceil(position))
        if low == high:
            found[low] += prob
        else:
            found[low] += prob * (high - position)
            found[high] += prob * (position - low)
    return found


@pytest.mark.parametrize("spread", [0.3, 1.0, 5.0])
def test_the_projection_is_that_of_c51_and_loses_nothing(spread):
    rng = np.random.default_rng(0)
    atoms = np.linspace(-3, 5, 9)
    returns = spread * rng.uniform(-5, 8, (20, 9))
    returns[0], returns[1], returns[2] = atoms, -100.0, 100.0  # on the atoms, and beyond either end
    returns[3] = 2.0
    probs = rng.dirichlet(np.ones(9), 20)
    found = np.asarray(project(*(jnp.asarray(x, jnp.float32) for x in (atoms, returns, probs))))
    expected = [c51_projection(atoms, *row) for row in zip(returns, probs, strict=True)]
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(found.sum(-1), 1.0, atol=1e-6)
    inside = np.clip(returns, -3, 5)
    np.testing.assert_allclose(found @ atoms, (probs * inside).sum(-1), atol=1e-5)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def scalar_loss(after, reward, discount):
    """(loss of outputs, error of outputs, mean of outputs)."""
    goal = reward + discount * after.min(0)[:, 0]

    def error(outputs):
        return np.abs(outputs[..., 0] - goal)

    return lambda outputs: 0.5 * error(outputs) ** 2, error, lambda outputs: outputs[..., 0]


def categorical_loss(after, reward, discount):
    atoms = np.linspace(-2.0, 2.5, 7)
    worst = (softmax(after) @ atoms).argmin(0)
    rows = [
        c51_projection(atoms, reward[i] + discount[i] * atoms, softmax(after)[worst[i], i]) for i in range(reward.size)
    ]
    goal = np.stack(rows)

    def divergence(outputs):
        safe = np.where(goal > 0, goal, 1.0)
        return (goal * (np.log(safe) - np.log(softmax(outputs)))).sum(-1)

    return divergence, divergence, lambda outputs: softmax(outputs) @ atoms


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("kind", "plain_loss"),
    [(objectives.scalar_values(), scalar_loss), (objectives.categorical_values(CATEGORICAL), categorical_loss)],
    ids=["scalar", "categorical"],
)
def test_gradients_are_those_of_the_losses_in_numpy(kind, plain_loss, count):
    env = spaces_only(Continuous(2))
    network = networks.make_deterministic_policy(BODY, env)
    q = networks.make_critics(BODY, env, count=count, outputs=kind.outputs)
    params, target = (
        {"policy": random_like(network.init(KEY), seed), "critics": random_like(q.init(KEY), seed + 1)}
        for seed in (1, 3)
    )
    rng = np.random.default_rng(6)
    obs, next_obs = rng.standard_normal((2, ROWS, 3)).astype(np.float32)
    action = rng.uniform(-1, 1, (ROWS, 2)).astype(np.float32)
    reward = rng.standard_normal(ROWS).astype(np.float32)
    discount = np.array([0.9, 0.0, 0.81, 0.9, 0.9, 0.0], np.float32)
    arrays: Any = (obs, action, reward, discount, next_obs)
    batch = Transitions(*arrays)
    weight = rng.uniform(0.2, 1, ROWS).astype(np.float32)
    config = objectives.DeterministicConfig(count, smoothing_noise=0.6, smoothing_clip=0.5, policy_update_every=3)
    gradients = jax.jit(functools.partial(objectives.deterministic_gradients, KEY, network, q, kind, config))
    found, error, scalars = gradients(params, target, batch, weight, jnp.int32(6))

    batch, params, target = wide(batch), wide(params), wide(target)
    noise = np.clip(0.6 * np.asarray(jax.random.normal(KEY, (ROWS, 2))), -0.5, 0.5)
    next_action = np.clip(np.tanh(policy_head(target["policy"], "loc", batch.next_obs)) + noise, -1, 1)
    after = critics(target["critics"], batch.next_obs, next_action)
    loss, plain_error, mean = plain_loss(after, batch.reward, batch.discount)

    def critic_loss(one):
        return (weight * loss(critics(one, batch.obs, batch.action)).sum(0)).mean()

    def policy_loss(policy):
        q = critics(params["critics"], batch.obs, np.tanh(policy_head(policy, "loc", batch.obs)))
        return -(weight * mean(q)[0]).mean()

    policy_gradient = differences(policy_loss, params["policy"])
    assert np.abs(policy_gradient).max() > 0.01
    assert as_vector(found["critics"]) == pytest.approx(differences(critic_loss, params["critics"]), abs=2e-4)
    assert as_vector(found["policy"]) == pytest.approx(policy_gradient, abs=2e-4)
    assert error == pytest.approx(plain_error(critics(params["critics"], batch.obs, batch.action)).max(0), abs=1e-4)
    outputs = critics(params["critics"], batch.obs, batch.action)
    assert scalars["value_loss"] == pytest.approx(loss(outputs).sum(0).mean(), rel=1e-4)
    assert scalars["value_mean"] == pytest.approx(mean(outputs).mean(), abs=1e-4)
    between = gradients(params, target, batch, weight, jnp.int32(7))[0]
    assert (as_vector(between["policy"]) == 0).all()
    assert as_vector(between["critics"]) == pytest.approx(as_vector(found["critics"]), abs=1e-5)


TINY: dict[str, Any] = {
    "gamma": GAMMA,
    "hidden_sizes": (32,),
    "learning_rate": 3e-3,
    "num_envs": 8,
    "updates_per_iteration": 4,
    "batch_size": 64,
    "target_update_rate": 0.02,
    "learning_starts": 400,
    "exploration_noise": 0.3,
}
RANGE: dict[str, Any] = {"num_atoms": 41, "value_min": -4.0, "value_max": 12.0, "n_step": 1}
CONFIGS: dict[str, Any] = {"td3": replace(td3.Config(), **TINY), "d4pg": replace(d4pg.Config(), **TINY, **RANGE)}


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


def trained(config, env_id, frames=12_000, **settings):
    config = replace(config, env_id=env_id, total_frames=frames, **settings)
    return config, jax.jit(make_train(config))(KEY)


def outputs_of(config, result, obs, action):
    """The critics' outputs [count, M, O]."""
    agent = config.agent if isinstance(config, d4pg.Config) else config
    size = config.categorical.num_atoms if isinstance(config, d4pg.Config) else 1
    count = agent.deterministic.critics.num_critics
    q = networks.make_critics(agent.network, config.build().env, count=count, outputs=size)
    params = result.state.learner.params["critics"]
    return np.asarray(q.apply(params, jnp.array(obs, jnp.float32), jnp.array(action, jnp.float32)))


def values_of(config, result, obs, action):
    outputs = outputs_of(config, result, obs, action)
    if outputs.shape[-1] == 1:
        return outputs[..., 0]
    one = config.categorical
    return softmax(outputs) @ np.linspace(one.value_min, one.value_max, one.num_atoms)


@pytest.mark.slow
@pytest.mark.parametrize("n_step", [1, 3])
def test_a_time_limit_is_not_a_death(config, n_step):
    """Taking the limit for a death would give 4.1 on average over the seven states, which look the same."""
    config, result = trained(config, "ForeverContinuous-probe", n_step=n_step)
    q = values_of(config, result, [[1.0, 0.0, 0.0]] * 5, np.linspace(-0.9, 0.9, 5)[:, None])
    np.testing.assert_allclose(q, 1 / (1 - GAMMA), rtol=0.05)


@pytest.mark.slow
def test_the_policy_learns_where_to_go(config):
    """Standing still would cost 3.6."""
    config, result = trained(config, "Reach-probe")
    assert evaluate(config, result, KEY, episodes=50, deterministic=True).mean() > -0.1


@pytest.mark.slow
def test_ddpg_learns_where_to_go():
    ddpg = {"num_critics": 1, "smoothing_noise": 0.0, "policy_update_every": 1, "target_update_every": 1}
    config, result = trained(CONFIGS["td3"], "Reach-probe", prioritized=True, **ddpg)
    assert evaluate(config, result, KEY, episodes=50, deterministic=True).mean() > -0.1


@pytest.mark.slow
def test_the_distribution_of_returns_is_that_of_the_rewards():
    """Two tickets, each of which pays 2 with a chance of 1/4; the chances of the atoms between must vanish."""
    settings = {"num_atoms": 6, "value_min": -1.0, "value_max": 4.0, "n_step": 1, "gamma": 1.0}
    config, result = trained(CONFIGS["d4pg"], "Lottery-probe", 24_000, learning_rate=1e-3, **settings)
    found = softmax(outputs_of(config, result, [[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]], [[0.0], [0.0]]))[0]
    np.testing.assert_allclose(found[0], [0, 9 / 16, 0, 6 / 16, 0, 1 / 16], atol=0.05)
    np.testing.assert_allclose(found[1], [0, 3 / 4, 0, 1 / 4, 0, 0], atol=0.05)


def moments_of_change(config, name, updates):
    """For each update, whether the learner's ``name`` changed, by part."""
    algorithm = config.build()

    @jax.jit
    def changes(key):
        def iterate(state, i):
            new, _ = algorithm.step(jax.random.fold_in(key, i), state)
            before, after = (getattr(one.learner, name) for one in (state, new))
            different = jax.tree.map(lambda x, y: (x != y).any(), before, after)
            parts = {part: jnp.stack(jax.tree.leaves(tree)).any() for part, tree in different.items()}
            return new, parts

        return jax.lax.scan(iterate, algorithm.init(key), jnp.arange(updates))[1]

    return jax.tree.map(lambda x: np.asarray(x).astype(int).tolist(), changes(KEY))


def test_the_policy_and_the_targets_are_updated_in_their_turns(config):
    small = {"learning_starts": 0, "updates_per_iteration": 1, "num_envs": 2, "batch_size": 4, "total_frames": 100}
    turns = {"policy_update_every": 3, "target_update_every": 2}
    config = replace(config, env_id="Reach-probe", **small, **turns)
    learned = moments_of_change(config, "params", 7)
    assert learned == {"critics": [1] * 7, "policy": [1, 0, 0, 1, 0, 0, 1]}
    assert moments_of_change(config, "target", 7) == {"critics": [0, 1, 0, 1, 0, 1, 0], "policy": [0, 1, 0, 1, 0, 1, 0]}


def test_the_count_of_updates_is_one_for_all_seeds():
    """Otherwise the branch on it would be none: the policy's gradient would be computed every time and thrown away."""
    config = replace(CONFIGS["td3"], env_id="Reach-probe", total_frames=800)
    # A result with an axis of seeds is an error here.
    count = jax.vmap(lambda key: make_train(config)(key).state.learner.updates, out_axes=None)
    assert jax.jit(count)(jax.random.split(KEY, 2)) == 51 * 4


def stored_actions(result):
    return np.asarray(result.state.replay.rows.action)[..., 0]


def test_noise_explores_within_the_bounds_and_is_larger_before_learning():
    settings = {"exploration_noise": 0.05, "learning_starts": 1_600, "learning_rate": 0.0}
    _, result = trained(CONFIGS["td3"], "ForeverContinuous-probe", 3_200, **settings)
    actions = stored_actions(result)[:400]
    assert np.abs(actions).max() == 1.0
    assert 0.2 < (np.abs(actions[:200]) == 1.0).mean() < 0.45  # 0.32 of a standard normal
    assert actions[200:].std() == pytest.approx(0.05, rel=0.1)


def test_repeated_noise_lasts():
    settings = {"rollout_length": 6, "noise_repeat": 3, "learning_starts": 480, "replay_size": 480}
    _, result = trained(CONFIGS["td3"], "ForeverContinuous-probe", 480, learning_rate=0.0, **settings)
    noise = stored_actions(result).reshape(-1, 3, 8)
    np.testing.assert_array_equal(noise, np.broadcast_to(noise[:, :1], noise.shape))
    assert (noise[1:, 0] != noise[:-1, 0]).mean() > 0.7
    assert (noise[:, 0, 1:] != noise[:, 0, :-1]).mean() > 0.7


def test_the_range_of_values_can_be_mapped_over():
    config = replace(CONFIGS["d4pg"], env_id="Reach-probe", total_frames=800)
    low = jnp.array([-4.0, -8.0])
    losses = jax.jit(jax.vmap(lambda low: make_train(replace(config, value_min=low))(KEY).metrics.losses))(low)
    assert np.isfinite(losses["value_mean"]).all()
    assert losses["value_mean"][0, -1] != losses["value_mean"][1, -1]


def test_bad_settings_are_rejected_before_anything_is_compiled(config):
    with pytest.raises(InputError, match="feed_forward"):
        replace(config, core="gru").build()
    with pytest.raises(InputError, match="action_space"):
        replace(config, env_id="CartPole-v1").build()
    for space in (Discrete(2), Continuous(2, bounded=False)):
        with pytest.raises(InputError, match="action_space"):
            networks.make_deterministic_policy(BODY, spaces_only(space))


@pytest.mark.parametrize("low", [1.0, 2.0, jnp.float32(1.0)])
def test_an_empty_range_of_values_is_rejected(low):
    with pytest.raises(InputError, match="value_min"):
        replace(d4pg.Config(), value_min=low, value_max=1.0).build()
