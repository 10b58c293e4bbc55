"""A3C in an environment, on every schedule: who acts with what, and how often."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from purejaxrl_a3c import a3c, envs, evaluate, loops, make_train, networks, updates
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.loops.on_policy import Parts, algorithm
from purejaxrl_a3c.loops.origin import origin
from purejaxrl_a3c.types import Env, Objective, TimeStep
from purejaxrl_a3c.updates import Asynchrony, Service

W, B, T = 4, 2, 5
KEY = jax.random.key(0)
CONFIG = replace(
    a3c.Config(),
    num_workers=W,
    envs_per_worker=B,
    rollout_length=T,
    total_frames=W * B * T * 40,
    hidden_sizes=(8,),
)


def counter():
    """An environment whose state and observation are the frames it has been through."""

    def step(keys, frames, action):
        obs = jnp.full((1,), frames + 1, jnp.float32)
        no = jnp.bool_(False)
        timestep = TimeStep(obs, jnp.float32(1), no, no, obs, jnp.float32(frames + 1), frames + 1)
        return frames + 1, timestep

    return Env(lambda key: (jnp.int32(0), jnp.zeros(1)), step, (1,), envs.make_episodic("CartPole-v1").action_space)


def ratio(network):
    """The largest difference between what acted and what is learned from, in place of a loss."""

    def loss(params, batch, *adapted):
        _, outputs = network.unroll(params, network.carry(), batch.obs, batch.first)
        log_prob = outputs.policy.log_prob(batch.action)
        difference = jnp.abs(log_prob - batch.log_prob).max()
        names = ("policy_loss", "value_loss", "entropy", "value_mean")
        # Its gradient moves the policy, so that snapshots differ.
        return log_prob.mean(), dict.fromkeys(names, difference)

    return Objective(lambda params, trajectories: trajectories, loss)


@pytest.mark.parametrize("asynchrony", [Asynchrony("clock", Service("exponential")), Asynchrony("clock", max_lead=1)])
@pytest.mark.parametrize("max_pushes", [1, 3, 4])
def test_on_the_clock_every_push_is_of_the_workers_own_next_rollout_under_its_own_snapshot(asynchrony, max_pushes):
    env = counter()
    network = networks.make(CONFIG.network, env, weights_per_worker=True)
    rule = updates.asynchronous(optax.sgd(0.05), W, asynchrony, max_pushes=max_pushes)
    layout = loops.make_layout(CONFIG.rollouts, None, split="workers")
    parts = Parts(env, network, ratio(network), rule, layout, bonus=None, origin=origin(CONFIG.env, CONFIG.network))
    made = algorithm(parts)
    state = jax.jit(made.init)(KEY)
    step = jax.jit(made.step)
    times, uneven = [], False
    for i in range(12):
        state, metrics = step(jax.random.fold_in(KEY, i), state)
        assert metrics.losses["policy_loss"] < 1e-5
        assert metrics.frames == (i + 1) * W * B * T
        times.append(float(metrics.losses["virtual_time"]))
        frames = np.asarray(state.actor_state.env)
        # Whole rollouts, the same for all environments of a worker, as many as there were pushes.
        np.testing.assert_array_equal(frames, np.broadcast_to(frames[:, :1], frames.shape))
        assert (frames % T == 0).all()
        assert frames[:, 0].sum() == (i + 1) * W * T
        uneven |= len(set(frames[:, 0].tolist())) > 1
        assert state.learner.version == (i + 1) * W == state.learner.staleness.sum()
    assert (np.diff(times) > 0).all()
    assert 12 * 0.7 < times[-1] < 12 * 2.5  # about a task's time an iteration
    assert uneven


def test_a_constant_clock_is_round_robin():
    clock = make_train(replace(CONFIG, asynchrony=Asynchrony("clock", Service("constant"))))
    robin = make_train(replace(CONFIG, asynchrony=Asynchrony("round_robin")))
    for losses in (jax.jit(clock)(KEY).metrics.losses, jax.jit(robin)(KEY).metrics.losses):
        np.testing.assert_array_equal(losses["staleness_mean"][1:], W - 1)
        np.testing.assert_array_equal(losses["staleness_max"][1:], W - 1)
        np.testing.assert_array_equal(losses["virtual_time"], np.arange(1, 41))


def test_a_slow_worker_pushes_less_often_and_its_pushes_are_staler():
    service = Service("gamma", 0.3, slowness=(1.0, 1.0, 1.0, 5.0))
    losses = jax.jit(make_train(replace(CONFIG, asynchrony=Asynchrony("clock", service))))(KEY).metrics.losses
    assert abs(losses["staleness_mean"][3:].mean() - (W - 1)) < 0.3  # conserved all the same
    assert losses["staleness_max"].max() > 3 * W - 3
    # Three workers do the work of four, but for what the slow one adds.
    np.testing.assert_allclose(losses["virtual_time"][-1] / 40, W / 3.2, rtol=0.06)


def test_lag_and_service_floats_can_be_mapped_over():
    def staleness(lag):
        settings = Asynchrony(reads="lagged", lag=lag, max_lag=7)
        config = replace(CONFIG, num_workers=1, total_frames=B * T * 30, asynchrony=settings)
        return make_train(config)(KEY).metrics.losses["staleness_mean"]

    lags = jnp.array([0.0, 3.0, 7.0])
    means = jax.jit(jax.vmap(staleness))(lags)
    np.testing.assert_array_equal(means[:, -1], [0, 3, 7])
    np.testing.assert_array_equal(means[2, :9], [0, 1, 2, 3, 4, 5, 6, 7, 7])

    def spread(cv):
        config = replace(CONFIG, asynchrony=Asynchrony("clock", Service("gamma", cv)))
        return make_train(config)(KEY).metrics.losses["staleness_max"].mean()

    narrow, wide = jax.jit(jax.vmap(spread))(jnp.array([0.05, 1.5]))
    assert narrow + 2 < wide


def test_evaluation_maps_over_what_is_traced_in_a_schedule():
    def evaluated(slow):
        config = replace(CONFIG, asynchrony=Asynchrony("clock", Service(slowness=(slow,) * W)))
        return evaluate(config, CONFIG.build().init(KEY), KEY, episodes=3)

    returns = jax.vmap(evaluated)(jnp.array([1.0, 3.0]))
    assert returns.shape == (2, 3)
    np.testing.assert_array_equal(returns[0], returns[1])
