import functools

import jax
import jax.numpy as jnp
import numpy as np
import probes  # noqa: F401  (registers the probe environments)
import pytest
from test_networks import _equations

from purejaxrl_a3c import envs, networks, objectives
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.loops import rollout
from purejaxrl_a3c.networks.cores import CORES

B, T, F, CELLS = 3, 7, 2, 4
# Episodes that start at the block's start, inside it, twice in a row, and at its last step.
FIRST = np.zeros((B, T), bool)
FIRST[0, [0, 3, 6]] = FIRST[1, [2, 3]] = True


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_step(p, carry, x):
    c, h = carry
    i, f, g, o = (x @ p["i" + k]["kernel"] + h @ p["h" + k]["kernel"] + p["h" + k]["bias"] for k in "ifgo")
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return (c, sigmoid(o) * np.tanh(c)), sigmoid(o) * np.tanh(c)


def gru_step(p, h, x):
    r, z = (sigmoid(x @ p["i" + k]["kernel"] + p["i" + k]["bias"] + h @ p["h" + k]["kernel"]) for k in "rz")
    n = np.tanh(x @ p["in"]["kernel"] + p["in"]["bias"] + r * (h @ p["hn"]["kernel"] + p["hn"]["bias"]))
    h = (1 - z) * n + z * h
    return h, h


TEXTBOOK = {"lstm": lstm_step, "gru": gru_step}


def textbook(name, params, carry, features, first):
    """One environment at a time, one step at a time, in float64."""
    p = jax.tree.map(lambda x: np.asarray(x, float), params["params"])
    carries, outputs = [], []
    for b in range(len(features)):
        memory = jax.tree.map(lambda x, b=b: np.asarray(x[b], float), carry)
        row = []
        for t in range(features.shape[1]):
            if first[b, t]:
                memory = jax.tree.map(np.zeros_like, memory)
            memory, output = TEXTBOOK[name](p, memory, np.asarray(features[b, t], float))
            row.append(output)
        carries.append(memory)
        outputs.append(row)
    return jax.tree.map(lambda *x: np.stack(x), *carries), np.array(outputs)


@functools.cache
def example(name):
    """A core, parameters and a carry of which no number is 0, and features."""
    core = CORES[name](CELLS)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(B, T, F)).astype(np.float32)
    types = jax.eval_shape(core.init, jax.random.key(0), features[0, 0])
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), types)
    carry = jax.tree.map(lambda x: rng.normal(size=(B, *x.shape)).astype(np.float32), core.carry())
    return core, params, carry, features


@pytest.mark.parametrize("name", TEXTBOOK)
def test_a_recurrent_core_equals_a_loop_over_time(name):
    core, params, carry, features = example(name)
    end, output = jax.jit(core.unroll)(params, carry, features, FIRST)
    expected_end, expected = textbook(name, params, carry, features, FIRST)
    assert output.shape == (B, T, CELLS)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), end, expected_end)


@pytest.mark.parametrize("name", TEXTBOOK)
@pytest.mark.parametrize("shift", [-1, 1])
def test_the_loop_would_notice_a_reset_that_comes_a_step_early_or_late(name, shift):
    """A mask of resets that is off by one step gives other numbers, so the test above would fail."""
    _, params, carry, features = example(name)
    _, expected = textbook(name, params, carry, features, FIRST)
    _, wrong = textbook(name, params, carry, features, np.roll(FIRST, shift, axis=1))
    assert np.abs(wrong - expected).max() > 0.01


@pytest.mark.parametrize("name", TEXTBOOK)
def test_the_memory_is_cleared_before_the_first_observation_is_seen(name):
    core, params, carry, features = example(name)
    one = jax.tree.map(lambda x: x[0], carry)
    step = jax.jit(core.step)
    cleared, fresh = (step(params, memory, features[0, 0], True) for memory in (one, core.carry()))
    jax.tree.map(np.testing.assert_array_equal, cleared, fresh)
    # The reset does not clear the memory of the first observation.
    other, _ = step(params, core.carry(), features[0, 1], True)
    after_one, after_other = (step(params, memory, features[0, 2], False)[1] for memory in (cleared[0], other))
    assert np.abs(after_one - after_other).max() > 0.01
    # Inside an episode nothing is cleared.
    assert np.abs(step(params, one, features[0, 0], False)[1] - fresh[1]).max() > 0.01


@pytest.mark.parametrize("name", CORES)
def test_an_unroll_equals_one_step_after_another(name):
    core, params, carry, features = example(name)
    step = jax.jit(jax.vmap(core.step, (None, 0, 0, 0)))
    end, together = jax.jit(core.unroll)(params, carry, features, FIRST)
    for t in range(T):
        carry, output = step(params, carry, features[:, t], FIRST[:, t])
        np.testing.assert_allclose(output, together[:, t], rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), carry, end)


@pytest.mark.parametrize("name", TEXTBOOK)
def test_an_unroll_goes_on_from_the_carry_it_is_given(name):
    core, params, carry, features = example(name)
    unroll = jax.jit(core.unroll)
    _, whole = unroll(params, carry, features, FIRST)
    half, one = unroll(params, carry, features[:, :3], FIRST[:, :3])
    _, two = unroll(params, half, features[:, 3:], FIRST[:, 3:])
    np.testing.assert_allclose(jnp.concatenate([one, two], axis=1), whole, rtol=1e-5, atol=1e-6)
    _, forgetful = unroll(params, jax.tree.map(jnp.zeros_like, half), features[:, 3:], FIRST[:, 3:])
    goes_on = ~FIRST[:, 3]
    assert (np.abs(forgetful - two)[goes_on, 0].max(-1) > 0.01).all()
    np.testing.assert_array_equal(forgetful[~goes_on], two[~goes_on])


