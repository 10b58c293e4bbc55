from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import probes  # noqa: F401  (registers the probe environments)
import pytest
import reference

from purejaxrl_a3c import envs, networks, objectives
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.loops import rollout
from purejaxrl_a3c.objectives.reports import explained_variance
from purejaxrl_a3c.types import Trajectory

T, B = 9, 4
GAMMA, LAMBDA, ENTROPY, VALUE = 0.9, 0.8, 0.02, 0.5
SETTINGS = objectives.Config(gamma=GAMMA, gae_lambda=LAMBDA, entropy_coefficient=ENTROPY, value_coefficient=VALUE)


@pytest.fixture(scope="module")
def network():
    return networks.make(replace(networks.Config(), hidden_sizes=(8,)), envs.make(envs.Config(), GAMMA))


@pytest.fixture(scope="module")
def params(network):
    # Larger than at initialisation, where all logits are nearly equal.
    return jax.tree.map(lambda x: 3.0 * x + 0.1, network.init(jax.random.key(0)))


def policy_gradient(network, config=SETTINGS):
    return objectives.policy_gradient(network, config, objectives.extrinsic(network, GAMMA))


def off_policy_gradient(network, off_policy, config=SETTINGS, clip_rho=1.0, clip_c=1.0):
    estimator = objectives.extrinsic(network, GAMMA)
    clips = {"clip_rho": clip_rho, "clip_c": clip_c}
    return objectives.off_policy_gradient(network, config, estimator, off_policy=off_policy, **clips)


def reinforce(network, baseline, longest, config):
    estimator = objectives.extrinsic(network, GAMMA)
    return objectives.reinforce(network, config, estimator, baseline=baseline, longest_episode=longest)


def every_objective(network, normalize_advantages=True):
    """Every objective by name, with what its loss takes besides."""
    estimator = objectives.extrinsic(network, GAMMA)
    found: dict[str, Any] = {"policy_gradient": (policy_gradient(network), ())}
    for name in get_args(objectives.OffPolicy):
        found[f"off_policy_{name}"] = off_policy_gradient(network, name), ()
    for name in get_args(objectives.Baseline):
        found[f"reinforce_{name}"] = reinforce(network, name, 5, SETTINGS), ()
    for name, make, more in (("clip", objectives.ppo_clip, ()), ("kl", objectives.ppo_kl, (jnp.float32(0.5),))):
        settings = objectives.Settings(objectives.Clip(0.2, 0.2), True, normalize_advantages)
        found[f"ppo_{name}"] = make(network, SETTINGS, estimator, settings=settings), more
    return found


OBJECTIVES = (
    "policy_gradient",
    *(f"off_policy_{name}" for name in get_args(objectives.OffPolicy)),
    *(f"reinforce_{name}" for name in get_args(objectives.Baseline)),
    "ppo_clip",
    "ppo_kl",
)


def trajectories(ends):
    """Blocks ``[B, T]`` whose rows hang together: obs is the last final_obs, unless an episode ended."""
    rng = np.random.default_rng(0)
    kind = np.array(ends)
    first = np.concatenate([np.ones((B, 1), bool), kind[:, :-1] > 0], axis=1)
    obs, final_obs = rng.normal(size=(2, B, T, 4)).astype(np.float32)
    obs[:, 1:] = np.where(first[:, 1:, None], obs[:, 1:], final_obs[:, :-1])
    zeros = jnp.zeros((B, T), jnp.float32)
    return Trajectory(
        obs=jnp.asarray(obs),
        first=jnp.asarray(first),
        action=jnp.asarray(rng.integers(2, size=(B, T)), jnp.int32),
        log_prob=zeros,
        reward=jnp.asarray(rng.normal(size=(B, T)), jnp.float32),
        terminated=jnp.asarray(kind == 1),
        truncated=jnp.asarray(kind == 2),
        final_obs=jnp.asarray(final_obs),
        carry=(),
        next_carry=(),
        episode_return=zeros,
        episode_length=zeros,
    )


ENDS = {
    "none": np.zeros((B, T), int),
    # 1 terminated, 2 truncated: several in one block, at its start, at its end, and twice in a row.
    "many": [[0, 2, 0, 0, 1, 0, 2, 0, 0], [2, 2, 0, 0, 0, 0, 0, 0, 2], [0, 0, 1, 0, 0, 0, 0, 0, 1], [0] * T],
    "always": np.full((B, T), 2),
}


