"""R2D2: its objective against plain NumPy, and what it learns where the answer is known."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import probes  # noqa: F401  (registers the probe environments)
import pytest

from purejaxrl_a3c import dqn, envs, evaluate, make_train, networks, objectives, r2d2, replay
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.networks import BodyConfig

GAMMA = 0.9
BURN_IN, LENGTH, MANY = 3, 9, 12
RESCALING = objectives.square_root_rescaling(1e-3)
IDENTITY = objectives.Rescaling(lambda x: x, lambda x: x)


def make_network(core="lstm"):
    body = replace(BodyConfig(), hidden_sizes=(8,), core=core, num_cells=4, memory_window=4)
    return networks.make_q(body, envs.make(envs.Config(), GAMMA), dueling=True)


def parameters(network, seed):
    """With larger weights than at the start, so that memory and actions matter."""
    return jax.tree.map(lambda x: 2 * x, network.init(jax.random.key(seed))) | {}


def sequences(network, span=BURN_IN + LENGTH, seed=0):
    """Made-up sequences of episodes of a few steps, which begin in the midst of one."""
    rng, shape = np.random.default_rng(seed), (MANY, span)
    terminated = rng.random(shape) < 0.12
    truncated = (rng.random(shape) < 0.25) & ~terminated
    first = np.concatenate([rng.random((MANY, 1)) < 0.3, (terminated | truncated)[:, :-1]], axis=1)
    obs = rng.normal(size=(*shape, 4)).astype(np.float32)
    following = np.concatenate([obs[:, 1:], rng.normal(size=(MANY, 1, 4))], axis=1)
    last = (terminated | truncated)[..., None]
    carry = jax.tree.map(lambda x: rng.normal(size=(MANY, *x.shape)).astype(np.float32), network.carry())
    fields: dict[str, Any] = {
        "carry": carry,
        "obs": obs,
        "first": first,
        "action": rng.integers(0, 2, shape, np.int32),
        "reward": rng.normal(size=shape).astype(np.float32),
        "terminated": terminated,
        "truncated": truncated,
        "final_obs": np.where(last, rng.normal(size=obs.shape), following).astype(np.float32),
    }
    return replay.Sequences(**jax.tree.map(jnp.asarray, fields))


WEIGHT = jnp.linspace(0.2, 1.0, MANY)


def gradient_of(network, params, target, batch, weight=WEIGHT, **changes):
    options: dict[str, Any] = {"burn_in": BURN_IN, "n": 3, "gamma": GAMMA, "double": True, "max_error_share": 0.9}
    options |= {"rescaling": RESCALING} | changes
    return jax.jit(lambda *args: objectives.r2d2_gradient(network, *args, **options))(params, target, batch, weight)


def q_by_steps(network, params, batch):
    """Q-values of the observations and of the true successors ``[M, S, A]``, one step of one environment at a time."""
    step = jax.jit(network.step)
    here, there = [], []
    for m in range(MANY):
        carry = jax.tree.map(lambda x, m=m: x[m], batch.carry)
        for t in range(batch.first.shape[1]):
            carry, outputs = step(params, carry, batch.obs[m, t], batch.first[m, t])
            _, after = step(params, carry, batch.final_obs[m, t], jnp.bool_(False))
            here.append(outputs.policy.q)
            there.append(after.policy.q)
    shape = (*batch.first.shape, -1)
    return np.stack(here).reshape(shape), np.stack(there).reshape(shape)


def h(x):
    return np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + 1e-3 * x


def h_inverse(y):
    root = (np.sqrt(1 + 4e-3 * (np.abs(y) + 1 + 1e-3)) - 1) / 2e-3
    return np.sign(y) * (root**2 - 1)


def reference_errors(q, next_q, next_target_q, batch, n, double):
    """Q(s, a) minus its target after the burn-in, in plain NumPy."""
    errors = np.zeros((MANY, LENGTH))
    end = BURN_IN + LENGTH
    for m in range(MANY):
        for start in range(BURN_IN, end):
            total, discount, t = 0.0, 1.0, start
            while True:
                total += discount * float(batch.reward[m, t])
                discount *= GAMMA
                if batch.terminated[m, t]:
                    break
                if batch.truncated[m, t] or t + 1 == min(start + n, end):
                    best = np.argmax((next_q if double else next_target_q)[m, t])
                    total += discount * h_inverse(float(next_target_q[m, t, best]))
                    break
                t += 1
            errors[m, start - BURN_IN] = q[m, start, batch.action[m, start]] - h(total)
    return errors


@pytest.mark.parametrize("core", ["lstm", "gru", "lru", "transformer", "feed_forward"])
@pytest.mark.parametrize(("n", "double"), [(1, True), (4, False), (20, True)])
def test_errors_are_those_of_a_loop_over_steps(core, n, double):
    network = make_network(core)
    params, target = parameters(network, 1), parameters(network, 2)
    batch = sequences(network)
    assert (batch.truncated[:, BURN_IN:].sum(1) > 2).any()  # several truncations in one sequence, in turn with
    assert (batch.terminated & (jnp.cumsum(batch.truncated, axis=1) > 0)).any()  # terminations
    (q, next_q), (_, next_target_q) = (q_by_steps(network, x, batch) for x in (params, target))
    errors = reference_errors(q, next_q, next_target_q, jax.tree.map(np.asarray, batch), n, double)
    _, error, scalars = gradient_of(network, params, target, batch, n=n, double=double)
    expected = 0.9 * np.abs(errors).max(1) + 0.1 * np.abs(errors).mean(1)
    np.testing.assert_allclose(error, expected, rtol=1e-3)
    np.testing.assert_allclose(scalars["value_loss"], 0.5 * np.square(errors).mean(), rtol=1e-3)
    assert (np.argmax(next_q, -1) != np.argmax(next_target_q, -1)).any()


def test_the_gradient_is_that_of_the_weighted_squared_errors():
    network = make_network()
    params, target = parameters(network, 1), parameters(network, 2)
    batch = sequences(network)
    gradient, *_ = gradient_of(network, params, target, batch)
    (q, next_q), (_, next_target_q) = (q_by_steps(network, x, batch) for x in (params, target))
    errors = reference_errors(q, next_q, next_target_q, jax.tree.map(np.asarray, batch), 3, True)
    carry, steps = objectives.burned_in(network, params, batch, BURN_IN)
    _, back = jax.vjp(lambda x: objectives.q_of_sequences(network, x, carry, steps.obs, steps.first), params)
    slope = np.asarray(WEIGHT)[:, None] * errors / errors.size
    (expected,) = back(jnp.asarray(slope[..., None] * np.eye(2)[np.asarray(steps.action)], jnp.float32))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5), gradient, expected)


def test_burn_in_changes_the_values_and_sends_no_gradient():
    network = make_network()
    params = parameters(network, 1)
    batch = sequences(network)
    batch = batch._replace(first=jnp.zeros_like(batch.first))

    def total(params, of_burn_in):
        carry, steps = objectives.burned_in(network, of_burn_in, batch, BURN_IN)
        return objectives.q_of_sequences(network, params, carry, steps.obs, steps.first).sum()

    through, by_burn_in = jax.grad(total, (0, 1))(params, params)
    assert all((x == 0).all() for x in jax.tree.leaves(by_burn_in))
    assert any((x != 0).any() for x in jax.tree.leaves(through))
    assert abs(total(params, params) - total(params, parameters(network, 2))) > 1e-3


def test_both_networks_burn_in_with_their_own_parameters():
    """A sequence whose stored memory is wrong, and whose burn-in begins an episode, does not notice."""
    network = make_network()
    params, target = parameters(network, 1), parameters(network, 2)
    batch = sequences(network)
    batch = batch._replace(first=batch.first.at[:, 1].set(True))
    wrong = batch._replace(carry=jax.tree.map(lambda x: x + 1.0, batch.carry))
    results = [gradient_of(network, params, target, x) for x in (batch, wrong)]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), *results)
    without = [gradient_of(network, params, target, x, burn_in=0)[1] for x in (batch, wrong)]
    assert (np.abs(without[0] - without[1]) > 1e-3).any()


@pytest.mark.parametrize("double", [False, True])
def test_without_memory_burn_in_and_rescaling_it_is_dqn(double):
    """The same rows as one sequence an environment, and as single steps that look ahead to the end of the sequence."""
    network = make_network("feed_forward")
    params, target = parameters(network, 1), parameters(network, 2)
    batch = sequences(network)
    span = BURN_IN + LENGTH
    rows = replay.Rows(**{name: jnp.swapaxes(getattr(batch, name), 0, 1) for name in replay.Rows._fields[:7]}, carry=())
    example = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), rows)
    buffer = replay.make(example, replay.Size(span, MANY))
    ring = buffer.add(buffer.init(), rows)
    env, item = (x.ravel().astype(jnp.int32) for x in jnp.meshgrid(jnp.arange(MANY), jnp.arange(span), indexing="ij"))
    view = buffer.view(ring, replay.priorities.Places(item, env))
    transitions = replay.transitions(view, 3, GAMMA)
    weight = jnp.repeat(WEIGHT, span)
    expected = objectives.dqn_gradient(network, params, target, transitions, weight, double=double, error_limit=jnp.inf)
    got = gradient_of(network, params, target, batch, burn_in=0, double=double, max_error_share=0.0, rescaling=IDENTITY)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), got[0], expected[0])
    np.testing.assert_allclose(got[1], expected[1].reshape(MANY, span).mean(1), rtol=1e-4)
    for name, value in expected[2].items():
        np.testing.assert_allclose(got[2][name], value, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("epsilon", [0.0, 1e-3, 0.1])
def test_rescaling_is_exact_there_and_back(epsilon):
    size = np.logspace(-6, 6, 2001)
    x = np.concatenate([-size, [0.0], size]).astype(np.float32)
    rescaling = objectives.square_root_rescaling(epsilon)
    scaled = jax.jit(rescaling.apply)(x)
    wide = x.astype(np.float64)
    expected = np.sign(wide) * (wide / (np.sqrt(np.abs(wide) + 1) + 1) * np.sign(wide)) + epsilon * wide
    np.testing.assert_allclose(scaled, expected, rtol=3e-7)
    np.testing.assert_allclose(jax.jit(rescaling.invert)(scaled), x, rtol=2e-6)
    np.testing.assert_allclose(jax.jit(rescaling.apply)(jax.jit(rescaling.invert)(x)), x, rtol=2e-6)
    if epsilon == 1e-3:
        np.testing.assert_allclose(h(wide)[np.abs(wide) > 1], scaled[np.abs(wide) > 1], rtol=1e-6)


SMALL: dict[str, Any] = {
    "hidden_sizes": (16,),
    "core": "lstm",
    "num_cells": 16,
    "gamma": GAMMA,
    "num_envs": 8,
    "rollout_length": 4,
    "burn_in": 4,
    "sequence_length": 8,
    "learning_starts": 400,
    "replay_size": 4_000,
    "batch_size": 16,
    "updates_per_iteration": 2,
    "learning_rate": 3e-3,
    "target_update_every": 20,
    "epsilon_frames": 2_000,
    "epsilon_final": 0.3,
    "total_frames": 30_000,
}


def test_the_stored_memory_is_the_one_that_acted():
    """Before learning the parameters stand still: replaying the log from the start gives every stored carry."""
    config = replace(r2d2.Config(), env_id="Copy-probe", **SMALL)
    config = replace(config, learning_starts=4_000, total_frames=4_000 + 32, replay_size=800)
    algorithm = config.build()
    start = algorithm.init(jax.random.key(0))

    @jax.jit
    def run(state):
        def iterate(state, i):
            state = algorithm.step(jax.random.fold_in(jax.random.key(1), i), state)[0]
            return state, state.actor_state.carry

        return jax.lax.scan(iterate, state, jnp.arange(30))

    state, carries = run(start)
    ring = state.replay  # 25 rollouts: the first five are overwritten
    params = start.learner.params["q"]
    for stored, after in zip(jax.tree.leaves(ring.rows.carry), jax.tree.leaves(carries), strict=True):
        for number in range(5, 30):  # before a rollout the carry is that after the one before it
            np.testing.assert_array_equal(stored[number % 25], after[number - 1, 0])
    for item in (7, 20):
        rows = jax.tree.map(lambda x, i=item: jnp.swapaxes(x[4 * i : 4 * i + 4], 0, 1), ring.rows._replace(carry=()))
        carry = jax.tree.map(lambda x, i=item: x[i], ring.rows.carry)
        carry, _ = algorithm.network.unroll(params, carry, rows.obs, rows.first)
        following = jax.tree.map(lambda x, i=item: x[i + 1], ring.rows.carry)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), carry, following)


def train(env_id, **changes):
    config = replace(r2d2.Config(), env_id=env_id, **SMALL)
    config = replace(config, **changes)
    return config, jax.jit(make_train(config))(jax.random.key(0)).state


def values(config, state, obs):
    """The largest Q-values, as returns, along an episode."""
    policy, carry = config.build().policy(state), config.build().network.carry()
    found = []
    for t, one in enumerate(obs):
        carry, outputs = policy(carry, jnp.array(one), jnp.bool_(t == 0))
        found.append(float(objectives.square_root_rescaling(config.value_rescaling).invert(outputs.value)))
    return found


@pytest.mark.slow
def test_a_time_limit_is_not_a_death():
    config, state = train("Forever-probe")
    assert values(config, state, [[1.0, 0.0, 0.0]] * 7) == pytest.approx([1 / (1 - GAMMA)] * 7, rel=0.05)


@pytest.mark.slow
def test_a_death_is_worth_nothing():
    config, state = train("Ending-probe")
    obs = [[1.0, 1.0, 0.0], [1.0, 0.0, 0.1], [1.0, 1.0, 0.2]]
    assert values(config, state, obs) == pytest.approx([1 + GAMMA + GAMMA**2, 1 + GAMMA, 1.0], rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("env_id", "best"), [("Copy-probe", 10.0), ("Gamble-probe", 20.0)])
def test_the_policy_learns(env_id, best):
    config, state = train(env_id)
    np.testing.assert_array_equal(evaluate(config, state, jax.random.key(1), 50, True), best)


def test_settings_that_do_not_fit_are_rejected():
    config = replace(r2d2.Config(), env_id="Copy-probe", **SMALL)
    with pytest.raises(InputError, match=r"replay_size: 64 is not accepted; it must be at least 96"):
        make_train(replace(config, replay_size=64))
    with pytest.raises(InputError, match=r"learning_starts: 64 is not accepted; it must be at least 96"):
        make_train(replace(config, learning_starts=64))
    with pytest.raises(InputError, match=r"r2d2 has a memory"):
        make_train(replace(dqn.Config(), core="lstm"))
