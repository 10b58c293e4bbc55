"""One policy for all agents of a cooperative environment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c import a2c, evaluate, make_train, networks, replace
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.types import Env, TimeStep

ACTIONS = 3


def choices(agents):
    """Each agent is told what to choose, and all are paid the share of them that did so; five steps an episode."""

    def see(key, time):
        wanted = jax.random.randint(key, (agents,), 0, ACTIONS)
        allowed = jnp.ones((agents, ACTIONS), bool)
        obs = {"told": jax.nn.one_hot(wanted, ACTIONS), "time": jnp.float32(time)[None]}
        return (wanted, time), obs | {"action_mask": allowed.reshape(-1)}

    def reset(key):
        return see(key, 0)

    def step(key, state, action):
        reward = (action == state[0]).mean()
        state, obs = see(key, state[1] + 1)
        return state, TimeStep(obs, reward, jnp.bool_(False), state[1] == 5, obs)

    shape = {"told": (agents, ACTIONS), "time": (1,), "action_mask": (agents * ACTIONS,)}
    return Env(reset, step, shape, spaces.MultiDiscrete((ACTIONS,) * agents))


def make(agents, **changes):
    config = replace(networks.Config(), hidden_sizes=(8,), share_agents=True, num_cells=4, **changes)
    env = choices(agents)
    one = env._replace(
        observation_shape={"told": (ACTIONS,), "time": (1,), "action_mask": (ACTIONS,)},
        action_space=spaces.Discrete(ACTIONS),
    )
    return networks.make(config, env), networks.make(replace(config, share_agents=False), one)


def draw(agents, shape):
    """Observations ``shape`` of `choices`, half of whose actions are illegal."""
    keys = jax.random.split(jax.random.key(3), 3)
    allowed = jax.random.bernoulli(keys[2], 0.5, (*shape, agents, ACTIONS)).at[..., 0].set(True)
    return {
        "told": jax.random.normal(keys[0], (*shape, agents, ACTIONS)),
        "time": jax.random.normal(keys[1], (*shape, 1)),
        "action_mask": allowed.reshape(*shape, agents * ACTIONS),
    }


def view(obs, agent):
    """What an agent sees."""
    own = slice(agent * ACTIONS, (agent + 1) * ACTIONS)
    return {**obs, "told": obs["told"][..., agent, :], "action_mask": obs["action_mask"][..., own]}


@pytest.mark.parametrize("core", ["feed_forward", "lstm"])
@pytest.mark.parametrize("shared_torso", [False, True])
def test_every_agent_acts_as_it_would_alone_with_the_same_parameters(core, shared_torso):
    agents, envs, steps = 2, 3, 4
    network, one = make(agents, core=core, shared_torso=shared_torso)
    params = network.init(jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, one.init(jax.random.key(0)))
    obs, first = draw(agents, (envs, steps)), jax.random.bernoulli(jax.random.key(4), 0.3, (envs, steps))

    def start(network):
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (envs, *x.shape)), network.carry())

    carry, outputs = jax.jit(network.unroll)(params, start(network), obs, first)
    alone = [jax.jit(one.unroll)(params, start(one), view(obs, agent), first) for agent in range(agents)]
    logits = jnp.concatenate([found.policy.logits for _, found in alone], axis=-1)
    np.testing.assert_allclose(outputs.policy.logits, logits, rtol=1e-5, atol=1e-6)
    value = np.mean([found.value for _, found in alone], axis=0)
    np.testing.assert_allclose(outputs.value, value, rtol=1e-4, atol=1e-6)
    for agent in range(agents):
        own = jax.tree.map(lambda x, agent=agent: x[:, agent], carry)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), own, alone[agent][0])

    # Acting, step by step, is what unrolling is.
    memory, step = start(network), jax.jit(jax.vmap(network.step, (None, 0, 0, 0)))
    for i in range(steps):
        now = jax.tree.map(lambda x, i=i: x[:, i], obs)
        memory, found = step(params, memory, now, first[:, i])
        np.testing.assert_allclose(found.policy.logits, outputs.policy.logits[:, i], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.value, outputs.value[:, i], rtol=1e-4, atol=1e-5)


def test_illegal_actions_of_an_agent_are_never_taken():
    network, _ = make(2)
    obs = draw(2, (500, 1))
    _, outputs = network.unroll(network.init(jax.random.key(0)), (), obs, jnp.zeros((500, 1), bool))
    noise = network.noise(jax.random.key(1), jnp.arange(500)[:, None])
    action = outputs.policy.sample(noise)
    legal = obs["action_mask"].reshape(500, 1, 2, ACTIONS)
    assert jnp.take_along_axis(legal, action[..., None], axis=-1).all()
    assert len(np.unique(np.asarray(action)[:, 0], axis=0)) > 3


def test_agents_learn_to_do_what_each_is_told():
    config = replace(
        a2c.Config(), env_id=choices(4), hidden_sizes=(16,), share_agents=True, total_frames=30_000, learning_rate=1e-2
    )
    result = jax.jit(make_train(config))(jax.random.key(0))
    found = evaluate(config, result, jax.random.key(1), 16, deterministic=True)
    np.testing.assert_allclose(found, 5.0, rtol=1e-5)  # everybody in every step; by chance it is 1.7


@pytest.mark.parametrize(
    ("shape", "space", "said"),
    [
        ((3, 2), spaces.Discrete(3), "not equal choices"),
        ((2, 2), spaces.MultiDiscrete((3, 2)), "not equal choices"),
        ((2, 2), spaces.Continuous(2), "not equal choices"),
        ((3, 2), spaces.MultiDiscrete((3, 3)), "no array of the observation has a row for each of 2 agents"),
    ],
)
def test_environments_without_equal_agents_are_rejected(shape, space, said):
    env = choices(2)._replace(observation_shape=shape, action_space=space)
    with pytest.raises(InputError, match=rf"share_agents: .*{said}"):
        networks.make(replace(networks.Config(), share_agents=True), env)
