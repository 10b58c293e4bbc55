"""Q-learning without replay: targets, exploration, the target network, and how PQN and n-step Q coincide."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import probes  # noqa: F401  (registers the probe environments)
import pytest
import reference

from purejaxrl_a3c import envs, loops, make_train, networks, nstep_q, objectives, pqn, updates
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.loops import WorkerEpsilonConfig, epsilon_greedy_workers, rollout
from purejaxrl_a3c.loops.on_policy import Parts, algorithm
from purejaxrl_a3c.loops.origin import origin
from purejaxrl_a3c.networks.distributions import EpsilonGreedy
from purejaxrl_a3c.objectives import returns
from purejaxrl_a3c.types import Env, TimeStep
from purejaxrl_a3c.updates import Asynchrony, RMSProp, Service

pytestmark = pytest.mark.usefixtures("optimized")

KEY = jax.random.key(0)
T, B, GAMMA = 12, 4, 0.9
BOOTSTRAPS = {"q": objectives.greedy, "double": objectives.double, "sarsa": objectives.sarsa}
LEVEL = np.array([0.8, 0.6, 0.4, 0.2], np.float32)
"""Epsilon of each environment."""


class Case:
    """A network of Q-values, parameters of two ages, and rollouts ``[B, T]`` with ends of both kinds inside."""

    def __init__(self, core="feed_forward"):
        # Action 0 terminates, and a time limit truncates.
        config = envs.Config(env_id="Gamble-probe", wrappers=envs.Wrappers(time_limit=2))
        env = envs.make(config, GAMMA)
        body = networks.BodyConfig(hidden_sizes=(8,), core=core, num_cells=4)
        network = networks.make_q(body, env, dueling=True)
        self.network = network._replace(unroll=jax.jit(network.unroll), step=jax.jit(network.step))
        self.exploration = epsilon_greedy_workers(WorkerEpsilonConfig(), 1)
        self.params, self.old = (self.spread(seed) for seed in (12, 5))

        def act(actor_state, noise, keys, level):
            def behave(policy):
                return self.exploration.behave(policy, level)

            return rollout.unroll(env, self.network, self.params, actor_state, noise, keys, behave)

        start = jax.vmap(lambda key: rollout.start(env, self.network, key))(jax.random.split(KEY, B))
        noise, keys = rollout.draw(self.network, jax.random.key(1), jnp.arange(B * T).reshape(B, T))
        first, _ = jax.jit(jax.vmap(act))(start, noise, keys, LEVEL)
        noise, keys = rollout.draw(self.network, jax.random.key(2), jnp.arange(B * T).reshape(B, T))
        self.rows = jax.jit(jax.vmap(act))(first, noise, keys, LEVEL)[1]
        inside = slice(0, T - 1)
        assert self.rows.terminated[:, inside].sum() > 3
        assert self.rows.truncated[:, inside].sum() > 3

    def spread(self, seed):
        """Parameters with larger differences between Q-values than at initialisation."""
        params = jax.tree.map(lambda x: 4.0 * x + 0.1, self.network.init(jax.random.key(seed)))
        return params | {"q_head": jax.tree.map(lambda x: 60.0 * x, params["q_head"])}

    def q(self, params):
        """Q-values [B, T, A] of the observations acted on, and of the true successors."""
        step = jax.vmap(jax.vmap(self.network.step, (None, 0, 0, None)), (None, 0, 0, None))
        _, here = self.network.unroll(params, self.rows.carry, self.rows.obs, self.rows.first)
        _, after = step(params, self.rows.next_carry, self.rows.final_obs, jnp.bool_(False))
        return np.asarray(here.policy.q), np.asarray(after.policy.q)

    def next_value(self, name, target):
        """What returns bootstrap from, one step at a time."""
        rows, (_, by_target), (_, by_acting) = self.rows, self.q(target), self.q(self.params)
        last = np.asarray(rows.terminated | rows.truncated)
        found = np.zeros((B, T))
        for b in range(B):
            for t in range(T):
                values, best = by_target[b, t], np.argmax(by_acting[b, t])
                if name == "q":
                    found[b, t] = values.max()
                elif name == "double":
                    found[b, t] = values[best]
                elif t == T - 1 or last[b, t]:
                    found[b, t] = LEVEL[b] * values.mean() + (1 - LEVEL[b]) * values[best]
                else:
                    found[b, t] = values[rows.action[b, t + 1]]
        return found

    def block(self, b, next_value):
        """The arguments of a return estimator for environment ``b``."""
        rows = self.rows
        return {
            "value": np.zeros(T),
            "next_value": next_value[b],
            "reward": np.asarray(rows.reward[b], float),
            "discount": GAMMA * (1.0 - np.asarray(rows.terminated[b])),
            "last": np.asarray(rows.terminated[b] | rows.truncated[b], float),
        }

    def annotated(self, name, target):
        """The rollouts with what the target network says of their successors."""
        settings: dict[str, Any] = {"update_every": 1, "update_rate": 1.0, "updates_per_iteration": 1}
        made = objectives.target_network(
            self.network, self.exploration.behave, bootstrap=BOOTSTRAPS[name](), **settings
        )
        one_worker = jax.tree.map(lambda x: x[None], (self.params, jnp.asarray(LEVEL), self.rows))
        return jax.tree.map(lambda x: x[0], jax.jit(made.annotate)(target, *one_worker))


@pytest.fixture(scope="module")
def case():
    return Case()


@pytest.fixture(scope="module")
def recurrent():
    return Case("lstm")


def n_step_objective(case, n):
    return objectives.q_learning(case.network, partial(returns.n_step, n=n), objectives.from_next_values(GAMMA))


@pytest.mark.parametrize("name", BOOTSTRAPS)
def test_a_target_network_values_the_true_successors(case, name):
    expected = case.next_value(name, case.old)
    alive = ~np.asarray(case.rows.terminated)
    found = np.asarray(case.annotated(name, case.old).next_value)
    np.testing.assert_allclose(found[alive], expected[alive], rtol=1e-4, atol=1e-5)
    others = [case.next_value(other, case.old)[alive] for other in BOOTSTRAPS if other != name]
    assert all(np.abs(other - expected[alive]).max() > 0.01 for other in others)


@pytest.mark.parametrize("name", BOOTSTRAPS)
def test_a_recurrent_one_remembers_the_episode_that_was_cut_off(recurrent, name):
    expected = recurrent.next_value(name, recurrent.params)
    alive = ~np.asarray(recurrent.rows.terminated)
    found = np.asarray(recurrent.annotated(name, recurrent.params).next_value)
    np.testing.assert_allclose(found[alive], expected[alive], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BOOTSTRAPS)
@pytest.mark.parametrize("n", [1, 3, T])
def test_n_step_targets_equal_the_loop(case, name, n):
    next_value = case.next_value(name, case.old)
    expected = [reference.n_step_return(**case.block(b, next_value), n=n) for b in range(B)]
    items = n_step_objective(case, n).prepare(case.params, case.annotated(name, case.old))
    np.testing.assert_allclose(items.target.reshape(B, T), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("q_lambda", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("core", ["case", "recurrent"])
def test_lambda_returns_equal_the_loop(core, q_lambda, request):
    case = request.getfixturevalue(core)
    objective = objectives.q_learning(
        case.network, partial(returns.gae, gae_lambda=q_lambda), objectives.extrinsic(case.network, GAMMA)
    )
    next_value = case.next_value("q", case.params)
    expected = [reference.peng_return(**case.block(b, next_value), q_lambda=q_lambda) for b in range(B)]
    items = jax.jit(objective.prepare)(case.params, case.rows)
    assert items.target.shape == ((B, T) if core == "recurrent" else (B * T, 1))
    np.testing.assert_allclose(items.target.reshape(B, T), expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_is_that_of_half_the_squared_error_of_the_actions_taken(case):
    objective, rows = n_step_objective(case, 3), case.annotated("q", case.old)
    items = objective.prepare(case.params, rows)
    target = items.target.reshape(B, T)

    def textbook(params):
        _, outputs = case.network.unroll(params, rows.carry, rows.obs, rows.first)
        taken = jnp.take_along_axis(outputs.policy.q, rows.action[..., None], axis=-1)[..., 0]
        return jnp.mean((taken - target) ** 2) / 2

    found, terms = jax.grad(objective.loss, has_aux=True)(case.params, items)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found, jax.grad(textbook)(case.params))
    np.testing.assert_allclose(terms["value_loss"], 2 * textbook(case.params), rtol=1e-5)
    np.testing.assert_allclose(terms["value_mean"], case.q(case.params)[0].max(-1).mean(), rtol=1e-4)


def test_actions_are_drawn_with_the_probabilities_that_are_stated():
    policy = EpsilonGreedy(jnp.array([0.3, -1.0, 2.0, 0.1]), jnp.float32(0.4))
    count = 200_000
    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), policy)
    actions = many.sample(jax.random.uniform(KEY, (count,)))
    expected = np.array([0.1, 0.1, 0.7, 0.1])
    frequency = np.bincount(actions, minlength=4) / count
    assert (np.abs(frequency - expected) < 5 * np.sqrt(expected * (1 - expected) / count)).all()
    log_prob = [float(policy.log_prob(jnp.int32(action))) for action in range(4)]
    np.testing.assert_allclose(log_prob, np.log(expected), rtol=1e-5)


def test_every_worker_has_an_epsilon_of_its_own():
    config = WorkerEpsilonConfig(epsilon_final=(0.1, 0.01, 0.5), epsilon_frames=100)
    level = epsilon_greedy_workers(config, envs_per_worker=2).level
    numbers = jnp.arange(8).reshape(4, 2)
    expected = np.repeat([[0.1], [0.01], [0.5], [0.1]], 2, axis=1)
    for frames, share in ((0, 0.0), (50, 0.5), (100, 1.0), (1_000, 1.0)):
        np.testing.assert_allclose(level(jnp.float32(frames), numbers), 1 + (expected - 1) * share, rtol=1e-5)
    at_once = epsilon_greedy_workers(replace(config, epsilon_frames=0), envs_per_worker=2).level
    np.testing.assert_allclose(at_once(jnp.float32(0), numbers), expected, rtol=1e-6)


def test_the_default_epsilons_have_the_proportions_of_the_paper():
    counts = {epsilon: WorkerEpsilonConfig().epsilon_final.count(epsilon) for epsilon in (0.1, 0.01, 0.5)}
    assert counts == {0.1: 4, 0.01: 3, 0.5: 3}


def tally():
    """An environment that shows nothing, never ends, and counts its frames and its actions."""

    def step(keys, state, action):
        state = state + jnp.stack([1, action]).astype(jnp.int32)
        no, obs = jnp.bool_(False), jnp.ones(1)
        return state, TimeStep(obs, jnp.float32(1), no, no, obs, jnp.float32(0), state[0])

    space = envs.make_episodic("CartPole-v1").action_space
    return Env(lambda key: (jnp.zeros(2, jnp.int32), jnp.ones(1)), step, (1,), space)


@pytest.mark.parametrize("schedule", ["random", "clock"])
def test_a_worker_acts_with_its_own_epsilon(schedule):
    """Whose parameters never change: the second of three workers acts at random, the others greedily."""
    rollouts = loops.Workers(num_workers=3, envs_per_worker=2, rollout_length=50, total_frames=300 * 20)
    env, body = tally(), networks.BodyConfig(hidden_sizes=(4,))
    network = networks.make_q(body, env)
    exploration = epsilon_greedy_workers(WorkerEpsilonConfig(epsilon_final=(0.0, 1.0, 0.0), epsilon_frames=0), 2)
    asynchrony = Asynchrony(schedule, Service("exponential"))
    rule = updates.asynchronous(optax.sgd(0.0), 3, asynchrony, max_pushes=1 if schedule == "clock" else None)
    objective = objectives.q_learning(network, partial(returns.n_step, n=1), objectives.extrinsic(network, GAMMA))
    layout = loops.make_layout(rollouts, None, split="workers")
    parts = Parts(env, network, objective, rule, layout, None, origin(envs.Config(), body), exploration)
    made = algorithm(parts)

    @jax.jit
    def run():
        step = lambda state, i: made.step(jax.random.fold_in(KEY, i), state)  # noqa: E731
        return jax.lax.scan(step, made.init(KEY), jnp.arange(20))

    state, metrics = run()
    frames, ones = np.moveaxis(np.asarray(state.actor_state.env), -1, 0)
    share = (ones / frames)[:, 0], (ones / frames)[:, 1]
    assert frames.min() > 300
    for of_env in share:
        assert of_env[0] == of_env[2] in (0.0, 1.0)
        assert abs(of_env[1] - 0.5) < 4 * 0.5 / 300**0.5
    np.testing.assert_allclose(metrics.losses["epsilon"], 1 / 3, rtol=1e-6)
    _, outputs = made.policy(state)((), jnp.ones(1), jnp.bool_(False))
    assert float(outputs.policy.epsilon) == pytest.approx(1 / 3)


SMALL: dict[str, Any] = {
    "env_id": "CartPole-v1",
    "hidden_sizes": (8,),
    "rollout_length": 5,
    "learning_rate": 1e-2,
}


@pytest.mark.parametrize(("schedule", "every"), [("round_robin", 1), ("random", 6), ("clock", 6), ("random", 8)])
def test_the_target_network_is_a_copy_of_the_parameters_every_so_many_updates(schedule, every):
    config = replace(nstep_q.Config(), num_workers=4, envs_per_worker=1, total_frames=20 * 30, **SMALL)
    config = replace(config, asynchrony=Asynchrony(schedule), target_update_every=every)
    made = config.build()

    @jax.jit
    def run():
        def iterate(state, i):
            state = made.step(jax.random.fold_in(KEY, i), state)[0]
            return state, (state.target, state.learner.params, state.learner.version)

        start = made.init(KEY)
        return start.learner.params, jax.lax.scan(iterate, start, jnp.arange(9))[1]

    copied, (target, params, version) = run()
    np.testing.assert_array_equal(version, 4 * np.arange(1, 10))
    for i in range(9):
        now = jax.tree.map(lambda x, i=i: x[i], params)
        if version[i] // every > (version[i] - 4) // every:
            copied = now
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda x, i=i: x[i], target), copied)
        assert any((x != y).any() for x, y in zip(jax.tree.leaves(now), jax.tree.leaves(copied), strict=True)) == (
            version[i] // every == (version[i] - 4) // every
        )


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4), a, b)


SAME = SMALL | {"total_frames": 5 * 4 * 30, "epsilon_frames": 200, "optimizer": RMSProp(), "layer_norm": True}
LOCKSTEP = replace(nstep_q.Config(), num_workers=1, envs_per_worker=4, activation="tanh", epsilon_final=(0.1,), **SAME)


@pytest.mark.parametrize("core", ["feed_forward", pytest.param("gru", marks=pytest.mark.slow)])
def test_pqn_in_one_pass_with_a_lambda_of_1_is_n_step_q_in_lockstep_without_a_target_that_lags(core):
    shared: dict[str, Any] = {"core": core, "num_cells": 4}
    parallel = replace(pqn.Config(), num_envs=4, epochs=1, num_minibatches=1, q_lambda=1.0, activation="tanh", **SAME)
    parallel = replace(parallel, epsilon_final=0.1, **shared)
    lockstep = replace(LOCKSTEP, n_step=5, target_update_every=1, **shared)
    one, other = jax.jit(make_train(parallel))(KEY), jax.jit(make_train(lockstep))(KEY)
    assert_close(one.state.learner.params, other.state.learner.params)
    assert_close(one.metrics, other.metrics)


@pytest.mark.parametrize("target", ["q", "sarsa"])
def test_one_worker_learns_in_lockstep(target):
    config = replace(LOCKSTEP, target=target, n_step=2, target_update_every=3)
    layout = loops.make_layout(loops.Batch(num_envs=4, rollout_length=5, total_frames=5 * 4 * 30), None)
    rule = updates.synchronous(updates.optimizers.make(RMSProp(learning_rate=1e-2), layout.iterations))
    made = loops.on_policy(
        config.env,
        config.network,
        config.objective.gamma,
        layout,
        partial(objectives.q_learning, estimate=partial(returns.n_step, n=2)),
        rule,
        make_network=networks.make_q,
        exploration=loops.epsilon_greedy(loops.EpsilonConfig(epsilon_final=0.1, epsilon_frames=200)),
        make_target=partial(
            objectives.target_network,
            bootstrap=BOOTSTRAPS[target](),
            update_every=3,
            update_rate=1.0,
            updates_per_iteration=1,
        ),
    )

    @jax.jit
    def run():
        key_init, key_run = jax.random.split(KEY)
        step = lambda state, i: made.step(jax.random.fold_in(key_run, i), state)  # noqa: E731
        return jax.lax.scan(step, made.init(key_init), jnp.arange(30))

    state, metrics = run()
    result = jax.jit(make_train(config))(KEY)
    assert_close(result.state.learner.params, state.learner.params)
    assert_close(result.metrics.losses["value_loss"], metrics.losses["value_loss"])


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (nstep_q, {"target": "sarsa", "double": True}, "double: True is not accepted; it must be False"),
        (nstep_q, {"target": "max"}, "target: 'max' is not accepted; it must be one of q, sarsa"),
        (nstep_q, {"epsilon_final": ()}, r"epsilon_final: \(\) is not accepted; it must be a tuple"),
        (nstep_q, {"epsilon_final": (0.1, 1.5)}, r"epsilon_final: 1.5 is not accepted; it must be in \[0, 1\]"),
        (nstep_q, {"n_step": 0}, "n_step: 0 is not accepted; it must be an int >= 1"),
        (nstep_q, {"target_update_every": 0}, "target_update_every: 0 is not accepted"),
        (nstep_q, {"env_id": "Pendulum-v1"}, "action_space: .* discrete"),
        (nstep_q, {"asynchrony": Asynchrony(device_delay=1)}, "device_delay: 1 is not accepted"),
        (pqn, {"num_minibatches": 7}, "num_minibatches: 7 is not accepted; it must be a divisor of 2048"),
        (
            pqn,
            {"num_minibatches": 64, "core": "gru"},
            "num_minibatches: 64 is not accepted; .*, as the core is recurrent",
        ),
        (pqn, {"q_lambda": 1.5}, "q_lambda: 1.5 is not accepted"),
        (pqn, {"epsilon_final": -0.5}, "epsilon_final: -0.5 is not accepted"),
        (pqn, {"env_id": "Pendulum-v1"}, "action_space: .* discrete"),
    ],
)
def test_bad_settings_are_named(config, changes, message):
    with pytest.raises(InputError, match=message):
        make_train(replace(config.Config(), **changes))


@pytest.mark.parametrize("config", [nstep_q.Config(), pqn.Config()])
def test_a_bonus_is_for_other_agents(config):
    with pytest.raises(InputError, match="agent: "):
        config.build(None, lambda *args: None)
