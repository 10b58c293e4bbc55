import functools

import jax
import jax.numpy as jnp
import numpy as np
import probes  # noqa: F401  (registers the probe environments)
import pytest
from test_networks import _equations

from purejaxrl_a3c import InputError, envs, networks, objectives
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.loops import rollout
from purejaxrl_a3c.networks.make import CORES

B, T, F, CELLS = 3, 7, 2, 4
HEADS, LAYERS, WINDOW = 2, 2, 3  # of the transformer, which remembers less than a block
BODY = replace(
    networks.BodyConfig(),
    num_cells=CELLS,
    memory_window=WINDOW,
    num_transformer_layers=LAYERS,
    num_attention_heads=HEADS,
)
# Episodes that start at the block's start, inside it, twice in a row, and at its last step.
FIRST = np.zeros((B, T), bool)
FIRST[0, [0, 3, 6]] = FIRST[1, [2, 3]] = True


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_step(p, carry, x):
    p, (c, h) = p["params"], carry
    i, f, g, o = (x @ p["i" + k]["kernel"] + h @ p["h" + k]["kernel"] + p["h" + k]["bias"] for k in "ifgo")
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return (c, sigmoid(o) * np.tanh(c)), sigmoid(o) * np.tanh(c)


def gru_step(p, h, x):
    p = p["params"]
    r, z = (sigmoid(x @ p["i" + k]["kernel"] + p["i" + k]["bias"] + h @ p["h" + k]["kernel"]) for k in "rz")
    n = np.tanh(x @ p["in"]["kernel"] + p["in"]["bias"] + r * (h @ p["hn"]["kernel"] + p["hn"]["bias"]))
    h = (1 - z) * n + z * h
    return h, h


def dense(p, x):
    p = p.get("params", p)
    return x @ p["kernel"] + p.get("bias", 0.0)


def min_gru_step(p, h, x):
    z = sigmoid(dense(p["gate"], x))
    h = (1 - z) * h + z * dense(p["candidate"], x)
    return h, h


def lru_step(p, memory, x):
    eigenvalue = np.exp(-np.exp(p["nu"]) + 1j * np.exp(p["theta"]))
    b, c = (p[name]["params"]["kernel"] for name in "bc")
    h = eigenvalue * (memory[0] + 1j * memory[1]) + np.exp(p["log_gamma"]) * (x @ (b[:, :CELLS] + 1j * b[:, CELLS:]))
    return np.stack([h.real, h.imag]), np.tanh((h @ (c[:CELLS] - 1j * c[CELLS:])).real + dense(p["d"], x))


def norm(p, x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def gate(p, x, y):
    r, z = (sigmoid(dense(p[f"y_{name}"], y) + dense(p[f"x_{name}"], x)) for name in ("reset", "update"))
    return (1 - z) * x + z * np.tanh(dense(p["y_candidate"], y) + dense(p["x_candidate"], r * x))


def attend(p, seen, distances):
    """What the last of the steps ``seen`` finds in all of them."""
    found = []
    query = dense(p["query"], seen[-1]).reshape(HEADS, -1)
    for h in range(HEADS):
        logits = [q @ query[h] / np.sqrt(CELLS / HEADS) for q in seen @ p["key"][:, h]]
        weights = np.exp(np.array(logits) + [p["distance"][h, distance] for distance in distances])
        found.append(weights / weights.sum() @ (seen @ p["value"][:, h]))
    return dense(p["out"], np.concatenate(found))


def transformer_step(p, memory, x):
    p, inputs = p["params"], []
    known = [m for m in range(WINDOW) if memory.valid[m]]
    x = dense(p["embed"], x)
    for i in range(LAYERS):
        layer = p[f"layer_{i}"]
        inputs.append(np.concatenate([memory.inputs[i][1:], x[None]]))
        seen = np.stack([*(memory.inputs[i][m] for m in known), x])
        distances = [*(WINDOW - m for m in known), 0]
        found = attend(layer["attention"], norm(layer["attention_norm"], seen), distances)
        x = gate(layer["attention_gate"], x, np.maximum(found, 0))
        hidden = np.maximum(dense(layer["hidden"], norm(layer["mlp_norm"], x)), 0)
        x = gate(layer["mlp_gate"], x, np.maximum(dense(layer["out"], hidden), 0))
    valid = np.append(memory.valid[1:], 1.0)
    return memory._replace(inputs=np.stack(inputs) * valid[:, None], valid=valid), x


TEXTBOOK = {
    "lstm": lstm_step,
    "gru": gru_step,
    "min_gru": min_gru_step,
    "lru": lru_step,
    "transformer": transformer_step,
}


def textbook(name, params, carry, features, first):
    """One environment at a time, one step at a time, in float64."""
    p = jax.tree.map(lambda x: np.asarray(x, float), params)
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


def core_of(name):
    return CORES[name](BODY)


@functools.cache
def example(name):
    """A core, parameters and a carry of which no number is 0, and features."""
    core = core_of(name)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(B, T, F)).astype(np.float32)
    types = jax.eval_shape(core.init, jax.random.key(0), features[0, 0])
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), types)
    carry = jax.tree.map(lambda x: rng.normal(size=(B, *x.shape)).astype(np.float32), core.carry())
    if name == "transformer":  # Of some steps nothing is known.
        carry = carry._replace(valid=np.array([[0, 1, 1], [1, 1, 1], [0, 0, 1]], np.float32))
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
        np.testing.assert_allclose(output, together[:, t], rtol=1e-5, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), carry, end)


