from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import probes  # noqa: F401  (registers the probe environments)
import pytest
import reference

from purejaxrl_a3c import envs, networks, objectives, ppo, updates
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.loops import rollout
from purejaxrl_a3c.types import Objective
from purejaxrl_a3c.updates.minibatches import deal

T, B = 12, 4
KEY = jax.random.key(0)
SMALL = replace(ppo.Config(), env_id="Copy-probe", hidden_sizes=(8,), normalize_advantages=False, gae_lambda=0.8)
CONFIGS = {
    "feed_forward": SMALL,
    "lstm": replace(SMALL, core="lstm", num_cells=5),
    "continuous": replace(SMALL, env_id="Pendulum-v1", wrappers=envs.Wrappers(time_limit=5)),
}


class Case:
    """A network, parameters and rollouts ``[1, B, T]`` that begin inside an episode and cross the ends of others."""

    def __init__(self, config):
        self.config = config
        env = envs.make(config.env, config.objective.gamma)
        network = networks.make(config.network, env)
        self.network = network._replace(unroll=jax.jit(network.unroll), step=jax.jit(network.step))
        self.params = jax.tree.map(lambda x: 2.0 * x, self.network.init(KEY))

        def act(actor_state, seed):
            return jax.vmap(rollout.unroll, (None, None, None, 0, 0, 0))(
                env,
                self.network,
                self.params,
                actor_state,
                *rollout.draw(self.network, jax.random.key(seed), jnp.arange(B * T).reshape(B, T)),
            )

        def start(key):
            return rollout.start(env, self.network, key)

        actor_state, _ = jax.jit(act)(jax.vmap(start)(jax.random.split(KEY, B)), 1)
        self.rows = jax.jit(act)(actor_state, 2)[1]

    def objective(self, make=objectives.ppo_clip, **changes):
        config = replace(self.config, **changes)
        clip = objectives.Clip(config.clip_range, config.clip_range)
        settings = {"settings": objectives.Settings(clip, config.clip_values, config.normalize_advantages)}
        if make is objectives.policy_gradient:
            settings = {}
        config = self.config.objective
        objective = make(self.network, config, objectives.extrinsic(self.network, config.gamma), **settings)
        return Objective(jax.jit(objective.prepare), jax.jit(objective.loss))


@pytest.fixture(scope="module", params=CONFIGS)
def case(request):
    return Case(CONFIGS[request.param])


def test_in_the_first_minibatch_the_ratio_is_1(case):
    assert (case.rows.truncated[:, :-1]).any()
    assert not case.rows.first[:, 0].any()
    items = case.objective().prepare(case.params, case.rows)
    dealt = deal(KEY, items, 2)
    for i in range(2):
        one = jax.tree.map(lambda x, i=i: x[i], dealt)
        _, outputs = case.network.unroll(case.params, one.carry, one.obs, one.first)
        np.testing.assert_allclose(jnp.exp(outputs.policy.log_prob(one.action) - one.log_prob), 1.0, rtol=1e-4)
        np.testing.assert_allclose(one.policy.kl(outputs.policy), 0.0, atol=1e-5)


def test_the_first_gradient_is_a2cs(case):
    mine, theirs = case.objective(), case.objective(objectives.policy_gradient)

    def gradient(objective):
        return jax.grad(objective.loss, has_aux=True)(case.params, objective.prepare(case.params, case.rows))[0]

    found, expected = jax.jit(lambda: (gradient(mine), gradient(theirs)))()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found, expected)


def test_an_item_is_a_whole_rollout_where_there_is_memory(case):
    items = case.objective().prepare(case.params, case.rows)
    if case.config.network.body.core == "feed_forward":
        assert items.obs.shape[:2] == (B * T, 1)
    else:
        # In time's order, with the memory that it began with: a minibatch has whole rows of the block.
        dealt = deal(KEY, items, 2)
        assert dealt.obs.shape[:3] == (2, B // 2, T)
        rows = {row.tobytes(): b for b, row in enumerate(np.asarray(case.rows.obs))}
        found = [rows[row.tobytes()] for row in np.asarray(dealt.obs).reshape(B, T, -1)]
        assert sorted(found) == list(range(B))
        carry = jax.tree.map(lambda x: x.reshape(B, *x.shape[2:]), dealt.carry)
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[np.array(found)]), carry, case.rows.carry)