@pytest.mark.parametrize("ends", ENDS)
def test_successors_are_valued_at_the_true_final_observation(network, params, ends):
    rows = trajectories(ENDS[ends])
    _, bootstrap = policy_gradient(network).prepare(params, rows)
    _, outputs = network.unroll(params, (), rows.obs, rows.first)
    last = rows.terminated | rows.truncated
    next_value = jax.vmap(objectives.successor_values)(outputs.value, bootstrap, last)
    _, truth = network.unroll(params, (), rows.final_obs, rows.first)
    valid = ~np.asarray(rows.terminated)
    np.testing.assert_allclose(next_value[valid], truth.value[valid], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("ends", "evaluations"), [("none", 1), ("many", 3), ("always", T)])
def test_a_block_without_truncations_evaluates_one_successor_an_environment(network, params, ends, evaluations):
    calls = []

    def step(*arguments):
        jax.debug.callback(lambda: calls.append(1))  # once for all environments of the batch
        return network.step(*arguments)

    def bootstrap(row):
        return objectives.bootstrap_values(network._replace(step=step), params, row)

    jax.block_until_ready(jax.vmap(bootstrap)(trajectories(ENDS[ends])))
    jax.effects_barrier()
    assert len(calls) == evaluations


@pytest.mark.parametrize("ends", ENDS)
def test_the_gradient_is_that_of_the_textbook_loss(network, params, ends):
    """With targets from plain loops over values that were computed apart, and held constant."""
    rows = trajectories(ENDS[ends])
    objective = policy_gradient(network)
    value = network.unroll(params, (), rows.obs, rows.first)[1].value
    next_value = network.unroll(params, (), rows.final_obs, rows.first)[1].value
    advantage = np.stack(
        [
            reference.gae(
                value=np.asarray(value[b], float),
                next_value=np.asarray(next_value[b], float),
                reward=np.asarray(rows.reward[b], float),
                discount=GAMMA * (1.0 - np.asarray(rows.terminated[b])),
                last=np.asarray(rows.terminated[b] | rows.truncated[b], float),
                gae_lambda=LAMBDA,
            )
            for b in range(B)
        ]
    ).astype(np.float32)
    target = advantage + value

    def textbook(params):
        def one(obs, first, action, advantage, target):
            _, outputs = network.step(params, (), obs, first)
            log_probs = jax.nn.log_softmax(outputs.policy.logits)
            entropy = -jnp.sum(jnp.exp(log_probs) * log_probs)
            return -log_probs[action] * advantage + VALUE * (outputs.value - target) ** 2 - ENTROPY * entropy

        return jax.vmap(jax.vmap(one))(rows.obs, rows.first, rows.action, advantage, target).sum() / (B * T)

    (loss, terms), gradient = jax.value_and_grad(objective.loss, has_aux=True)(params, objective.prepare(params, rows))
    expected_loss, expected = jax.jit(jax.value_and_grad(textbook))(params)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), gradient, expected)
    np.testing.assert_allclose(terms["value_mean"], value.mean(), rtol=1e-5)
    np.testing.assert_allclose(terms["explained_variance"], 1 - advantage.var() / target.var(), rtol=1e-4)
    recombined = terms["policy_loss"] + VALUE * terms["value_loss"] - ENTROPY * terms["entropy"]
    np.testing.assert_allclose(recombined, loss, rtol=1e-5)


