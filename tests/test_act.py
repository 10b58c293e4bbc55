"""The trained agent as a function of an environment library's own observations."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c import InputError, Result, a2c, envs, evaluate, make_act, make_train, replace
from purejaxrl_a3c.envs.normalize import get_statistics

SMALL = replace(a2c.Config(), num_envs=4, hidden_sizes=(8,), total_frames=4 * 5 * 10)
KEY = jax.random.key(0)


def trained(**settings):
    """A config, and a state with statistics of observations and a policy that does something else everywhere."""
    config = replace(SMALL, **settings)
    state = jax.jit(make_train(config))(KEY).state
    leaves, tree = jax.tree.flatten(state.learner.params)
    keys = jax.random.split(KEY, len(leaves))
    leaves = [jax.random.normal(key, x.shape) for key, x in zip(keys, leaves, strict=True)]
    return config, state._replace(learner=state.learner._replace(params=jax.tree.unflatten(tree, leaves)))


def test_its_actions_are_in_the_bounds_of_the_environment_library():
    config, state = trained(env_id="Pendulum-v1", normalize_observations=True, squash_actions=True)
    act = make_act(config, state)
    env, params = gymnax.make("Pendulum-v1")

    def play(key):
        obs, env_state = env.reset_env(key, params)

        def tick(loop, time):
            env_state, obs, total = loop
            action, _ = act(obs)
            obs, env_state, reward, _, _ = env.step_env(key, env_state, action, params)
            return (env_state, obs, total + reward), action

        (_, _, total), actions = jax.lax.scan(tick, (env_state, obs, 0.0), jnp.arange(200))
        return total, actions

    returns, actions = jax.jit(jax.vmap(play))(jax.random.split(KEY, 64))
    assert 1 < np.abs(actions).max() <= 2  # gymnax's own bounds, not those that policies learn in
    expected = evaluate(config, state, jax.random.key(1), episodes=64, deterministic=True)
    error = np.hypot(returns.std(), expected.std()) / 8
    assert abs(returns.mean() - expected.mean()) < 4 * error


@pytest.mark.parametrize(
    "settings",
    [
        {"env_id": "CartPole-v1", "normalize_observations": True, "scale_rewards": True, "observe": (0, 2)},
        {"env_id": "CartPole-v1", "frame_stack": 3, "normalize_observations": True},
        {"env_id": "FrozenLake-misc", "core": "lstm", "num_cells": 4},
        {"env_id": "Catch-bsuite", "flatten": True, "frame_stack": 2, "core": "gru", "num_cells": 4},
    ],
)
def test_it_acts_as_the_policy_does_inside_of_its_wrappers(settings):
    config, state = trained(**settings)
    algorithm = config.build()
    inside, policy, act = algorithm.eval_env(state), jax.jit(algorithm.policy(state)), make_act(config, state)
    # The same episodes outside: those of the bare environment, with the same keys.
    bare = envs.make_episodic(settings["env_id"])
    step_inside, step_bare, reset_bare = jax.jit(inside.step), jax.jit(bare.step), jax.jit(bare.reset)
    native = settings["env_id"] == "FrozenLake-misc"
    key_reset, key_run = jax.random.split(KEY)
    (env_state, shown), first, memory = inside.reset(key_reset), True, algorithm.network.carry()
    bare_state, obs = reset_bare(jax.random.split(key_reset)[0])
    carry, seen = None, set()
    for time in range(40):
        keys = jax.random.split(jax.random.fold_in(key_run, time))
        memory, outputs = policy(memory, shown, jnp.bool_(first))
        action, carry = act(int(obs.argmax()) if native else obs, carry, first)
        assert action == outputs.policy.mode(), time
        env_state, timestep = step_inside(keys, env_state, action)
        shown, first = timestep.obs, bool(timestep.terminated | timestep.truncated)
        bare_state, outside = step_bare(keys[0], bare_state, action)
        obs = outside.obs
        if first:
            bare_state, obs = reset_bare(keys[1])
        seen.add(int(action))
    assert len(seen) > 1


def test_a_batch_is_as_many_single_ones_and_a_key_samples():
    config, state = trained(env_id="CartPole-v1", normalize_observations=True, frame_stack=2)
    act = make_act(config, Result(state, metrics=()))  # type: ignore[arg-type]
    batch = jax.random.normal(KEY, (2, 3, 4))
    actions, carry = act(batch)
    again, _ = act(batch[::-1], carry, first=[[True, False, False]] * 2)
    assert actions.shape == again.shape == (2, 3)
    for i in np.ndindex(2, 3):
        one, memory = act(batch[i])
        assert one == actions[i]
        assert act(batch[::-1][i], memory, first=i[1] == 0)[0] == again[i]
    unsure = state._replace(learner=state.learner._replace(params=jax.tree.map(jnp.zeros_like, state.learner.params)))
    act = make_act(config, unsure)
    assert {int(act(batch[0, 0], key=key)[0]) for key in jax.random.split(KEY, 20)} == {0, 1}
    assert len(np.unique(act(jnp.zeros((40, 4)), key=KEY)[0])) == 2
    with pytest.raises(InputError, match=r"^obs: \(5,\) is not accepted; it must be of shape \(4,\)"):
        act(jnp.zeros(5))


def test_a_state_of_other_settings_is_refused():
    config, state = trained(env_id="CartPole-v1", normalize_observations=True)
    with pytest.raises(InputError, match="normalize_observations"):
        make_act(replace(config, normalize_observations=False), state)
    assert get_statistics(state.actor_state.env) is not None
