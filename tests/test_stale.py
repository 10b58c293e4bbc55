"""PPO on stale rollouts: the corrections of its loss, and its schedules."""

from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from purejaxrl_a3c import InputError, a2c, make_train, ppo, replace
from purejaxrl_a3c.objectives import Clip, StaleConfig, stale
from purejaxrl_a3c.updates import Asynchrony, Service, corrections

M, T = 6, 4
CLIP = Clip(0.2, 0.3)
LIMITS: dict[str, Any] = {"weight_limit": 1.4, "weight_floor": 0.7, "second_moment_limit": 0.05}
SETTINGS: dict[str, Any] = {"num_envs": 4, "rollout_length": 8, "total_frames": 320, "hidden_sizes": (8,)}
PPO: Any = replace(ppo.Config(), num_minibatches=2, epochs=2, learning_rate=1e-2, **SETTINGS)
KEY = jax.random.key(0)


def steps(seed=0, moved=True, is_stale=True):
    """Steps ``[M, T]`` with log-probabilities of three policies, some of which may be the same."""
    rng = np.random.default_rng(seed)
    log_mu = np.log(rng.uniform(0.1, 0.9, (M, T)))
    log_prox = log_mu + is_stale * rng.normal(0, 0.3, (M, T))
    log_theta = log_prox + moved * rng.normal(0, 0.3, (M, T))
    arrays = {"log_mu": log_mu, "log_theta": log_theta, "advantage": rng.normal(size=(M, T)), "log_prox": log_prox}
    staleness = (is_stale * rng.integers(0, 5, (M, T))).astype(np.int32)
    return stale.Steps(**{name: jnp.float32(x) for name, x in arrays.items()}, staleness=staleness)


def value_and_gradient(name, found):
    """Loss of each step, and the derivative of their sum by ``log_theta``."""
    config = StaleConfig(loss_correction=name, **LIMITS)

    def total(log_theta):
        loss = stale.CORRECTIONS[name].loss(found._replace(log_theta=log_theta), CLIP, config)
        return loss.sum(), loss

    gradient, loss = jax.grad(total, has_aux=True)(found.log_theta)
    return np.asarray(loss), np.asarray(gradient)


def surrogate(ratio, advantage):
    """PPO's loss, and its derivative by the logarithm of the ratio."""
    clipped = min(max(ratio, 1 - CLIP.below), 1 + CLIP.above)
    is_clipped = clipped * advantage < ratio * advantage
    return -min(ratio * advantage, clipped * advantage), 0.0 if is_clipped else -ratio * advantage


def plain_loop(name, found):
    """The same, step by step."""
    loss, gradient = np.zeros((2, M, T))
    log_rho = found.log_theta - found.log_mu
    kept = kept_by_second_moment(log_rho)
    for m in range(M):
        rollout_mean = np.exp(log_rho[m].mean())
        for t in range(T):
            mu, theta, advantage, prox, age = (float(x[m, t]) for x in found[:5])
            rho = np.exp(theta - mu)
            within = LIMITS["weight_floor"] <= rho <= LIMITS["weight_limit"]
            if name == "none":
                pair = surrogate(rho, advantage)
            elif name in ("decoupled", "interpolated"):
                if name == "interpolated":
                    prox = mu + age / (age + 1) * (theta - mu)
                pair = np.multiply(np.exp(prox - mu), surrogate(np.exp(theta - prox), advantage))
            elif name in ("truncated", "effective_sample_size"):
                weight = min(rho, LIMITS["weight_limit"])
                pair = -weight * theta * advantage, -weight * advantage
            elif name == "masked":
                pair = (-rho * advantage * within,) * 2
            elif name == "masked_rollouts":
                pair = (-rho * advantage * (LIMITS["weight_floor"] <= rollout_mean <= LIMITS["weight_limit"]),) * 2
            elif name == "clipped_weight":
                weight = min(max(rho, 1 - CLIP.below), 1 + CLIP.above)
                pair = -weight * theta * advantage, -weight * advantage
            elif name == "rollout_ratio":
                pair = surrogate(rollout_mean, advantage)
            elif name == "two_sided":
                pair = surrogate(rho, advantage)
                if advantage < 0 and rho > LIMITS["weight_limit"]:
                    pair = -LIMITS["weight_limit"] * advantage, 0.0
            elif name == "second_moment":
                pair = (-rho * advantage * kept[m, t],) * 2
            else:
                assert name == "vtrace"
                pair = np.multiply(min(np.exp(prox - mu), 1), surrogate(np.exp(theta - prox), advantage))
            loss[m, t], gradient[m, t] = pair
    if name == "rollout_ratio":  # every step of a rollout moves the one ratio
        gradient = np.broadcast_to(gradient.mean(1, keepdims=True), (M, T))
    return loss, gradient


