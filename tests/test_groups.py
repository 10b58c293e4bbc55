"""PPO with groups of episodes that begin alike, in place of a value function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c import make_train, ppo, rnd
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.loops import acting
from purejaxrl_a3c.loops.exploration import no_exploration
from purejaxrl_a3c.loops.layout import make_layout
from purejaxrl_a3c.objectives import extrinsic, groups, stale
from purejaxrl_a3c.types import Trajectory
from purejaxrl_a3c.updates import Asynchrony, Queue

CONFIG = replace(
    ppo.Config(),
    num_envs=8,
    rollout_length=40,
    epochs=1,
    num_minibatches=1,
    total_frames=8 * 40 * 3,
    hidden_sizes=(8,),
    group_size=4,
    gamma=0.9,
)
KEY = jax.random.key(0)


@pytest.mark.parametrize("baseline", ["leave_one_out", "mean", "standardized"])
def test_an_advantage_is_the_return_less_that_of_the_group(baseline):
    returns = np.random.default_rng(0).normal(size=12).astype(np.float32)
    found = groups.group_advantages(jnp.asarray(returns), 4, baseline)
    for i, value in enumerate(returns):
        group = returns[i // 4 * 4 : i // 4 * 4 + 4]
        others = [x for j, x in enumerate(group) if j != i % 4]
        expected = {
            "leave_one_out": value - np.mean(others),
            "mean": value - group.mean(),
            "standardized": (value - group.mean()) / group.std(),
        }[baseline]
        np.testing.assert_allclose(found[i], expected, rtol=1e-4)


def rollouts(config, key=KEY):
    """The parameters at the start of a run, its algorithm, and rollouts ``[B, T]`` that these act."""
    algorithm = config.build()
    state = algorithm.init(key)
    layout = make_layout(config.rollouts, None, group_size=config.group.group_size)
    parts = acting.Acting(algorithm.env, algorithm.network, no_exploration(), layout)
    params = jax.tree.map(lambda x: x[None], state.learner.params)
    _, steps = acting.collect(key, parts, params, state.actor_state, jnp.zeros(1, jnp.int32), jnp.zeros((1, 8)))
    return state.learner.params, algorithm, jax.tree.map(lambda x: x[0], steps)


def test_a_group_begins_alike_and_every_rollout_begins_anew():
    _, _, one = rollouts(CONFIG)
    _, _, other = rollouts(CONFIG, jax.random.key(1))
    for steps in (one, other):
        assert steps.first[:, 0].all()
        starts = np.asarray(steps.obs[:, 0]).reshape(2, 4, -1)
        assert (starts == starts[:, :1]).all()
        assert (starts[0, 0] != starts[1, 0]).any()
        assert len(np.unique(np.asarray(steps.action), axis=0)) > 6  # but the episodes differ
    assert (one.obs[:, 0] != other.obs[:, 0]).any()


def objective_of(config, algorithm):
    return config.make_objective()(algorithm.network, estimator=extrinsic(algorithm.network, config.objective.gamma))


def moved(params):
    """Other parameters, so that ratios are not 1."""
    leaves, tree = jax.tree.flatten(params)
    return jax.tree.unflatten(tree, [x + 0.3 * jax.random.normal(KEY, x.shape) for x in leaves])


def test_the_loss_is_that_of_a_loop_over_the_first_episodes():
    config = replace(CONFIG, entropy_coefficient=0.0)
    params, algorithm, steps = rollouts(config)
    objective = objective_of(config, algorithm)
    batch = objective.prepare(params, steps)
    other = moved(params)
    loss, terms = objective.loss(other, batch)

    _, outputs = algorithm.network.unroll(other, steps.carry, steps.obs, steps.first)
    ratio = np.exp(np.asarray(outputs.policy.log_prob(steps.action) - steps.log_prob))
    done = np.asarray(steps.terminated | steps.truncated)
    reward = np.asarray(steps.reward)
    lengths = [int(done[i].argmax()) + 1 if done[i].any() else done.shape[1] for i in range(8)]
    returns = [sum(0.9**t * reward[i, t] for t in range(lengths[i])) for i in range(8)]
    total = 0.0
    for i in range(8):
        mates = [returns[j] for j in range(8) if j // 4 == i // 4 and j != i]
        advantage = returns[i] - np.mean(mates)
        for t in range(lengths[i]):
            total -= min(ratio[i, t] * advantage, np.clip(ratio[i, t], 0.8, 1.2) * advantage)
    assert ((ratio < 0.8) | (ratio > 1.2)).mean() > 0.1
    np.testing.assert_allclose(loss, total / sum(lengths), rtol=1e-4)
    np.testing.assert_allclose(terms["policy_loss"], loss, rtol=1e-6)
    assert min(lengths) < 30  # so that something follows the end of an episode


OF_SEVERAL_STEPS = ("none", "masked_rollouts", "rollout_ratio", "second_moment")
OTHERS = sorted(set(stale.CORRECTIONS) - {"vtrace", *OF_SEVERAL_STEPS})


@pytest.mark.parametrize("name", [*OF_SEVERAL_STEPS, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_what_follows_the_end_of_an_episode_changes_nothing(name):
    config = replace(CONFIG, loss_correction=name, second_moment_limit=1e-3)  # which leaves some steps out
    params, algorithm, steps = rollouts(config)
    objective = objective_of(config, algorithm)
    counts = jax.vmap(groups.in_first_episode)(steps)

    def gradient(steps: Trajectory):
        return jax.grad(objective.loss, has_aux=True)(moved(params), objective.prepare(params, steps))

    obs = jnp.where(counts[..., None], steps.obs, steps.obs + 1)
    _, outputs = algorithm.network.unroll(moved(params), steps.carry, obs, steps.first)
    changed = steps._replace(
        obs=obs,
        reward=jnp.where(counts, steps.reward, 7.0),
        # As if the policy had not moved there.
        log_prob=jnp.where(counts, steps.log_prob, outputs.policy.log_prob(steps.action)),
    )
    (one, reports), (two, others) = gradient(steps), gradient(changed)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), one, two)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), reports, others)
    assert any(np.abs(x).max() > 1e-4 for x in jax.tree.leaves(one))
    heads = jax.tree.leaves({key: x for key, x in one.items() if "value" in key or "critic" in key})
    assert all((x == 0).all() for x in heads)  # no value function is learned


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_size": 1}, "group_size: 1 is not accepted; it must be 0 or at least 2"),
        ({"group_size": 3}, "group_size"),
        ({"num_workers": 4}, "group_size"),
        ({"clip_values": True}, "clip_values"),
        ({"loss_correction": "vtrace"}, "loss_correction"),
        ({"normalize_observations": True}, "normalize_observations"),
        ({"stagger_resets": 5}, "stagger_resets: 5"),
        ({"asynchrony": Asynchrony("queue", queue=Queue(parts_per_rollout=2))}, "parts_per_rollout"),
    ],
)
def test_settings_that_do_not_go_with_groups_are_errors(changes, message):
    with pytest.raises(InputError, match=message):
        make_train(replace(CONFIG, **changes))


def test_groups_do_not_go_with_a_bonus():
    with pytest.raises(InputError, match="group_size"):
        make_train(rnd.Config(agent=CONFIG))


@pytest.mark.slow
def test_it_learns_cartpole_without_a_value_function():
    config = replace(
        CONFIG,
        num_envs=32,
        rollout_length=500,
        epochs=2,
        num_minibatches=8,
        total_frames=32 * 500 * 25,
        hidden_sizes=(32,),
        learning_rate=3e-3,
        gamma=1.0,
        group_size=8,
        anneal_learning_rate=False,
    )
    returns = jax.jit(make_train(config))(KEY).metrics.episode_return
    assert returns[-5:].mean() > 400
