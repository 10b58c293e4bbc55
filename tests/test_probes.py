"""Environments whose answer is known: the whole machine, from reset to update, must find it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import probes  # noqa: F401  (registers the probe environments)
import pytest

from purejaxrl_a3c import a2c, a3c, dqn, evaluate, make_train, nstep_q, pqn
from purejaxrl_a3c.config import replace

GAMMA = 0.9
SHARED: dict[str, Any] = {
    "gamma": GAMMA,
    "rollout_length": 5,
    "hidden_sizes": (16,),
    "learning_rate": 1e-2,
    "total_frames": 60_000,
}
CONFIGS = {
    "a2c": lambda env_id: replace(a2c.Config(), env_id=env_id, num_envs=16, **SHARED),
    "a3c": lambda env_id: replace(a3c.Config(), env_id=env_id, num_workers=4, envs_per_worker=4, **SHARED),
    "nstep_q": lambda env_id: replace(
        nstep_q.Config(),
        env_id=env_id,
        num_workers=4,
        envs_per_worker=4,
        n_step=3,
        target_update_every=16,
        epsilon_final=(0.1, 0.01, 0.5),
        epsilon_frames=20_000,
        **SHARED,
    ),
    "pqn": lambda env_id: replace(
        pqn.Config(),
        env_id=env_id,
        num_envs=16,
        epochs=2,
        num_minibatches=2,
        epsilon_final=0.1,
        epsilon_frames=20_000,
        **SHARED,
    ),
    "dqn": lambda env_id: replace(
        dqn.Config(),
        env_id=env_id,
        num_envs=4,
        n_step=3,
        prioritized=True,
        replay_size=4_000,
        learning_starts=400,
        updates_per_iteration=5,
        target_update_every=1,
        target_update_rate=0.02,
        epsilon_final=0.3,
        **(SHARED | {"learning_rate": 5e-3, "total_frames": 30_000}),
    ),
}


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name not in ("a3c", "dqn"))) for name in CONFIGS]
)
def config_for(request):
    return CONFIGS[request.param]


@pytest.fixture(params=["a3c", pytest.param("a2c", marks=pytest.mark.slow)])
def on_policy_config_for(request):
    """Of algorithms whose workers have 16 environments in all, and that learn from the first rollout on."""
    return CONFIGS[request.param]


def train(config):
    return jax.jit(make_train(config))(jax.random.key(0)).state


def value(config, state, *obs):
    policy = config.build().policy(state)
    return [float(policy((), jnp.array(x), jnp.bool_(False))[1].value) for x in obs]


def test_a_time_limit_is_not_a_death(config_for):
    """Pays 1 a step and is only ever cut off, every 7 steps: V is 1 / (1 - gamma) = 10.

    Taking the limit for a death would give 4.1 on average over its seven states, which look the same.
    """
    config = config_for("Forever-probe")
    assert value(config, train(config), [1.0, 0.0, 0.0]) == pytest.approx([1 / (1 - GAMMA)], rel=0.03)


@pytest.mark.parametrize("env_id", ["Ending-probe", "EndingOnTime-probe"])
def test_a_death_is_worth_nothing(config_for, env_id):
    config = config_for(env_id)
    states = [[1.0, bit, 0.1 * time] for time in range(3) for bit in (0.0, 1.0)]
    expected = np.repeat([1 + GAMMA + GAMMA**2, 1 + GAMMA, 1.0], 2)
    assert value(config, train(config), *states) == pytest.approx(expected, rel=0.05)


def test_the_policy_learns_what_to_do(config_for):
    config = config_for("Copy-probe")
    returns = evaluate(config, train(config), jax.random.key(1), episodes=50, deterministic=True)
    np.testing.assert_array_equal(returns, 10.0)


def test_the_policy_learns_to_live(config_for):
    config = config_for("Gamble-probe")
    returns = evaluate(config, train(config), jax.random.key(1), episodes=50, deterministic=True)
    np.testing.assert_array_equal(returns, 20.0)


def test_the_statistics_count_every_episode_that_ends_and_nothing_else(on_policy_config_for):
    """Every episode of Forever is cut off after 7 steps, for 7 points; of Ending it terminates after 3, for 3."""
    for env_id, length in (("Forever-probe", 7), ("Ending-probe", 3)):
        metrics = jax.jit(make_train(replace(on_policy_config_for(env_id), total_frames=8_000)))(
            jax.random.key(0)
        ).metrics
        ended = metrics.episodes > 0
        np.testing.assert_array_equal(metrics.episode_length[ended], length)
        np.testing.assert_array_equal(metrics.episode_return[ended], length)
        # 16 environments in step: each ends an episode in every `length` of its steps.
        steps = metrics.frames // 16
        np.testing.assert_array_equal(np.cumsum(metrics.episodes), 16 * (steps // length))


def test_the_learning_rate_reaches_0_with_the_last_update_and_not_before(on_policy_config_for):
    config = replace(on_policy_config_for("Forever-probe"), total_frames=8_000)
    algorithm = config.build()

    @jax.jit
    def sizes_of_updates(key):
        def iterate(state, i):
            new, _ = algorithm.step(jax.random.fold_in(key, i), state)
            change = jax.tree.map(jnp.subtract, new.learner.params, state.learner.params)
            return new, optax.tree.norm(change)

        return jax.lax.scan(iterate, algorithm.init(key), jnp.arange(101))[1]

    sizes = np.asarray(sizes_of_updates(jax.random.key(0)))
    assert (sizes[:100] > 0).all()
    assert sizes[100] < 1e-6 * sizes[99]
    assert sizes[95:100].mean() < 0.3 * sizes[45:55].mean()