@pytest.mark.parametrize("name", TEXTBOOK)
def test_an_unroll_goes_on_from_the_carry_it_is_given(name):
    core, params, carry, features = example(name)
    unroll = jax.jit(core.unroll)
    _, whole = unroll(params, carry, features, FIRST)
    half, one = unroll(params, carry, features[:, :3], FIRST[:, :3])
    _, two = unroll(params, half, features[:, 3:], FIRST[:, 3:])
    np.testing.assert_allclose(jnp.concatenate([one, two], axis=1), whole, rtol=1e-5, atol=5e-6)
    _, forgetful = unroll(params, jax.tree.map(jnp.zeros_like, half), features[:, 3:], FIRST[:, 3:])
    goes_on = ~FIRST[:, 3]
    assert (np.abs(forgetful - two)[goes_on, 0].max(-1) > 0.01).all()
    np.testing.assert_array_equal(forgetful[~goes_on], two[~goes_on])


def test_the_carry_of_an_episodes_start_is_zero_and_of_feed_forward_nothing():
    shapes = {name: [x.shape for x in jax.tree.leaves(core_of(name).carry())] for name in CORES}
    assert shapes == {
        "feed_forward": [],
        "lstm": [(CELLS,), (CELLS,)],
        "gru": [(CELLS,)],
        "min_gru": [(CELLS,)],
        "lru": [(2, CELLS)],
        "transformer": [(LAYERS, WINDOW, CELLS), (WINDOW,)],
    }
    for name in TEXTBOOK:
        assert all((x == 0).all() and x.dtype == jnp.float32 for x in jax.tree.leaves(core_of(name).carry()))


def by_steps(core, params, carry, features, first):
    """What an unroll returns, one step after another."""

    def step(carry, row):
        return jax.vmap(core.step, (None, 0, 0, 0))(params, carry, *row)

    carry, output = jax.lax.scan(step, carry, (jnp.swapaxes(features, 0, 1), jnp.swapaxes(first, 0, 1)))
    return carry, jnp.swapaxes(output, 0, 1)


@pytest.mark.parametrize("name", TEXTBOOK)
def test_the_gradient_of_an_unroll_is_that_of_one_step_after_another(name):
    core, *arguments = example(name)
    weights = np.random.default_rng(1).normal(size=(B, T, CELLS)).astype(np.float32)

    def total(unroll, params, carry, features):
        end, output = unroll(params, carry, features, jnp.asarray(FIRST))
        return (weights * output).sum() + sum(jnp.sin(x).sum() for x in jax.tree.leaves(end))

    together, expected = (
        jax.jit(jax.grad(functools.partial(total, unroll), (0, 1, 2)))(*arguments)
        for unroll in (core.unroll, functools.partial(by_steps, core))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), together, expected)
    # All of these numbers matter, but for which steps are valid, which is no number.
    assert all((x != 0).any() for x in jax.tree.leaves(together) if x.shape != (B, WINDOW))