@pytest.mark.parametrize(("name", "options"), [("clip", False), ("clip", True), ("kl", False)])
def test_the_loss_is_that_of_a_plain_loop(case, name, options):
    """At parameters that have moved, so that ratios and values are clipped on both sides."""
    settings: dict[str, Any] = {"normalize_advantages": options, "clip_values": options}
    objective = case.objective(ppo.POLICY_LOSSES[name], clip_range=0.05, **settings)
    keys = jax.random.split(jax.random.key(3), len(jax.tree.leaves(case.params)))
    keys = jax.tree.unflatten(jax.tree.structure(case.params), list(keys))
    moved = jax.tree.map(lambda x, key: x + 0.3 * jax.random.normal(key, x.shape), case.params, keys)
    _, old = case.network.unroll(case.params, case.rows.carry, case.rows.obs, case.rows.first)
    _, new = case.network.unroll(moved, case.rows.carry, case.rows.obs, case.rows.first)

    old, new = jax.device_get((old, new))
    advantage = np.zeros((B, T))
    for b in range(B):
        row = jax.tree.map(lambda x, b=b: x[b], case.rows)
        last = row.terminated | row.truncated
        bootstrap = objectives.bootstrap_values(case.network, case.params, row)
        advantage[b] = reference.gae(
            value=np.asarray(old.value[b], float),
            next_value=np.asarray(objectives.successor_values(old.value[b], bootstrap, last), float),
            reward=np.asarray(row.reward, float),
            discount=case.config.objective.gamma * (1.0 - np.asarray(row.terminated)),
            last=np.asarray(last, float),
            gae_lambda=case.config.objective.gae_lambda,
        )
    target = advantage + old.value
    if options:
        advantage = (advantage - advantage.mean()) / advantage.std()
    ratio = np.exp(np.asarray(new.policy.log_prob(case.rows.action) - case.rows.log_prob, float))
    kl = np.asarray(old.policy.kl(new.policy))
    assert ratio.min() < 0.95 < 1.05 < ratio.max()
    policy_loss, value_loss = np.zeros((B, T)), np.zeros((B, T))
    clipped = set()
    for index in np.ndindex(B, T):
        if name == "kl":
            policy_loss[index] = -ratio[index] * advantage[index] + 3.0 * kl[index]
        else:
            inside = min(max(ratio[index], 0.95), 1.05)
            clipped.add((np.sign(ratio[index] - inside), np.sign(advantage[index])))
            policy_loss[index] = -min(ratio[index] * advantage[index], inside * advantage[index])
        value = new.value[index]
        value_loss[index] = (value - target[index]) ** 2
        if options:
            near = old.value[index] + min(max(value - old.value[index], -0.05), 0.05)
            value_loss[index] = max(value_loss[index], (near - target[index]) ** 2)
    assert not options or {(1, 1), (1, -1), (-1, 1), (-1, -1)} <= clipped

    items = objective.prepare(case.params, case.rows)
    _, terms = objective.loss(moved, items, *([jnp.float32(3.0)] if name == "kl" else []))
    assert terms["policy_loss"] == pytest.approx(policy_loss.mean(), rel=1e-3, abs=1e-4)
    assert terms["value_loss"] == pytest.approx(value_loss.mean(), rel=1e-3)
    assert terms["kl"] == pytest.approx(kl.mean(), rel=1e-3)
    assert terms["clip_fraction"] == pytest.approx((abs(ratio - 1) > 0.05).mean())
    explained = 1 - (target - new.value).var() / target.var()
    assert terms["explained_variance"] == pytest.approx(explained, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", ["none", "decoupled", "truncated", "masked", "second_moment", "vtrace"])
def test_an_action_that_the_policy_has_given_up_teaches_it_nothing(name):
    """Its importance weight is 0, and normalized advantages must not make something of it."""
    case = Case(SMALL)
    correcting = objectives.StaleConfig(loss_correction=name)
    settings = objectives.Settings(objectives.Clip(0.2, 0.2), False, normalize_advantages=True, correcting=correcting)
    estimator = objectives.extrinsic(case.network, 0.99)
    objective = objectives.ppo_clip(case.network, case.config.objective, estimator, settings=settings)
    given_up = case.rows._replace(log_prob=case.rows.log_prob.at[0, 3].add(40))

    @jax.jit
    def gradient(action):
        items = objective.prepare(case.params, given_up._replace(action=action))
        return jax.grad(objective.loss, has_aux=True)(case.params, items)[0]

    found, other = (gradient(case.rows.action.at[0, 3].set(action)) for action in (0, 1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, other)
    assert max(jnp.abs(x).max() for x in jax.tree.leaves(found)) > 1e-3


def counting(kls=None):
    """An objective whose loss only reports which items it was given, and divergences as told, by update.

    A minibatch with item 0 in it shows none.
    """

    def loss(params, batch, *adapted):
        kl = jnp.float32(0) if kls is None else jnp.asarray(kls)[jnp.int32(-params)] * (batch > 0).all()
        return params, {"items": batch, "kl": kl, "adapted": adapted}

    return Objective(lambda params, trajectories: jnp.reshape(trajectories, (-1, 3)), loss)  # type: ignore[arg-type]


def learn(rule, objective, learner=None, start=0):
    block: Any = start + jnp.arange(2 * 4 * 3).reshape(1, 8, 3)
    return rule.update(KEY, learner or rule.init(KEY, jnp.float32(0)), objective, block)


def test_one_pass_with_one_minibatch_is_lockstep():
    objective = Objective(lambda params, rows: rows, lambda params, rows, *_: (jnp.mean((params - rows) ** 2), {}))
    once, _ = learn(updates.lockstep(updates.in_passes(optax.adam(0.1), 1, 1)), objective)
    lockstep, _ = learn(updates.synchronous(optax.adam(0.1)), objective)
    assert once.params == lockstep.params != 0
    twice, _ = learn(updates.lockstep(updates.in_passes(optax.adam(0.1), 1, 2)), objective)
    assert twice.params != lockstep.params


def test_passes_are_the_steps_of_the_optimizer_leaf_by_leaf():
    def loss(params, rows, *adapted):
        return jnp.mean((rows @ params["weights"] - params["bias"]) ** 2), {}

    params: Any = {"weights": jnp.array([0.3, -0.2, 0.1]), "bias": jnp.float32(0.5)}
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1))
    rule = updates.lockstep(updates.in_passes(optimizer, 3, 1))
    learner, reported = learn(rule, Objective(lambda params, rows: rows, loss), rule.init(KEY, params))

    rows: Any = jnp.arange(24.0).reshape(8, 3)
    state, norms = optimizer.init(params), []
    for _ in range(3):
        gradient: Any = jax.grad(loss, has_aux=True)(params, rows)[0]
        norms.append(np.sqrt(float(gradient["bias"]) ** 2 + np.square(gradient["weights"]).sum()))
        step, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, step)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), learner.params, params)
    np.testing.assert_allclose(reported["gradient_norm"], norms, rtol=1e-5)


