import jax
import jax.numpy as jnp
import numpy as np
import probes  # noqa: F401  (registers the probe environments)
import pytest

from purejaxrl_a3c import a2c, envs, networks
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.loops import rollout

T = 40
CONFIG = replace(a2c.Config(), env_id="Gamble-probe", hidden_sizes=(8,))


@pytest.fixture(scope="module")
def block():
    env = envs.make(CONFIG.env, 0.99)
    network = networks.make(CONFIG.network, env)
    # Larger than at initialisation: the probabilities are to differ from one half, and from step to step.
    params = jax.tree.map(lambda x: 20.0 * x, network.init(jax.random.key(0)))
    position = rollout.start(env, network, jax.random.key(1))
    end, rows = rollout.unroll(env, network, params, position, *rollout.draw(network, jax.random.key(2), jnp.arange(T)))
    return network, params, position, end, rows


def test_the_rows_hang_together(block):
    _, _, position, end, rows = block
    last = np.asarray(rows.terminated | rows.truncated)
    assert last.sum() > 3
    np.testing.assert_array_equal(rows.obs[0], position.obs)
    np.testing.assert_array_equal(rows.first, np.append(True, last[:-1]))
    np.testing.assert_array_equal(rows.obs[1:][~last[:-1]], rows.final_obs[:-1][~last[:-1]])
    np.testing.assert_array_equal(end.first, last[-1])
    np.testing.assert_array_equal(rows.terminated, (rows.action == 0))
    # The clock in the observation starts anew with every episode.
    np.testing.assert_allclose(rows.obs[:, 2] == 0, rows.first)


def test_log_probabilities_are_those_of_the_actions_under_the_acting_policy(block):
    network, params, _, _, rows = block
    outputs = jax.vmap(lambda obs, first: network.step(params, network.carry(), obs, first)[1])(rows.obs, rows.first)
    log_probs = jax.nn.log_softmax(outputs.policy.logits)
    np.testing.assert_allclose(rows.log_prob, log_probs[jnp.arange(T), rows.action], rtol=1e-5)
    assert np.std(rows.log_prob) > 0.01


def test_a_rollout_goes_on_where_the_last_one_ended(block):
    network, params, _, end, rows = block
    _, more = rollout.unroll(
        envs.make(CONFIG.env, 0.99), network, params, end, *rollout.draw(network, jax.random.key(3), jnp.arange(2))
    )
    np.testing.assert_array_equal(more.obs[0], end.obs)
    assert more.first[0] == (rows.terminated | rows.truncated)[-1]
    expected = 1 if more.first[0] else rows.episode_length[-1] + 1
    assert more.episode_length[0] == expected


def test_acting_does_not_evaluate_the_value_function():
    """A value that reports when it is computed: `jax.pure_callback` runs only where its result is needed."""
    env = envs.make(CONFIG.env, 0.99)
    network = networks.make(CONFIG.network, env)
    params, position = network.init(jax.random.key(0)), rollout.start(env, network, jax.random.key(1))
    computed = []

    def report(value):
        computed.append(1)
        return value

    def step(*arguments):
        carry, outputs = network.step(*arguments)
        return carry, outputs._replace(value=jax.pure_callback(report, outputs.value, outputs.value))

    @jax.jit
    def act(key):
        return rollout.unroll(
            env, network._replace(step=step), params, position, *rollout.draw(network, key, jnp.arange(T))
        )

    jax.block_until_ready(act(jax.random.key(2)))
    assert not computed
    jax.block_until_ready(jax.jit(lambda: step(params, network.carry(), position.obs, True)[1].value)())
    assert computed