@pytest.mark.parametrize("name", TEXTBOOK)
def test_no_gradient_flows_from_one_episode_into_the_one_before(name):
    core, params, carry, features = example(name)
    start = 4
    first = np.arange(T)[None] == np.full((B, 1), start)

    def later(carry, features):
        end, output = core.unroll(params, carry, features, jnp.asarray(first))
        return output[:, start:].sum() + sum(x.sum() for x in jax.tree.leaves(end))

    of_carry, of_features = jax.jit(jax.grad(later, (0, 1)))(carry, features)
    assert all((x == 0).all() for x in jax.tree.leaves(of_carry))
    assert (of_features[:, :start] == 0).all()
    assert (of_features[:, start:] != 0).any(axis=-1).all()


@pytest.mark.parametrize("name", TEXTBOOK)
def test_a_memory_that_has_gone_wrong_ends_with_its_episode(name):
    """Zero times NaN is NaN, so a memory of NaN must be left out and not multiplied by 0."""
    core, params, carry, features = example(name)
    wrong = jax.tree.map(lambda x: np.full_like(x, np.nan), carry)
    first = np.arange(T)[None] == np.zeros((B, 1))
    end, output = jax.jit(core.unroll)(params, wrong, features, first)
    expected_end, expected = jax.jit(core.unroll)(params, carry, features, first)
    jax.tree.map(np.testing.assert_array_equal, (end, output), (expected_end, expected))
    one = jax.tree.map(lambda x: x[0], wrong)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(core.step(params, one, features[0, 0], jnp.bool_(True))))


def transformer_alone(layers):
    """A transformer with this many layers, random parameters, and features of a longer block."""
    core = CORES["transformer"](replace(BODY, num_transformer_layers=layers))
    rng = np.random.default_rng(2)
    types = jax.eval_shape(core.init, jax.random.key(0), jnp.zeros(F))
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), types)
    return core, params, rng.normal(size=(1, 12, F)).astype(np.float32)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_transformer_sees_as_far_back_as_its_window_in_each_layer(layers):
    core, params, features = transformer_alone(layers)
    carry, first = jax.tree.map(lambda x: x[None], core.carry()), jnp.zeros((1, 12), bool)
    last = jax.jit(jax.grad(lambda x: core.unroll(params, carry, x, first)[1][0, -1].sum()))(features)
    reached = (last[0] != 0).any(axis=-1)
    np.testing.assert_array_equal(reached, np.arange(12) >= 11 - layers * WINDOW)


@pytest.mark.parametrize("first", [False, True])
def test_a_transformer_without_any_memory_attends_to_the_present_step(first):
    """At the start of an episode, and where a carry of zeros comes without a reset."""
    core, params, features = transformer_alone(1)

    def output(params, features):
        return core.step(params, core.carry(), features, jnp.bool_(first))[1]

    x = features[0, 0]
    expected = transformer_step_of_one_layer(params, x)
    np.testing.assert_allclose(jax.jit(output)(params, x), expected, rtol=1e-4, atol=1e-5)
    gradient = jax.jit(jax.grad(lambda *told: output(*told).sum(), (0, 1)))(params, x)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


def transformer_step_of_one_layer(params, x):
    p = jax.tree.map(lambda x: np.asarray(x, float), params)["params"]
    layer, x = p["layer_0"], dense(p["embed"], x)
    value = np.einsum("c,chd->hd", norm(layer["attention_norm"], x), layer["attention"]["value"]).ravel()
    x = gate(layer["attention_gate"], x, np.maximum(dense(layer["attention"]["out"], value), 0))
    hidden = np.maximum(dense(layer["hidden"], norm(layer["mlp_norm"], x)), 0)
    return gate(layer["mlp_gate"], x, np.maximum(dense(layer["out"], hidden), 0))


def test_a_transformer_starts_near_the_identity_and_with_closed_gates_is_it():
    core, _, features = transformer_alone(2)
    params = jax.jit(core.init)(jax.random.key(0), features[0, 0])
    carry, first = jax.tree.map(lambda x: x[None], core.carry()), jnp.zeros((1, 12), bool)
    unroll = jax.jit(core.unroll)
    embedded = dense(jax.tree.map(np.asarray, params["params"]["embed"]), features)

    def far(params):
        return np.abs(unroll(params, carry, features, first)[1] - embedded).mean() / np.abs(embedded).mean()

    def with_gates(bias):
        """Parameters in which only the gates' biases of the update are different."""

        def change(path, x):
            return jnp.full_like(x, bias) if path[-2:] == UPDATE_BIAS else x

        return jax.tree_util.tree_map_with_path(change, params)

    assert 0.01 < far(params) < 0.6
    assert far(with_gates(-100.0)) < 1e-6
    assert far(with_gates(2.0)) > 1.5 * far(params)


