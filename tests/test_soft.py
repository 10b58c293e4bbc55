"""Soft actor-critic: its losses in plain NumPy, and environments whose answer is known."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import probes  # noqa: F401  (registers the probe environments)
import pytest
from plain_networks import BODY, ROWS, as_vector, critics, differences, policy_head, random_like, spaces_only, wide

from purejaxrl_a3c import InputError, evaluate, make_train, networks, objectives, replace, sac
from purejaxrl_a3c.envs.spaces import Continuous, Discrete, MultiDiscrete
from purejaxrl_a3c.networks.distributions import TanhGaussian
from purejaxrl_a3c.replay import Transitions

KEY = jax.random.key(0)
GAMMA = 0.9


def make_parts(space, config):
    """What `soft_gradients` takes, with random parameters."""
    env = spaces_only(space)
    network = networks.make_policy(BODY, env, initial_scale=0.8)
    kind = objectives.kind_of(space, config)
    q = networks.make_critics(BODY, env, count=2, outputs=kind.outputs)
    params = {
        "policy": random_like(network.init(KEY), 1),
        "critics": random_like(q.init(KEY), 2),
        "temperature": jnp.float32(-0.7),
    }
    return network, q, kind, params, {"critics": random_like(q.init(KEY), 3)}


def make_batch(action):
    rng = np.random.default_rng(4)
    obs, next_obs = rng.standard_normal((2, ROWS, 3)).astype(np.float32)
    reward = rng.standard_normal(ROWS).astype(np.float32)
    discount = np.array([0.9, 0.0, 0.81, 0.9, 0.9, 0.0], np.float32)
    arrays: Any = (obs, action, reward, discount, next_obs)
    return Transitions(*arrays), rng.uniform(0.2, 1, ROWS).astype(np.float32)


def tanh_log_prob(u, loc, log_scale):
    normal = -0.5 * ((u - loc) / np.exp(log_scale)) ** 2 - log_scale - 0.5 * np.log(2 * np.pi)
    return (normal - 2 * (np.log(2) - u - np.logaddexp(0, -2 * u))).sum(-1)


def gaussian(params, obs):
    return policy_head(params, "loc", obs), policy_head(params, "log_scale", obs) + np.log(0.8)


def continuous_mean(noise):
    """(policy's parameters, critics', obs) -> mean log-probability and smallest Q, at the actions of this noise."""

    def mean(policy, q, obs):
        loc, log_scale = gaussian(policy, obs)
        u = loc + np.exp(log_scale) * noise
        return tanh_log_prob(u, loc, log_scale), critics(q, obs, np.tanh(u)).min(0)[:, 0]

    return mean


def discrete_mean(policy, q, obs):
    logits = policy_head(policy, "logits", obs)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    probs = np.exp(log_probs)
    return (probs * log_probs).sum(-1), (probs * critics(q, obs).min(0)).sum(-1)


def check_gradients(parts, batch, weight, means, taken, target_entropy):
    network, q, kind, params, target = parts
    found, error, scalars = jax.jit(lambda *arrays: objectives.soft_gradients(KEY, network, q, kind, *arrays))(
        params, target, batch, weight
    )
    now, later = means
    alpha, batch, params, target = np.exp(-0.7), wide(batch), wide(params), wide(target)
    log_prob, value = later(params["policy"], target["critics"], batch.next_obs)
    goal = batch.reward + batch.discount * (value - alpha * log_prob)

    def critic_loss(q):
        return (weight * 0.5 * (taken(q) - goal) ** 2).sum(0).mean()

    def policy_loss(policy):
        log_prob, value = now(policy, params["critics"], batch.obs)
        return (weight * (alpha * log_prob - value)).mean()

    assert as_vector(found["critics"]) == pytest.approx(differences(critic_loss, params["critics"]), abs=2e-4)
    assert as_vector(found["policy"]) == pytest.approx(differences(policy_loss, params["policy"]), abs=2e-4)
    log_prob, value = now(params["policy"], params["critics"], batch.obs)
    entropy = -(weight * log_prob).sum() / weight.sum()
    assert found["temperature"] == pytest.approx(entropy - target_entropy, abs=1e-4)
    assert error == pytest.approx(np.abs(taken(params["critics"]) - goal).max(0), abs=1e-4)
    assert scalars["entropy"] == pytest.approx(entropy, abs=1e-4)
    assert scalars["temperature"] == pytest.approx(alpha, rel=1e-5)
    assert scalars["value_loss"] == pytest.approx(
        (0.5 * (taken(params["critics"]) - goal) ** 2).sum(0).mean(), rel=1e-4
    )
    assert scalars["policy_loss"] == pytest.approx((alpha * log_prob - value).mean(), abs=1e-4)


def test_gradients_for_continuous_actions_are_those_of_the_losses_in_numpy():
    parts = make_parts(Continuous(2), objectives.SoftConfig(target_entropy=-0.5))
    action = np.random.default_rng(5).standard_normal((ROWS, 2)).astype(np.float32)
    batch, weight = make_batch(action)
    noise = np.asarray(parts[0].noise(KEY, jnp.arange(2 * ROWS)), np.float64)
    means = continuous_mean(noise[:ROWS]), continuous_mean(noise[ROWS:])

    def taken(q):
        return critics(q, np.asarray(batch.obs, np.float64), np.tanh(action.astype(np.float64)))[..., 0]

    check_gradients(parts, batch, weight, means, taken, 2 * -0.5)


def test_gradients_for_discrete_actions_are_those_of_the_losses_in_numpy():
    parts = make_parts(Discrete(4), objectives.SoftConfig(target_entropy_share=0.6))
    action = np.array([0, 1, 2, 3, 2, 0], np.int32)
    batch, weight = make_batch(action)

    def taken(q):
        return critics(q, np.asarray(batch.obs, np.float64))[:, np.arange(ROWS), action]

    check_gradients(parts, batch, weight, (discrete_mean, discrete_mean), taken, 0.6 * np.log(4))


@pytest.mark.parametrize("u", [-20.0, -8.0, 0.0, 3.0, 20.0])
@pytest.mark.parametrize("loc", [-1.0, 20.0])
def test_the_log_probability_is_exact_where_the_tanh_is_one(u, loc):
    expected = tanh_log_prob(np.array([u]), loc, 0.5)
    arguments = jnp.array([loc]), jnp.array([0.5])

    def log_prob(u):
        return TanhGaussian(*arguments).log_prob(u)

    assert log_prob(jnp.array([u])) == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(jax.grad(log_prob)(jnp.array([u]))).all()


def test_what_is_stored_is_the_sample_before_the_tanh():
    config = replace(
        sac.Config(), initial_scale=8.0, total_frames=40, learning_starts=40, hidden_sizes=(4,), batch_size=2
    )
    state = jax.jit(make_train(config))(KEY).state
    assert np.abs(state.replay.rows.action[:10]).max() > 5


TINY: dict[str, Any] = {
    "gamma": GAMMA,
    "hidden_sizes": (32,),
    "learning_rate": 3e-3,
    "num_envs": 8,
    "updates_per_iteration": 4,
    "batch_size": 64,
    "target_update_rate": 0.02,
    "learning_starts": 400,
}
GREEDY: dict[str, Any] = {"initial_temperature": 1e-4, "target_entropy": -20.0, "target_entropy_share": 0.0}


def trained(env_id, frames=12_000, **settings):
    config = replace(sac.Config(), env_id=env_id, total_frames=frames, **(TINY | settings))
    return config, jax.jit(make_train(config))(KEY)


def q_values(config, result, obs, *action):
    env = config.build().env
    outputs = env.action_space.n if isinstance(env.action_space, Discrete) else 1
    q = networks.make_critics(config.network, env, count=config.ensemble.num_critics, outputs=outputs)
    return np.asarray(q.apply(result.state.learner.params["critics"], jnp.asarray(obs), *map(jnp.asarray, action)))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"n_step": 3}, {"prioritized": True}])
def test_a_time_limit_is_not_a_death(settings):
    """Taking the limit for a death would give 4.1 on average over the seven states, which look the same."""
    config, result = trained("ForeverContinuous-probe", **GREEDY, **settings)
    actions = np.linspace(-0.9, 0.9, 5, dtype=np.float32)[:, None]
    q = q_values(config, result, np.array([[1.0, 0.0, 0.0]] * 5, np.float32), actions)
    np.testing.assert_allclose(q, 1 / (1 - GAMMA), rtol=0.05)


def test_a_time_limit_is_not_a_death_with_discrete_actions():
    config, result = trained("Forever-probe", **GREEDY)
    np.testing.assert_allclose(
        q_values(config, result, np.array([[1.0, 0.0, 0.0]], np.float32)), 1 / (1 - GAMMA), rtol=0.05
    )


@pytest.mark.slow
@pytest.mark.parametrize("n_step", [1, 2])
def test_a_death_is_worth_nothing(n_step):
    config, result = trained("Ending-probe", n_step=n_step, **GREEDY)
    states = np.array([[1.0, bit, 0.1 * time] for time in range(3) for bit in (0.0, 1.0)], np.float32)
    expected = np.repeat([1 + GAMMA + GAMMA**2, 1 + GAMMA, 1.0], 2)[None, :, None]
    np.testing.assert_allclose(q_values(config, result, states), np.broadcast_to(expected, (2, 6, 2)), rtol=0.08)


@pytest.mark.slow
@pytest.mark.parametrize(("env_id", "best"), [("Copy-probe", 10), ("Gamble-probe", 20)])
def test_the_policy_learns_what_to_do_with_discrete_actions(env_id, best):
    config, result = trained(env_id)
    np.testing.assert_array_equal(evaluate(config, result, KEY, episodes=50, deterministic=True), best)


def test_the_policy_learns_where_to_go():
    """Standing still would cost 3.6."""
    config, result = trained("Reach-probe")
    assert evaluate(config, result, KEY, episodes=50, deterministic=True).mean() > -0.1


@pytest.mark.slow
def test_the_policy_keeps_its_target_entropy():
    for env_id, expected in (("Reach-probe", -0.5), ("Copy-probe", 0.6 * np.log(2))):
        _, result = trained(env_id, target_entropy=-0.5, target_entropy_share=0.6)
        assert result.metrics.losses["entropy"][-100:].mean() == pytest.approx(expected, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "sign"), [(-5.0, -1), (0.69, 1)])
def test_the_temperature_rises_where_the_entropy_is_too_small(target, sign):
    settings = {"target_entropy": target, "initial_scale": 0.3, "initial_temperature": 0.1}
    _, result = trained("Reach-probe", frames=1_600, **settings)
    temperature = result.metrics.losses["temperature"]
    assert sign * (temperature[-1] - 0.1) > 0.01 * (sign > 0)


def test_bad_settings_are_rejected_before_anything_is_compiled():
    with pytest.raises(InputError, match="feed_forward"):
        replace(sac.Config(), core="lstm").build()
    with pytest.raises(InputError, match="action_space"):
        networks.make_policy(BODY, spaces_only(MultiDiscrete((2, 2))), initial_scale=1.0)
    with pytest.raises(InputError, match="action_space"):
        networks.make_policy(BODY, spaces_only(Continuous(2, bounded=False)), initial_scale=1.0)


def test_critics_of_images_take_the_action_after_the_torso():
    config = networks.BodyConfig(torso="minatar", hidden_sizes=(8, 6))
    q = networks.make_critics(config, spaces_only(Continuous(2), (10, 10, 4)), count=3, outputs=1)
    params = q.init(KEY)
    obs = jnp.asarray(np.random.default_rng(0).integers(0, 255, (5, 10, 10, 4)), jnp.uint8)
    found = q.apply(params, obs, jnp.zeros((5, 2)))
    assert found.shape == (3, 5, 1)
    assert (found[0] != found[1]).all()
    assert params["params"]["layers"]["Dense_0"]["kernel"].shape == (3, 6 + 2, 6)
    assert (found != q.apply(params, obs, jnp.ones((5, 2)))).all()
    np.testing.assert_allclose(found, q.apply(params, obs.astype(jnp.float32) / 255, jnp.zeros((5, 2))), rtol=1e-4)