@pytest.mark.parametrize("off_policy", get_args(objectives.OffPolicy))
def test_stale_trajectories_are_corrected_as_in_the_textbook(network, params, off_policy):
    """The trajectories' probabilities are those of other parameters; both clips bind."""
    rows = trajectories(ENDS["many"])
    older = params | {"policy_head": jax.tree.map(lambda x: -20.0 * x, params["policy_head"])}
    log_prob_of = jax.vmap(jax.vmap(lambda policy, action: policy.log_prob(action)))
    log_prob = log_prob_of(network.unroll(older, (), rows.obs, rows.first)[1].policy, rows.action)
    outputs = network.unroll(params, (), rows.obs, rows.first)[1]
    log_rho = np.asarray(log_prob_of(outputs.policy, rows.action) - log_prob, float)
    assert log_rho.min() < np.log(0.9) < np.log(1.2) < log_rho.max()
    rows = rows._replace(log_prob=log_prob)

    next_value = network.unroll(params, (), rows.final_obs, rows.first)[1].value
    target, advantage = np.zeros((2, B, T), np.float32)
    for b in range(B):
        block = {
            "value": np.asarray(outputs.value[b], float),
            "next_value": np.asarray(next_value[b], float),
            "reward": np.asarray(rows.reward[b], float),
            "discount": GAMMA * (1.0 - np.asarray(rows.terminated[b])),
            "last": np.asarray(rows.terminated[b] | rows.truncated[b], float),
        }
        clips = {"gae_lambda": LAMBDA, "clip_rho": 1.2, "clip_c": 0.9}
        advantage[b] = reference.gae(**block, gae_lambda=LAMBDA)
        target[b] = advantage[b] + outputs.value[b]
        if off_policy == "one_step":
            advantage[b] *= np.minimum(1.2, np.exp(log_rho[b]))
        if off_policy == "vtrace":
            target[b] = reference.vtrace_value(**block, log_rho=log_rho[b], **clips)
            for t in range(T):
                q = next_value[b, t]
                if t + 1 < T and not block["last"][t]:
                    q = q + LAMBDA * (target[b, t + 1] - outputs.value[b, t + 1])
                error = rows.reward[b, t] + block["discount"][t] * q - outputs.value[b, t]
                advantage[b, t] = min(1.2, np.exp(log_rho[b, t])) * error

    def textbook(params):
        outputs = network.unroll(params, (), rows.obs, rows.first)[1]
        prob = jnp.exp(log_prob_of(outputs.policy, rows.action))
        log_prob = jnp.log(prob + (1e-6 if off_policy == "epsilon" else 0.0))
        return -(log_prob * advantage).mean() + 0.5 * ((outputs.value - target) ** 2).mean()

    objective = off_policy_gradient(
        network, off_policy, replace(SETTINGS, entropy_coefficient=0.0), clip_rho=1.2, clip_c=0.9
    )
    found = jax.jit(jax.grad(lambda params, batch: objective.loss(params, batch)[0]))(
        params, objective.prepare(params, rows)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found, jax.jit(jax.grad(textbook))(params)
    )


def test_epsilon_bounds_the_gradient_of_an_improbable_action(network):
    """log(p + 1e-6) instead of log p: at p = 1e-6 half of the gradient is left, at p = 1e-9 a thousandth."""
    rows = jax.tree.map(lambda x: x[:1, :1], trajectories(ENDS["none"]))
    params = network.init(jax.random.key(0))

    def gradient(off_policy, p):
        # The logits' bias alone says how probable an action is.
        head = params["policy_head"]["params"]["logits"]
        bias = jnp.zeros(2).at[1 - rows.action[0, 0]].set(-jnp.log(p))
        moved = params | {"policy_head": {"params": {"logits": {"kernel": 0.0 * head["kernel"], "bias": bias}}}}
        config = objectives.Config(entropy_coefficient=0.0, value_coefficient=0.0)
        objective = off_policy_gradient(network, off_policy, config)
        batch = objective.prepare(moved, rows)
        found = jax.grad(objective.loss, has_aux=True)(moved, batch)[0]
        return found["policy_head"]["params"]["logits"]["bias"][0]

    assert gradient("epsilon", 1e-6) / gradient("none", 1e-6) == pytest.approx(0.5, rel=1e-2)
    assert gradient("epsilon", 1e-9) / gradient("none", 1e-9) == pytest.approx(1e-3, rel=2e-2)


@pytest.mark.parametrize("baseline", get_args(objectives.Baseline))
def test_reinforce_learns_from_the_returns_of_whole_episodes(network, params, baseline):
    rows = trajectories(ENDS["many"])
    rows = rows._replace(first=rows.first.at[0, 0].set(False))  # this one is in the middle of an episode
    longest = 7
    value = network.unroll(params, (), rows.obs, rows.first)[1].value
    final_value = network.unroll(params, (), rows.final_obs, rows.first)[1].value
    counts, target = np.zeros((2, B, T), np.float32)
    for b in range(B):
        reward = np.array(rows.reward[b], float)
        if baseline == "value":  # a truncated episode's return goes on, by a value
            reward += GAMMA * np.where(rows.truncated[b], final_value[b], 0.0)
        last = np.asarray(rows.terminated[b] | rows.truncated[b])
        for start, found in reference.monte_carlo(reward, rows.first[b], last, GAMMA, longest).items():
            counts[b, start : start + len(found)] = 1
            target[b, start : start + len(found)] = found
    # The second episode of the first environment, all of the second's, and so on; the last one's does not end.
    np.testing.assert_array_equal(counts.sum(1), [3, 1 + 1 + 7, 3, 0])
    advantage = target - (value if baseline == "value" else 0.0)

    objective = reinforce(network, baseline, longest, replace(SETTINGS, gae_lambda=1.0))

    def textbook(params):
        outputs = network.unroll(params, (), rows.obs, rows.first)[1]
        log_prob = jax.vmap(jax.vmap(lambda policy, action: policy.log_prob(action)))(outputs.policy, rows.action)
        error = (outputs.value - target) ** 2 if baseline == "value" else jnp.zeros((B, T))
        entropy = jax.vmap(jax.vmap(lambda policy: policy.entropy()))(outputs.policy)
        return (counts * (-log_prob * advantage + VALUE * error) - ENTROPY * entropy).mean()

    found, terms = jax.jit(jax.grad(objective.loss, has_aux=True))(params, objective.prepare(params, rows))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found, jax.jit(jax.grad(textbook))(params)
    )
    learned = counts > 0
    explained = 1 - advantage[learned].var() / target[learned].var() if baseline == "value" else 0.0
    np.testing.assert_allclose(terms["explained_variance"], explained, rtol=1e-4)