UPDATE_BIAS = (jax.tree_util.DictKey("y_update"), jax.tree_util.DictKey("bias"))


def test_heads_that_do_not_divide_the_width_are_refused():
    env = envs.make(envs.Config(), gamma=0.99)
    wrong = replace(networks.Config(), core="transformer", num_cells=10, num_attention_heads=4)
    with pytest.raises(InputError, match="num_attention_heads: 4 is not accepted; it must be a divisor of 10, num_ce"):
        networks.make(wrong, env)
    networks.make(replace(wrong, core="lstm"), env)


def test_linear_cores_start_with_memories_of_many_lengths():
    gate_bias = initial("min_gru")[0]["gate"]["params"]["bias"]
    steps = 1 / sigmoid(np.asarray(gate_bias[0], float))
    np.testing.assert_allclose(steps, 1 + np.geomspace(1, 99, CELLS), rtol=1e-5)
    p = initial("lru")[0]
    radius = np.exp(-np.exp(p["nu"]))
    assert ((radius > 0.9) & (radius < 0.999)).all()
    np.testing.assert_allclose(np.exp(p["log_gamma"]), np.sqrt(1 - radius**2), rtol=1e-3)


def test_a_linear_recurrent_unit_cannot_explode_whatever_is_learned():
    core, params, _, features = example("lru")
    params = params | {"nu": np.full_like(params["nu"], -20.0)}  # eigenvalues as close to the circle as can be
    carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (B, *x.shape)), core.carry())
    end, output = jax.jit(core.unroll)(params, carry, np.tile(features, (1, 30, 1)), np.zeros((B, 30 * T), bool))
    assert np.abs(end).max() < 30 * T * 20
    assert (np.abs(output) <= 1).all()


@functools.cache
def initial(name):
    """Parameters of five networks, initialised at once, and the program that does so."""
    keys = jax.random.split(jax.random.key(0), 5)
    init = jax.vmap(lambda key: core_of(name).init(key, jnp.zeros(F)))
    return jax.jit(init)(keys), jax.make_jaxpr(init)(keys)


@pytest.mark.parametrize(("name", "open_gates"), [("lstm", ["hf"]), ("gru", [])])
def test_only_the_forget_gate_of_an_lstm_starts_open(name, open_gates):
    biases = {gate: p["bias"] for gate, p in initial(name)[0]["params"].items() if "bias" in p}
    assert len(biases) == 4
    for gate, values in biases.items():
        np.testing.assert_array_equal(values, np.full((5, CELLS), float(gate in open_gates)))


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_recurrent_weights_start_orthogonal_without_a_batched_qr(name):
    params, program = initial(name)
    shapes = [
        equation.invars[0].aval.shape
        for equation in _equations(program.jaxpr)
        if equation.primitive.name in ("qr", "geqrf", "householder_product")
    ]
    assert shapes
    assert all(len(shape) == 2 or shape[0] == 1 for shape in shapes)
    for gate, p in params["params"].items():
        if gate.startswith("h"):
            product = p["kernel"].mT @ p["kernel"]
            np.testing.assert_allclose(product, np.broadcast_to(np.eye(CELLS), product.shape), atol=1e-5)


BLOCK = 13  # steps of a rollout; the episodes of Copy-probe are truncated after 10


@pytest.fixture(
    scope="module",
    params=[
        ("lstm", False, 3.0),
        ("gru", True, 3.0),
        pytest.param(("min_gru", True, 3.0), marks=pytest.mark.slow),
        pytest.param(("lru", False, 3.0), marks=pytest.mark.slow),
        ("transformer", True, 1.5),  # with larger weights every step would attend to itself alone
    ],
)
def blocks(request):
    """Two rollouts, one after the other, by a network whose outputs depend strongly on its memory."""
    core, shared_torso, size = request.param
    config = replace(networks.Config(), hidden_sizes=(), body=replace(BODY, core=core), shared_torso=shared_torso)
    env = envs.make(envs.Config(env_id="Copy-probe"), gamma=0.99)
    network = networks.make(config, env)
    params = jax.tree.map(lambda x: size * x, jax.jit(network.init)(jax.random.key(0)))
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