def kept_by_second_moment(log_rho):
    kept = np.ones((M, T), bool)
    while np.square(log_rho[kept]).mean() > LIMITS["second_moment_limit"]:
        kept[np.unravel_index(np.where(kept, np.square(log_rho), -1).argmax(), (M, T))] = False
    return kept


@pytest.mark.parametrize("name", get_args(stale.CorrectionName))
def test_a_correction_is_that_of_a_plain_loop(name):
    for seed in range(3):
        found = steps(seed)
        loss, gradient = value_and_gradient(name, found)
        expected_loss, expected_gradient = plain_loop(name, found)
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def test_the_test_reaches_every_bound():
    found = steps()
    rho = np.exp(found.log_theta - found.log_mu)
    for inside in (rho < 0.7, rho < 0.8, rho > 1.3, (rho > 1.4) & (found.advantage < 0), found.staleness > 0):
        assert inside.any()
        assert not inside.all()
    assert 0 < kept_by_second_moment(found.log_theta - found.log_mu).sum() < M * T
    means = np.exp((found.log_theta - found.log_mu).mean(1))
    assert ((means > 0.7) & (means < 1.4)).any()
    assert stale.CORRECTIONS.keys() == set(get_args(stale.CorrectionName))


@pytest.mark.parametrize("name", get_args(stale.CorrectionName))
def test_without_staleness_the_first_gradient_is_ppos(name):
    found = steps(moved=False, is_stale=False)
    np.testing.assert_allclose(
        value_and_gradient(name, found)[1].sum(1), value_and_gradient("none", found)[1].sum(1), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", ["decoupled", "interpolated", "vtrace"])
def test_without_staleness_the_loss_is_ppos_in_every_pass(name):
    found = steps(is_stale=False)
    for mine, theirs in zip(value_and_gradient(name, found), value_and_gradient("none", found), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_the_effective_sample_size_is_that_of_its_formula():
    log_ratio = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    weight = np.exp(log_ratio)
    expected = weight.sum() ** 2 / (15 * np.square(weight).sum())
    np.testing.assert_allclose(stale.effective_sample_size(jnp.array(log_ratio)), expected, rtol=1e-5)
    np.testing.assert_allclose(stale.effective_sample_size(jnp.full(7, -3.0)), 1.0, rtol=1e-6)
    # A weight that dwarfs all others is worth one step, however large it is.
    np.testing.assert_allclose(stale.effective_sample_size(jnp.array([500.0, 0, 0, 0])), 0.25, rtol=1e-5)
    # Nor does it matter how small all of them are.
    np.testing.assert_allclose(stale.effective_sample_size(jnp.array([-300.0, -300, -500, -500])), 0.5, rtol=1e-5)
    some = stale.effective_sample_size(jnp.array([-1.0, 7, -1]), jnp.array([True, False, True]))
    np.testing.assert_allclose(some, 1.0, rtol=1e-5)
    # A minibatch may have no step that counts.
    assert stale.effective_sample_size(jnp.zeros(3), jnp.zeros(3, bool)) == 1


def test_steps_shrink_with_the_effective_sample_size():
    rule = optax.chain(optax.sgd(1.0), corrections.scale_by_effective_sample_size())
    state = rule.init(jnp.zeros(2))
    step, _ = rule.update(jnp.array([1.0, -2.0]), state, effective_sample_size=jnp.float32(0.25))
    np.testing.assert_allclose(step, [-0.5, 1.0])


def trained(config):
    return jax.jit(make_train(config))(KEY)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="clip"),
        pytest.param({"policy_loss": "kl", "target_kl": 0.003}, id="kl"),
        pytest.param({"core": "lstm", "num_cells": 4}, id="lstm", marks=pytest.mark.slow),
        pytest.param(
            {"env_id": "Pendulum-v1", "normalize_observations": True}, id="continuous", marks=pytest.mark.slow
        ),
    ],
)
def test_without_staleness_ppo_on_a_schedule_is_ppo(settings):
    config = replace(PPO, **settings)
    plain = trained(config)
    lagged = trained(replace(config, asynchrony=Asynchrony(reads="lagged", lag=0.0, max_lag=2)))
    # Two programs: the compiler may round differently in each, and does with a recurrent core.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        plain.state.learner.params,
        lagged.state.learner.params,
    )
    np.testing.assert_allclose(plain.metrics.episode_return, lagged.metrics.episode_return, rtol=1e-5)
    np.testing.assert_array_equal(lagged.metrics.losses["staleness_max"], 0)
    late = trained(replace(config, asynchrony=Asynchrony(reads="lagged", lag=1.0, max_lag=2)))
    assert not same(plain.state.learner.params, late.state.learner.params)