def test_episodes_count_whatever_their_length():
    """Of episodes of 1 .. 6 steps, equally many of each: blocks that count all whole ones would miss the long ones."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 7, size=30_000)
    last = np.zeros(lengths.sum(), bool)
    last[np.cumsum(lengths) - 1] = True
    first = np.roll(last, 1)
    blocks = last.size // 8
    row = jax.tree.map(lambda x: x[0], trajectories(ENDS["none"]))

    def shares(longest):
        def count(first, last):
            ended = row._replace(first=first, terminated=last, truncated=jnp.zeros(8, bool))
            return objectives.in_a_whole_episode(ended, longest)

        blocks_of = [jnp.asarray(x[: 8 * blocks].reshape(blocks, 8)) for x in (first, last)]
        counts = np.asarray(jax.vmap(count)(*blocks_of)).ravel()
        counted = np.repeat(lengths, lengths)[: 8 * blocks][counts & first[: 8 * blocks]]
        return np.bincount(counted, minlength=7)[1:] / counted.size

    np.testing.assert_allclose(shares(6), 1 / 6, atol=0.01)
    assert np.ptp(shares(1)) > 0.05


def test_without_traces_a2c_is_the_one_step_actor_critic(network, params):
    """Sutton & Barto 2018, section 13.5: the advantage is the error of the next value."""
    rows = trajectories(ENDS["many"])
    value = network.unroll(params, (), rows.obs, rows.first)[1].value
    next_value = network.unroll(params, (), rows.final_obs, rows.first)[1].value
    error = rows.reward + GAMMA * (1 - rows.terminated) * next_value - value

    def textbook(params):
        outputs = network.unroll(params, (), rows.obs, rows.first)[1]
        log_prob = jax.vmap(jax.vmap(lambda policy, action: policy.log_prob(action)))(outputs.policy, rows.action)
        return (-log_prob * error + VALUE * (outputs.value - value - error) ** 2).mean()

    objective = policy_gradient(network, replace(SETTINGS, gae_lambda=0.0, entropy_coefficient=0.0))
    found = jax.grad(objective.loss, has_aux=True)(params, objective.prepare(params, rows))[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found, jax.grad(textbook)(params))


def test_the_gradient_of_the_batch_is_the_mean_of_the_workers_gradients(network, params):
    rows = trajectories(ENDS["many"])
    objective = policy_gradient(network)

    def gradient(rows):
        return jax.grad(objective.loss, has_aux=True)(params, objective.prepare(params, rows))[0]

    workers = [gradient(jax.tree.map(lambda x, b=b: x[b : b + 2], rows)) for b in (0, 2)]
    mean = jax.tree.map(lambda *x: sum(x) / len(x), *workers)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), gradient(rows), mean)


def test_a_recurrent_network_values_the_end_of_an_episode_with_the_memory_of_that_episode():
    """Against a plain loop over a block with truncations inside, which follows the memory step by step."""
    env = envs.make(envs.Config(env_id="Copy-probe"), GAMMA)
    network = networks.make(replace(networks.Config(), core="lstm", num_cells=5, hidden_sizes=(8,)), env)
    params = jax.tree.map(lambda x: 3.0 * x, network.init(jax.random.key(0)))
    actor_state = rollout.start(env, network, jax.random.key(1))
    steps = 24
    draws = [rollout.draw(network, jax.random.key(seed), jnp.arange(steps)) for seed in (2, 3)]
    actor_state, _ = rollout.unroll(env, network, params, actor_state, *draws[0])
    _, rows = rollout.unroll(env, network, params, actor_state, *draws[1])
    assert rows.truncated.sum() >= 2
    assert not rows.truncated[-1]
    assert not rows.first[0]

    expected = np.zeros(steps)
    carry = actor_state.carry
    for t in range(steps):
        carry, _ = network.step(params, carry, rows.obs[t], rows.first[t])
        if rows.truncated[t] or t == steps - 1:
            expected[t] = network.step(params, carry, rows.final_obs[t], jnp.bool_(False))[1].value
    np.testing.assert_allclose(objectives.bootstrap_values(network, params, rows), expected, rtol=1e-4, atol=1e-5)
    # The memory matters: without it the values are others.
    blind = [network.step(params, network.carry(), obs, jnp.bool_(False))[1].value for obs in rows.final_obs]
    assert np.abs(np.array(blind) - expected)[expected != 0].min() > 1e-3

    # And learning starts from the memory with which the block began.
    _, outputs = network.unroll(params, *jax.tree.map(lambda x: x[None], (rows.carry, rows.obs, rows.first)))
    log_prob = jax.vmap(jax.vmap(lambda policy, action: policy.log_prob(action)))(outputs.policy, rows.action[None])
    np.testing.assert_allclose(log_prob[0], rows.log_prob, rtol=1e-4, atol=1e-5)


def test_explained_variance_is_that_of_the_steps_that_count():
    rng = np.random.default_rng(0)
    arrays: Any = rng.normal(size=(2, 5, 7)).astype(np.float32)
    value, target = arrays
    weight: Any = rng.integers(2, size=(5, 7)).astype(np.float32)
    counted = weight > 0
    found = explained_variance(value, target, weight)
    assert found == pytest.approx(1 - (target - value)[counted].var() / target[counted].var(), rel=1e-5)
    # With several values their variances are added up.
    both: Any = [np.stack([x, 3 * x**2], -1) for x in (value, target)]
    ones: Any = np.ones((5, 7), np.float32)
    expected = 1 - (both[1] - both[0]).var((0, 1)).sum() / both[1].var((0, 1)).sum()
    assert explained_variance(both[0], both[1], ones) == pytest.approx(expected, rel=1e-5)
    assert explained_variance(target + 3, target, weight) == pytest.approx(1, abs=1e-5)


def test_explained_variance_of_nothing_is_0():
    value = jnp.arange(12.0)
    ones = jnp.ones(12)
    for constant in (0.0, 0.1, -1000.1):
        assert explained_variance(value, jnp.full(12, constant), ones) == 0
    assert explained_variance(value, 2 * value, 0 * ones) == 0
    assert explained_variance(value, 1e30 * value, ones) == 0  # the variance overflows
    assert explained_variance(value[:1], 2 * value[:1] + 1, ones[:1]) == 0


def test_explained_variance_has_no_gradient():
    value = jnp.arange(12.0)
    gradient = jax.grad(lambda value: explained_variance(value, jnp.sin(value), jnp.ones(12)))(value)
    np.testing.assert_array_equal(gradient, jnp.zeros(12))


@pytest.fixture
def x64():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_everything_stays_float32_where_jax_has_float64(network, params, x64, name):
    rows = trajectories(ENDS["many"])
    objective, more = every_objective(network)[name]

    def run(params, rows):
        batch = objective.prepare(params, rows)
        return batch, jax.value_and_grad(objective.loss, has_aux=True)(params, batch, *more)

    found = jax.eval_shape(run, params, rows)
    dtypes = {jax.tree_util.keystr(path): x.dtype for path, x in jax.tree_util.tree_leaves_with_path(found)}
    assert not {path: dtype for path, dtype in dtypes.items() if dtype.itemsize > 4}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_objective_makes_a_nan_on_its_way(network, params, name):
    """Operation by operation, so that a NaN that a mask hides is found too."""
    rows = trajectories(ENDS["many"])
    # One action that the policy now prefers by more than a float32 can say, and one that it would never choose again.
    rows = rows._replace(log_prob=rows.log_prob.at[0, 0].set(-100.0).at[0, 1].set(100.0))
    objective, more = every_objective(network)[name]
    with jax.debug_nans(True):
        batch = objective.prepare(params, rows)
        (loss, _), gradient = jax.value_and_grad(objective.loss, has_aux=True)(params, batch, *more)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((loss, gradient)))


@pytest.mark.parametrize("name", ["ppo_clip", "ppo_kl"])
def test_equal_advantages_are_normalized_to_0(network, params, name):
    rows = trajectories(ENDS["none"])
    with jax.debug_nans(True):
        normalized, more = every_objective(network)[name]
        batch = normalized.prepare(params, rows)
        for items in (
            jax.tree.map(lambda x: x[:1], batch),
            batch._replace(targets=batch.targets._replace(advantage=0 * batch.value + 3.0)),
        ):
            (_, terms), gradient = jax.value_and_grad(normalized.loss, has_aux=True)(params, items, *more)
            assert terms["policy_loss"] == 0
            assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(gradient))