def test_the_carry_of_an_episodes_start_is_zero_and_of_feed_forward_nothing():
    assert jax.tree.leaves(CORES["feed_forward"](CELLS).carry()) == []
    assert [x.shape for x in jax.tree.leaves(CORES["lstm"](CELLS).carry())] == [(CELLS,), (CELLS,)]
    assert [x.shape for x in jax.tree.leaves(CORES["gru"](CELLS).carry())] == [(CELLS,)]
    for name in TEXTBOOK:
        assert all((x == 0).all() for x in jax.tree.leaves(CORES[name](CELLS).carry()))


@functools.cache
def initial(name):
    """Parameters of five networks, initialised at once, and the program that does so."""
    keys = jax.random.split(jax.random.key(0), 5)
    init = jax.vmap(lambda key: CORES[name](CELLS).init(key, jnp.zeros(F)))
    return jax.jit(init)(keys)["params"], jax.make_jaxpr(init)(keys)


@pytest.mark.parametrize(("name", "open_gates"), [("lstm", ["hf"]), ("gru", [])])
def test_only_the_forget_gate_of_an_lstm_starts_open(name, open_gates):
    biases = {gate: p["bias"] for gate, p in initial(name)[0].items() if "bias" in p}
    assert len(biases) == 4
    for gate, values in biases.items():
        np.testing.assert_array_equal(values, np.full((5, CELLS), float(gate in open_gates)))


@pytest.mark.parametrize("name", TEXTBOOK)
def test_recurrent_weights_start_orthogonal_without_a_batched_qr(name):
    params, program = initial(name)
    shapes = [
        equation.invars[0].aval.shape
        for equation in _equations(program.jaxpr)
        if equation.primitive.name in ("qr", "geqrf", "householder_product")
    ]
    assert shapes
    assert all(len(shape) == 2 or shape[0] == 1 for shape in shapes)
    for gate, p in params.items():
        if gate.startswith("h"):
            product = p["kernel"].mT @ p["kernel"]
            np.testing.assert_allclose(product, np.broadcast_to(np.eye(CELLS), product.shape), atol=1e-5)


BLOCK = 13  # steps of a rollout; the episodes of Copy-probe are truncated after 10


@pytest.fixture(scope="module", params=[("lstm", False), ("gru", True)])
def blocks(request):
    """Two rollouts, one after the other, by a network whose outputs depend strongly on its memory."""
    core, shared_torso = request.param
    config = replace(networks.Config(), hidden_sizes=(), num_cells=4, core=core, shared_torso=shared_torso)
    env = envs.make(envs.Config(env_id="Copy-probe"), gamma=0.99)
    network = networks.make(config, env)
    params = jax.tree.map(lambda x: 3.0 * x, jax.jit(network.init)(jax.random.key(0)))
    params["policy_head"] = jax.tree.map(lambda x: 50.0 * x, params["policy_head"])

    @jax.jit
    def act(actor_state, key):
        return rollout.unroll(env, network, params, actor_state, *rollout.draw(network, key, jnp.arange(BLOCK)))

    actor_state = jax.jit(lambda key: rollout.start(env, network, key))(jax.random.key(1))
    actor_state, one = act(actor_state, jax.random.key(2))
    _, two = act(actor_state, jax.random.key(3))
    return network, params, jax.tree.map(lambda *x: jnp.stack(x), one, two)


def test_learning_sees_the_probabilities_that_acting_saw(blocks):
    """The second rollout starts in the middle of an episode, from the carry stored with it."""
    network, params, rows = blocks
    assert rows.first[1].any()
    assert not rows.first[1, 0]
    unroll = jax.jit(network.unroll)
    _, outputs = unroll(params, rows.carry, rows.obs, rows.first)
    np.testing.assert_allclose(outputs.policy.log_prob(rows.action), rows.log_prob, rtol=1e-4, atol=1e-5)
    _, forgetful = unroll(params, jax.tree.map(jnp.zeros_like, rows.carry), rows.obs, rows.first)
    assert np.abs(forgetful.policy.log_prob(rows.action) - rows.log_prob)[1].max() > 1e-3


def test_the_memory_that_is_handed_on_is_that_of_learning(blocks):
    network, params, rows = blocks
    end, _ = jax.jit(network.unroll)(params, rows.carry, rows.obs, rows.first)
    last = jax.tree.map(lambda x: x[:, -1], rows.next_carry)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), end, last)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0, -1], b[1]), rows.next_carry, rows.carry)


def test_a_final_observation_is_valued_with_the_memory_of_the_episode_that_it_ends(blocks):
    network, params, rows = blocks
    cut = np.argwhere(np.asarray(rows.truncated))
    assert len(cut) == 2
    for block, t in cut:
        row = jax.tree.map(lambda x, b=block: x[b], rows)
        # Continue the old episode: its final observation follows as if the episode had not ended.
        assert t + 1 < BLOCK
        obs = row.obs.at[t + 1].set(row.final_obs[t])
        first = row.first.at[t + 1].set(False)
        carry, together = jax.tree.map(lambda x: x[None], (row.carry, (obs, first)))
        _, outputs = jax.jit(network.unroll)(params, carry, *together)
        value = jax.jit(lambda row: objectives.bootstrap_values(network, params, row))(row)
        np.testing.assert_allclose(value[t], outputs.value[0, t + 1], rtol=1e-4, atol=1e-5)
        _, forgetful = network.step(params, network.carry(), row.final_obs[t], jnp.bool_(True))
        assert abs(forgetful.value - value[t]) > 1e-3