def test_rollouts_are_as_stale_as_the_schedule_makes_them():
    late = trained(replace(PPO, asynchrony=Asynchrony(reads="lagged", lag=2.0, max_lag=2))).metrics.losses
    np.testing.assert_array_equal(late["staleness_mean"], [0, 1, *[2] * 8])
    assert late["effective_sample_size"][2:].max() < 1
    workers = trained(replace(PPO, num_workers=4, asynchrony=Asynchrony("round_robin"))).metrics.losses
    # Four pushes a round: from the second round on, each sees three others between its pull and its push.
    np.testing.assert_array_equal(workers["staleness_mean"], [1.5, *[3] * 9])
    clock = trained(replace(PPO, num_workers=4, asynchrony=Asynchrony("clock", Service("exponential")))).metrics.losses
    np.testing.assert_allclose(clock["staleness_mean"][1:].mean(), 3.0, atol=0.6)
    assert (np.diff(clock["virtual_time"]) > 0).all()


@pytest.mark.slow
def test_one_pass_over_one_minibatch_is_a2c_on_the_same_schedule():
    """PPO's first gradient is A2C's, so a single step on fresh rollouts is, too."""
    once = replace(PPO, epochs=1, num_minibatches=1, normalize_advantages=False, num_workers=1)
    theirs = trained(replace(a2c.Config(), objective=once.objective, optimizer=once.optimizer, **SETTINGS))
    mine = trained(replace(once, asynchrony=Asynchrony(reads="lagged", lag=0.0)))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        mine.state.learner.params,
        theirs.state.learner.params,
    )


def test_pushes_are_learned_from_one_after_the_other():
    """Two workers in turn are the passes of PPO on the rollouts of the first, and then of the second."""
    asynchrony = Asynchrony("round_robin")
    config = replace(PPO, num_workers=2, asynchrony=asynchrony, total_frames=32)
    algorithm = config.build()
    state = algorithm.init(KEY)
    reached = jax.jit(algorithm.step)(KEY, state)[0].learner
    assert reached.version == 2
    np.testing.assert_array_equal(reached.pulled_version, [1, 2])
    first, second = (jax.tree.map(lambda x, w=w: x[w], reached.snapshots) for w in (0, 1))
    assert same(second, reached.params)
    assert not same(first, reached.params)
    assert not same(first, state.learner.params)


# One for each kind of need: the policy that the learner had, staleness, whole rollouts, smaller steps.
QUICK = ("decoupled", "interpolated", "rollout_ratio", "effective_sample_size")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK))
        for name in get_args(stale.CorrectionName)
        if name != "none"
    ],
)
def test_every_correction_trains(name):
    asynchrony = Asynchrony(reads="lagged", lag=2.0, max_lag=2)
    config = replace(PPO, clip_range=0.01, asynchrony=asynchrony)  # so that PPO clips often
    found = trained(replace(config, loss_correction=name))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found.state.learner.params))
    assert not same(found.state.learner.params, trained(config).state.learner.params)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_workers": 3}, r"num_workers: 3 is not accepted; it must be a divisor of 4, num_envs"),
        ({"num_workers": 4, "num_minibatches": 16}, r"num_minibatches: 16 .* a divisor of 8, num_envs"),
        (
            {"loss_correction": "decoupled", "policy_loss": "kl"},
            r"loss_correction: 'decoupled' .* none unless policy_loss is clip",
        ),
        ({"loss_correction": "rollout_ratio", "num_minibatches": 8}, r"num_minibatches: 8 .* needs whole rollouts"),
        ({"weight_floor": 3.0}, r"weight_floor: 3.0 .* less than weight_limit, 2.0"),
        ({"device_delay": 1, "num_workers": 2}, r"device_delay: 1 .* 0, except in A3C"),
        # Also where nothing is stale: what is set is never ignored without a word.
        ({"device_delay": 1}, r"device_delay: 1 .* 0, except in A3C"),
        ({"lag": 1.0}, r"lag: 1.0 .* 0 unless reads is lagged"),
        ({"max_lead": 1}, r"max_lead: 1 .* None unless schedule is clock"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        replace(PPO, **changes).build()