def test_every_pass_deals_out_every_item_once_and_anew():
    _, reported = learn(updates.lockstep(updates.in_passes(optax.sgd(1.0), 3, 2)), counting())
    dealt = np.asarray(reported["items"]).reshape(3, 8, 3)
    assert reported["gradient_norm"].shape == (6,)
    np.testing.assert_array_equal(dealt - dealt[..., :1], np.broadcast_to([0, 1, 2], dealt.shape))
    orders = [tuple(row) for row in dealt[..., 0]]
    assert len(set(orders)) == 3
    assert all(sorted(order) == list(range(0, 24, 3)) for order in orders)


def test_learning_stops_for_good_where_the_policy_has_moved_too_far():
    """Each update subtracts 1 from the parameter, and the divergence is looked up by how often that happened."""
    kls = [0.0, 0.01, 0.02, 0.05, 0.05, 0.05, 0.05]
    _, reported = learn(updates.lockstep(updates.in_passes(optax.sgd(1.0), 4, 2)), counting())
    quiet = (np.asarray(reported["items"]).reshape(8, -1) == 0).any(1)
    assert quiet[6:].any()
    for target_kl in (0.015, 0.02, 0.0, 1.0, None):
        steps = 0
        for is_quiet in quiet:
            if target_kl is not None and not is_quiet and kls[min(steps, 6)] > target_kl:
                break
            steps += 1
        assert (steps < 6) == (target_kl is not None and target_kl < 1)

        def run(target):
            return learn(updates.lockstep(updates.in_passes(optax.sgd(1.0), 4, 2, target_kl=target)), counting(kls))[
                0
            ].params

        assert run(target_kl) == jax.jit(run)(target_kl) == -steps


def test_the_penalty_adapts_to_how_far_the_policy_moves():
    for kl, factor in ((0.029, 1.0), (0.031, 2.0), (0.0134, 1.0), (0.0132, 0.5)):
        rule = updates.lockstep(updates.in_passes(optax.sgd(1.0), 1, 2, adaptive=updates.adaptive_kl(3.0, 0.02)))
        # What counts is the divergence after the last update.
        learner, _ = learn(rule, counting([9.0, 9.0, kl]), start=1)
        assert learner.adapted == (pytest.approx(3.0 * factor),)
        learner, reported = learn(rule, counting([9.0, 9.0, 9.0, 9.0, kl]), learner, start=1)
        np.testing.assert_allclose(reported["adapted"][0], [3.0 * factor] * 2)
        assert learner.adapted == (pytest.approx(3.0 * factor**2),)
