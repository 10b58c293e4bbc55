"""Several devices: what one of them would have computed, or what devices that do not wait for each other must."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from purejaxrl_a3c import a2c, a3c, averaging, devices, envs, impala, make_train, nstep_q, ppo, rnd, updates
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.envs import statistics
from purejaxrl_a3c.types import Objective, UpdateRule
from purejaxrl_a3c.updates import Asynchrony, Queue, Service, optimizers

W, ROUNDS = 6, 5
KEY = jax.random.key(0)
PARAMS = {"matrix": jnp.arange(6.0).reshape(3, 2), "bias": jnp.ones(3)}
SMALL: dict[str, Any] = {"hidden_sizes": (8,), "rollout_length": 5, "total_frames": 5 * 16 * 12}
WRAPPERS = envs.Wrappers(normalize_observations=True, scale_rewards=True)
CONFIGS: dict[str, Any] = {
    "a2c": replace(a2c.Config(), num_envs=16, wrappers=WRAPPERS, **SMALL),
    "a3c": replace(a3c.Config(), num_workers=8, envs_per_worker=2, **SMALL),
    "averaging": replace(averaging.Config(), num_workers=8, envs_per_worker=2, sync_every=3, mix="ring", **SMALL),
    "impala": replace(impala.Config(), envs_per_worker=16, **SMALL),
    "impala_workers": replace(
        impala.Config(), num_workers=4, envs_per_worker=4, asynchrony=Asynchrony("clock"), **SMALL
    ),
    # One minibatch: of several, every device deals out its own.
    "ppo_queue": replace(
        ppo.Config(),
        num_envs=32,
        num_workers=2,
        epochs=2,
        num_minibatches=1,
        asynchrony=Asynchrony("queue", queue=Queue(batch_rollouts=2, parts_per_rollout=2)),
        **SMALL,
    ),
    "nstep_q": replace(
        nstep_q.Config(),
        num_workers=8,
        envs_per_worker=2,
        target="sarsa",
        target_update_every=12,
        epsilon_frames=400,
        asynchrony=Asynchrony("clock"),
        **SMALL,
    ),
    "rnd_ppo": replace(
        rnd.Config(),
        agent=replace(ppo.Config(), num_envs=16, epochs=2, num_minibatches=1, **SMALL),
        predictor_epochs=1,
        num_predictor_minibatches=1,
        warm_up=2,
    ),
}


RMSPROP = optimizers.make(
    optimizers.RMSProp(learning_rate=0.1, max_gradient_norm=3.0, rmsprop_decay=0.9, rmsprop_epsilon=0.01),
    num_updates=W * ROUNDS,
)


def distance(params, target, *adapted):
    loss = 0.5 * jnp.sum((params["matrix"] - target[..., None]) ** 2) + jnp.sum(params["bias"] * target)
    return loss, {"distance": loss}


OBJECTIVE = Objective(lambda params, target: target, distance)


def targets(round_):
    return jax.random.normal(jax.random.fold_in(jax.random.key(7), round_), (W, 3))


def close(a, b, rtol=1e-4, atol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def rounds(make_rule, count):
    """Learner and reports after some rounds on ``count`` devices, each with a leading axis of devices."""

    def run(mine):
        rule = make_rule("device" if count > 1 else None)

        def one(learner, i):
            key, target = jax.random.fold_in(KEY, i), targets(i)[mine]
            if isinstance(rule, UpdateRule):
                return rule.update(key, learner, OBJECTIVE, target)
            learner, batch = rule.next_batch(key, learner, W)
            learner, reported = rule.update(key, learner, OBJECTIVE, target[batch.workers], batch)
            return learner, jax.tree.map(lambda x: jnp.where(batch.pushed, x, 0), reported)

        return jax.lax.scan(one, rule.init(KEY, PARAMS), jnp.arange(ROUNDS))

    mapped = jax.jit(jax.vmap(run, axis_name="device"))(jnp.arange(W).reshape(count, W // count))
    return jax.device_get(mapped)


RULES = {
    "random": lambda optimizer, axis: updates.asynchronous(optimizer, W, Asynchrony(), axis_name=axis),
    "lagged": lambda optimizer, axis: updates.asynchronous(
        optimizer, W, Asynchrony(reads="lagged", lag=2.0, max_lag=3), axis_name=axis
    ),
    "torn": lambda optimizer, axis: updates.asynchronous(
        optimizer, W, Asynchrony(reads="torn_elements"), axis_name=axis
    ),
    "clock": lambda optimizer, axis: updates.asynchronous(
        optimizer, W, Asynchrony("clock", Service("exponential"), max_lead=1), axis_name=axis
    ),
    "mean": lambda optimizer, axis: updates.averaging(optimizer, W, 2, axis_name=axis),
    "ring": lambda optimizer, axis: updates.averaging(optimizer, W, 2, updates.ring(), axis_name=axis),
}


@pytest.mark.parametrize(("name", "count"), [*((name, 3) for name in RULES), ("random", 6)])
def test_a_rule_on_several_devices_equals_the_rule_on_one(name, count):
    alone, expected = rounds(lambda axis: RULES[name](RMSPROP, axis), 1)
    learner, reports = rounds(lambda axis: RULES[name](RMSPROP, axis), count)

    def compare(path, many, one):
        one = one[0]
        if many.shape[1:] == one.shape:  # every device has all of it
            for copy in many:
                close(copy, one)
        else:
            close(many.reshape(one.shape), one)

    skipped: dict[str, Any] = {"missed_here": None} if name not in ("mean", "ring") else {}
    jax.tree_util.tree_map_with_path(compare, learner._replace(**skipped), alone._replace(**skipped))
    for field in reports.keys() - {"staleness_within"}:
        for copy in reports[field]:
            close(copy, expected[field][0])


def test_staleness_within_a_device_counts_the_pushes_of_that_device():
    _, reports = rounds(lambda axis: RULES["random"](optax.sgd(0.1), axis), 2)
    last: list[int] = [-1] * W
    pushed: list[int] = []
    for i, (totals, withins) in enumerate(zip(reports["staleness"][0], reports["staleness_within"][0], strict=True)):
        key_order, _ = jax.random.split(jax.random.fold_in(KEY, i))
        order = np.asarray(jax.random.permutation(key_order, W))
        for worker, total, within in zip(order, totals, withins, strict=True):
            since = pushed[last[worker] + 1 :]
            assert total == len(since)
            assert within == sum(other // 3 == worker // 3 for other in since)
            last[worker] = len(pushed)
            pushed.append(worker)


@pytest.mark.parametrize("name", ["momentum", "rmsprop"])
@pytest.mark.parametrize("delay", [1, 2])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_overlapped_devices_equal_an_event_loop(count, delay, name):
    """Each device, on its own: what all have made, the own pushes on top, and a pull right after each of these."""
    optimizer = {"momentum": optax.sgd(0.1, momentum=0.9), "rmsprop": RMSPROP}[name]
    asynchrony = Asynchrony(device_delay=delay)
    learner, reports = rounds(lambda axis: updates.overlapped(optimizer, W, asynchrony, axis), count)

    def push(shared, gradient):
        step, state = optimizer.update(gradient, shared[1], shared[0])
        return optax.apply_updates(shared[0], step), state

    orders = [np.asarray(jax.random.permutation(jax.random.fold_in(KEY, i), W)).tolist() for i in range(ROUNDS)]
    common = (PARAMS, optimizer.init(PARAMS))
    snapshots, contents = [PARAMS] * W, [frozenset[tuple[int, int]]()] * W
    gradients: list[list[Any]] = []
    known: frozenset[tuple[int, int]] = frozenset()
    ids = [(i, worker) for i, order in enumerate(orders) for worker in order]
    for i, order in enumerate(orders):
        gradients.append([jax.grad(lambda p, w=w, i=i: distance(p, targets(i)[w])[0])(snapshots[w]) for w in range(W)])
        for position, worker in enumerate(order):
            before = ids[: i * W + position]
            assert reports["staleness"][0][i, position] == sum(push not in contents[worker] for push in before)
            here = [push for push in before if push[1] * count // W == worker * count // W]
            assert reports["staleness_within"][0][i, position] == sum(push not in contents[worker] for push in here)
        if i >= delay:
            for worker in orders[i - delay]:
                common = push(common, gradients[i - delay][worker])
                known |= {(i - delay, worker)}
        for device in range(count):
            mine, seen = common, known
            for j in range(max(i - delay + 1, 0), i + 1):
                for worker in orders[j]:
                    if worker * count // W == device:
                        mine, seen = push(mine, gradients[j][worker]), seen | {(j, worker)}
                        if j == i:
                            snapshots[worker], contents[worker] = mine[0], seen
    for device in range(count):
        close(jax.tree.map(lambda x, device=device: x[device], learner.params), common[0])
    stacked = jax.tree.map(lambda *x: np.stack(x), *snapshots)
    close(jax.tree.map(lambda x: x.reshape(W, *x.shape[2:]), learner.snapshots), stacked)


def test_moments_are_those_of_all_devices():
    samples = 100 + jax.random.normal(KEY, (3, 2, 4, 5))  # devices, W, B

    def seen(samples):
        copies = jax.vmap(jax.vmap(lambda x: statistics.add(statistics.start((5,)), x)))(samples)
        return statistics.merge(copies, "device")

    merged = jax.vmap(seen, axis_name="device")(samples)
    for mean in merged.mean.reshape(-1, 5):
        close(mean, samples.mean((0, 1, 2)))
    close(merged.variance[2, 1, 3], samples.var((0, 1, 2)), rtol=1e-3)


def without(metrics, *names):
    """Metrics without some of the losses."""
    return metrics._replace(losses={name: x for name, x in metrics.losses.items() if name not in names})


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_on_several_devices_equals_the_run_on_one(name):
    config = CONFIGS[name]
    alone = jax.jit(make_train(config))(KEY)
    shared = devices.train_on_devices(config, KEY, jax.devices()[:4])
    assert jax.tree.map(jnp.shape, shared) == jax.tree.map(jnp.shape, alone)
    assert len(shared.state.actor_state.obs.sharding.device_set) == 4
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(shared.state.learner.params))

    def compare(a, b):
        # Of each device's own: the contribution to staleness, and the variance of its targets.
        a, b = (x._replace(metrics=without(x.metrics, "staleness_within", "explained_variance")) for x in (a, b))
        if name in ("a3c", "nstep_q"):
            a, b = (x._replace(state=x.state._replace(learner=x.state.learner._replace(missed_here=0))) for x in (a, b))
        if name == "ppo_queue":
            assert a.state.learner.reported.keys() == b.state.learner.reported.keys()
            a, b = (x._replace(state=x.state._replace(learner=x.state.learner._replace(reported={}))) for x in (a, b))
        close(a, b, rtol=2e-3, atol=1e-4)

    compare(shared, alone)
    if name == "a3c":
        assert alone.metrics.losses["staleness_within"][-1] == alone.metrics.losses["staleness_mean"][-1]
        assert np.abs(shared.metrics.losses["staleness_within"][1:].mean() - 1) < 0.3  # 2 workers a device

    if name != "a3c":
        return
    # The other ways to bind the name: every device has a copy or a part of everything.
    train = make_train(config, axis_name="d")
    for many in (
        jax.pmap(train, axis_name="d")(jnp.stack([KEY, KEY])),
        jax.jit(jax.vmap(train, axis_name="d", in_axes=None, axis_size=2))(KEY),
    ):
        for device in range(2):
            part = jax.tree.map(lambda x, device=device: x[device], (many.metrics, many.state.learner.params))
            other = alone.metrics, alone.state.learner.params
            part, other = ((without(m, "staleness_within"), p) for m, p in (part, other))
            close(part, other, rtol=2e-3, atol=1e-4)


def test_devices_that_do_not_wait_learn_from_later_gradients():
    config = replace(CONFIGS["a3c"], asynchrony=Asynchrony(device_delay=2))
    result = devices.train_on_devices(config, KEY, jax.devices()[:4])
    total, within = (
        result.metrics.losses["staleness_mean"][4:].mean(),
        result.metrics.losses["staleness_within"][4:].mean(),
    )
    assert abs(within - 1) < 0.3
    assert abs(total - (1 + 2.5 * 6)) < 0.5  # of the six workers elsewhere two rounds, and half of the next
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.state))


def test_several_runs_share_the_devices():
    config = replace(CONFIGS["a2c"], wrappers=envs.Wrappers(), total_frames=5 * 16 * 3)
    keys = jax.random.split(KEY, 4)
    expected = jax.jit(jax.vmap(make_train(config)))(keys)
    shared = devices.train_on_devices(config, keys, jax.devices()[:2])
    # The variance of the targets is that of each device's own.
    shared, expected = (x._replace(metrics=without(x.metrics, "explained_variance")) for x in (shared, expected))
    close(shared, expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("function", "config", "named"),
    [
        (devices.train_on_devices, replace(a2c.Config(), num_envs=16), "num_envs"),
        (devices.train_on_devices, replace(a3c.Config(), num_workers=16), "num_workers"),
        (devices.train_on_devices, replace(averaging.Config(), num_workers=4), "num_workers"),
        (devices.train_on_devices, impala.Config(), "envs_per_worker"),
        (devices.train_on_devices, rnd.Config(), "num_envs"),
    ],
)
def test_what_devices_cannot_share_out_evenly_is_refused(function, config, named):
    with pytest.raises(InputError, match=f"{named}.*a multiple of the number of devices, 3"):
        function(config, KEY, jax.devices()[:3])


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (replace(a3c.Config(), asynchrony=Asynchrony("clock", device_delay=1)), "device_delay"),
        (replace(a3c.Config(), asynchrony=Asynchrony(reads="torn_leaves", device_delay=1)), "device_delay"),
        (replace(a3c.Config(), correction="delay", asynchrony=Asynchrony(device_delay=1)), "correction"),
        (replace(a3c.Config(), asynchrony=Asynchrony(device_delay=-1)), "device_delay"),
        (replace(impala.Config(), asynchrony=Asynchrony(device_delay=1)), "device_delay"),
    ],
)
def test_what_does_not_go_with_overlapped_devices_is_refused(config, field):
    with pytest.raises(InputError, match=f"^{field}: "):
        make_train(config)
