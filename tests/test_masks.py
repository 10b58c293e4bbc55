"""Action masks: what is not legal is never done, and nothing is learned from it."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from purejaxrl_a3c import (
    a2c,
    a3c,
    dqn,
    envs,
    evaluate,
    impala,
    make_act,
    make_train,
    nstep_q,
    ppo,
    pqn,
    r2d2,
    rnd,
    sac,
)
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.envs.observations import check_mask, random_action
from purejaxrl_a3c.networks.distributions import Categorical, EpsilonGreedy, MultiCategorical
from purejaxrl_a3c.objectives import soft
from purejaxrl_a3c.run import export
from purejaxrl_a3c.run.env_checks import check_env
from purejaxrl_a3c.types import Env, TimeStep

ACTIONS, LENGTH = 5, 8
LEGAL = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 1, 0], [1, 1, 1, 1, 1], [0, 1, 0, 0, 1]], bool)
LOGITS = np.random.default_rng(0).normal(size=(4, ACTIONS)).astype(np.float32)


def doors(sizes=(), never=False) -> Env:
    """At each step some of the doors are open. The last one of them pays 1, and a closed one costs 100 and the game.

    Args:
        sizes: of the choices, for several at once; empty: one choice of `ACTIONS`.
        never: whether all doors are closed after the third step.
    """
    count = sum(sizes) or ACTIONS
    space = spaces.MultiDiscrete(sizes) if sizes else spaces.Discrete(ACTIONS)
    starts = np.cumsum([0, *sizes[:-1]]) if sizes else np.array([0])
    own = np.repeat(np.arange(len(starts)), sizes if sizes else (ACTIONS,))

    def observe(key, time):
        key_open, key_one = jax.random.split(jax.random.fold_in(key, time))
        opened = jax.random.bernoulli(key_open, 0.4, (count,))
        scores = jax.random.uniform(key_one, (count,))
        # At least one door of every choice is open.
        best = jnp.stack([jnp.max(jnp.where(own == i, scores, -1)) for i in range(len(starts))])[own]
        opened = opened | (scores == best)
        return {"observation": opened * 1.0, "action_mask": opened & jnp.logical_or(not never, time < 3)}

    def reset(key):
        state = jax.random.key_data(key), jnp.int32(0)
        return state, observe(key, 0)

    def step(key, state, action):
        game, time = jax.random.wrap_key_data(state[0]), state[1]
        opened = observe(game, time)["action_mask"]
        chosen = jnp.atleast_1d(action) + starts
        last = jnp.stack([jnp.max(jnp.where(opened & (own == i), np.arange(count), -1)) for i in range(len(starts))])
        closed = ~opened[chosen].all()
        obs = observe(game, time + 1)
        reward = jnp.where(closed, -100.0, jnp.mean((chosen == last).astype(jnp.float32)))
        return (state[0], time + 1), TimeStep(obs, reward, closed | (time + 1 >= LENGTH), jnp.bool_(False), obs)

    shape = {"observation": (count,), "action_mask": (count,)}
    return Env(reset, step, shape, space)


SMALL: dict[str, Any] = {"env_id": doors(), "hidden_sizes": (16,), "total_frames": 4096, "rollout_length": 8}
BATCH = SMALL | {"num_envs": 8}
WORKERS = SMALL | {"num_workers": 4, "envs_per_worker": 2}
REPLAY = BATCH | {"learning_starts": 128, "replay_size": 1024, "batch_size": 16, "updates_per_iteration": 2}
CONFIGS: dict[str, Any] = {
    "a2c": replace(a2c.Config(), **BATCH),
    "a3c": replace(a3c.Config(), **WORKERS),
    "impala": replace(impala.Config(), schedule="clock", **WORKERS),
    "ppo": replace(ppo.Config(), core="gru", num_cells=8, normalize_observations=True, **BATCH),
    "rnd": replace(rnd.Config(), warm_up=1, **BATCH),
    "nstep_q": replace(nstep_q.Config(), double=True, **WORKERS),
    "pqn": replace(pqn.Config(), frame_stack=2, **BATCH),
    "dqn": replace(dqn.Config(), prioritized=True, **REPLAY),
    "r2d2": replace(r2d2.Config(), num_cells=8, sequence_length=8, burn_in=2, **REPLAY),
    "sac": replace(sac.Config(), **REPLAY),
}


def train_quickly(config):
    """A run that is compiled with little optimisation, as it is short."""
    return jax.jit(make_train(config), compiler_options={"xla_backend_optimization_level": 0})(jax.random.key(0))


@pytest.mark.parametrize("name", CONFIGS)
def test_no_algorithm_ever_takes_an_illegal_action(name):
    """Random ones do in nearly every episode. One of them would make the mean return of an iteration negative."""
    result = train_quickly(CONFIGS[name])
    returns, episodes = np.asarray(result.metrics.episode_return), np.asarray(result.metrics.episodes)
    assert (returns[episodes > 0] >= 0).all()
    assert episodes.sum() == 4096 // LENGTH  # none ended early
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((result.metrics.losses, result.state.learner.params)))
    if name in ("ppo", "dqn"):
        assert (evaluate(CONFIGS[name], result, jax.random.key(1), episodes=16) >= 0).all()


def test_a_masked_policy_learns_which_legal_action_is_best():
    config = replace(CONFIGS["a2c"], total_frames=60_000, learning_rate=3e-3)
    result = jax.jit(make_train(config))(jax.random.key(0))
    assert evaluate(config, result, jax.random.key(1), episodes=64, deterministic=True).mean() > 7.5


def test_several_choices_have_masks_of_their_own():
    result = train_quickly(replace(CONFIGS["a2c"], env_id=doors(sizes=(2, 4, 3))))
    assert result.metrics.episodes.sum() == 4096 // LENGTH


def test_a_masked_categorical_is_that_of_the_legal_actions():
    policy = Categorical(jnp.array(LOGITS)).masked(jnp.array(LEGAL))
    other = Categorical(jnp.array(LOGITS[::-1])).masked(jnp.array(LEGAL))
    noise = jnp.array(np.linspace(0, 1, 1000, endpoint=False, dtype=np.float32))
    for row, legal in enumerate(LEGAL):
        where = np.flatnonzero(legal)
        probs, others = (np.exp(x[where]) / np.exp(x[where]).sum() for x in (LOGITS[row], LOGITS[::-1][row]))
        one, two = (jax.tree.map(lambda x, row=row: x[row], p) for p in (policy, other))
        log_probs = np.asarray(jax.vmap(one.log_prob)(jnp.arange(ACTIONS)))
        np.testing.assert_allclose(np.exp(log_probs[where]), probs, rtol=1e-5)
        assert log_probs[~legal].max(initial=-1e20) < -1e19
        np.testing.assert_allclose(one.entropy(), scipy.stats.entropy(probs), atol=1e-6)
        np.testing.assert_allclose(one.kl(two), scipy.stats.entropy(probs, others), atol=1e-6)
        assert one.mode() == where[np.argmax(probs)]
        samples = np.asarray(jax.vmap(one.sample)(noise))
        assert set(samples) == set(where)
        np.testing.assert_allclose(np.bincount(samples, minlength=5)[where] / 1000, probs, atol=2e-3)


def test_no_gradient_flows_into_illegal_actions():
    def losses(logits):
        policy, other = (Categorical(x).masked(jnp.array(LEGAL)) for x in (logits, jnp.array(LOGITS[::-1])))
        action = jnp.array([0, 3, 1, 4])
        return (policy.log_prob(action) + policy.entropy() + policy.kl(other)).sum()

    gradient = np.asarray(jax.grad(losses)(jnp.array(LOGITS)))
    assert (gradient[~LEGAL] == 0).all()
    assert (gradient[[0, 2, 3]][LEGAL[[0, 2, 3]]] != 0).all()
    assert np.isfinite(gradient).all()


def test_epsilon_greedy_explores_among_the_legal_actions():
    policy = EpsilonGreedy(jnp.array(LOGITS), jnp.full(4, 0.4)).masked(jnp.array(LEGAL))
    noise = jnp.array(np.linspace(0, 1, 1000, endpoint=False, dtype=np.float32))
    for row, legal in enumerate(LEGAL):
        where = np.flatnonzero(legal)
        expected = legal * 0.4 / len(where)
        expected[where[np.argmax(LOGITS[row][where])]] += 0.6
        one = jax.tree.map(lambda x, row=row: x[row], policy)
        np.testing.assert_allclose(one.probs, expected, rtol=1e-6)
        samples = np.asarray(jax.vmap(one.sample)(noise))
        np.testing.assert_allclose(np.bincount(samples, minlength=5) / 1000, expected, atol=2e-3)


def test_where_nothing_is_legal_everything_is():
    nothing = jnp.zeros((4, ACTIONS), bool)
    assert jnp.allclose(Categorical(jnp.array(LOGITS)).masked(nothing).entropy(), np.log(5), atol=1e-6)
    policy = EpsilonGreedy(jnp.array(LOGITS), jnp.ones(4)).masked(nothing)
    np.testing.assert_allclose(policy.probs, np.full((4, 5), 0.2), rtol=1e-6)
    several = MultiCategorical(jnp.array(LOGITS), (2, 3)).masked(nothing)
    assert jnp.allclose(several.entropy(), np.log(2) + np.log(3), atol=1e-6)


def test_random_actions_are_uniform_over_the_legal_ones():
    obs = {"observation": jnp.zeros(3), "action_mask": jnp.array(LEGAL[0])}
    keys = jax.random.split(jax.random.key(0), 3000)
    actions = np.asarray(jax.vmap(lambda key: random_action(key, spaces.Discrete(ACTIONS), obs))(keys))
    np.testing.assert_allclose(np.bincount(actions, minlength=5) / 3000, LEGAL[0] / 3, atol=0.03)
    pairs = jax.vmap(lambda key: random_action(key, spaces.MultiDiscrete((2, 3)), obs))(keys)
    assert {tuple(pair) for pair in np.asarray(pairs).tolist()} == {(0, 0), (0, 1)}


def test_soft_actor_critic_keeps_a_share_of_the_entropy_over_legal_actions():
    kind = soft.discrete_actions(ACTIONS, soft.SoftConfig(target_entropy_share=0.5))
    obs = {"observation": jnp.zeros((4, 3)), "action_mask": jnp.array(LEGAL)}
    np.testing.assert_allclose(kind.target_entropy(obs), 0.5 * np.log([3, 1, 5, 2]), rtol=1e-6)
    assert kind.target_entropy(jnp.zeros((4, 3))) == pytest.approx(0.5 * np.log(5))


def test_a_trained_agent_takes_legal_actions_outside_of_its_run(tmp_path):
    config = CONFIGS["ppo"]
    result = train_quickly(replace(config, total_frames=256))
    act = make_act(config, result)
    masks = np.eye(ACTIONS, dtype=bool)
    batch = {"observation": masks * np.float32(1), "action_mask": masks}
    for key in (None, jax.random.key(3)):
        actions, _ = act(batch, key=key)
        np.testing.assert_array_equal(actions, np.arange(ACTIONS))
    with pytest.raises(InputError, match=r"obs: .* must be of shape \{.*'action_mask': \(5,\)"):
        act(np.zeros(ACTIONS))


def test_an_exported_policy_has_the_mask_as_an_input(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    config = replace(CONFIGS["a2c"], env_id="test_masks:doors", total_frames=256)
    state = train_quickly(config).state
    masks = np.eye(ACTIONS, dtype=bool)
    batch = {"observation": masks * np.float32(1), "action_mask": masks}
    described = export.describe(config, state)
    (tmp_path / "policy.stablehlo").write_bytes(export.to_stablehlo(config, state))
    (tmp_path / "policy.json").write_text(json.dumps(described))
    policy = export.load_policy(tmp_path)
    np.testing.assert_array_equal(policy(batch)[0], np.arange(ACTIONS))
    with pytest.raises(InputError, match=r"obs: .* must be a dict with action_mask, observation"):
        policy({"observation": batch["observation"]})
    session = onnxruntime.InferenceSession(export.to_onnx(config, state))
    names = [one.name for one in session.get_inputs()]
    assert names[:3] == ["obs.action_mask", "obs.observation", "first"]
    carry = [np.zeros((ACTIONS, *one["shape"]), one["dtype"]) for one in described["carry"]]
    inputs = [masks, batch["observation"], np.ones(ACTIONS, bool), *carry]
    np.testing.assert_array_equal(session.run(None, dict(zip(names, inputs, strict=True)))[0], np.arange(ACTIONS))


def test_doctor_finds_states_without_a_legal_action():
    assert not any(check.wrong for check in check_env(doors()))
    *_, last = check_env(doors(never=True))
    assert "no action is legal, first after step 3" in last.wrong


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sticky_actions": 0.25}, r"sticky_actions: 0.25 .* None with an action_mask"),
        ({"action_repeat": 2}, r"action_repeat: 2 .* 1 with an action_mask"),
    ],
)
def test_wrappers_that_repeat_actions_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        envs.make(dataclasses.replace(envs.Config(env_id=doors()), wrappers=envs.Wrappers(**change)), 0.99)


def test_a_mask_must_fit_the_actions():
    env = doors()
    with pytest.raises(InputError, match=r"action_mask: \(5,\) .* of shape \(4,\)"):
        make_train(replace(CONFIGS["a2c"], env_id=env._replace(action_space=spaces.Discrete(4))))
    with pytest.raises(InputError, match=r"action_mask: \(5,\) .* left out: .* not discrete"):
        check_mask((5,), spaces.Continuous(2))

    def floats(key):
        state, obs = env.reset(key)
        return state, obs | {"action_mask": obs["action_mask"] * 1.0}

    with pytest.raises(InputError, match=r"action_mask float32\[5\], which must be bool"):
        make_train(replace(CONFIGS["a2c"], env_id=env._replace(reset=floats)))
