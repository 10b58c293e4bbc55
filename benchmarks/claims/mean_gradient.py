"""Experiment 1: whether A2C's gradient is the mean of its workers' gradients."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.claims.common import main
from benchmarks.claims.distances import WORKERS, conclude, draw, relative
from purejaxrl_a3c import a2c, loops, make_train, objectives
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.objectives import returns
from purejaxrl_a3c.types import UpdateRule

__all__ = ["draw", "measure"]


class Kept(NamedTuple):
    """The learner of `keep_trajectories`."""

    params: Any
    trajectories: Any  # of the last rollout, [1, B, T]; None before the first one


def keep_trajectories():
    """A rule in the place of A2C's that learns nothing, and keeps its parameters and the trajectories."""

    def update(key, learner, objective, trajectories):
        return Kept(learner.params, trajectories), {"staleness": jnp.zeros(1)}

    return UpdateRule(
        init=lambda key, params: Kept(params, None),
        actor=lambda learner: jax.tree.map(lambda x: x[None], learner.params),
        update=update,
        split=lambda learner: jax.tree.map(lambda _: -1, learner),
    )


def gradients(key):
    """A batch's gradient, and the mean of its workers' gradients, plain, clipped and with normalized advantages."""
    config = replace(a2c.Config(), num_envs=4 * WORKERS, rollout_length=20)
    make_objective = partial(objectives.policy_gradient, config=config.objective)
    acting = loops.on_policy(
        config.env,
        config.network,
        config.objective.gamma,
        loops.make_layout(config.rollouts, None),
        make_objective,
        keep_trajectories(),
    )
    network = acting.network
    objective = make_objective(network, estimator=objectives.extrinsic(network, config.objective.gamma))
    key_init, key_step = jax.random.split(key)
    # Ten updates of A2C, so that the values are no longer those of a fresh network.
    params = make_train(replace(config, total_frames=32 * 20 * 10))(key_init).state.learner.params
    state, _ = acting.step(key_step, acting.init(key_init)._replace(learner=Kept(params, None)))
    rows = jax.tree.map(lambda x: x[0], state.learner.trajectories)
    batch = objective.prepare(params, rows)
    shares = jax.tree.map(lambda x: x.reshape(WORKERS, -1, *x.shape[1:]), batch)

    def gradient(batch):
        return jax.grad(objective.loss, has_aux=True)(params, batch)[0]

    def normalized(batch):
        """The policy's gradient with advantages of mean 0 and standard deviation 1."""
        trajectories, bootstrap = batch
        outputs = network.unroll(params, trajectories.carry, trajectories.obs, trajectories.first)[1]
        last = trajectories.terminated | trajectories.truncated
        advantage = jax.vmap(partial(returns.gae, gae_lambda=config.objective.gae_lambda))(
            outputs.value,
            jax.vmap(objectives.successor_values)(outputs.value, bootstrap, last),
            trajectories.reward,
            config.objective.gamma * (1.0 - trajectories.terminated),
            last,
        ).advantage
        scaled = jax.lax.stop_gradient((advantage - advantage.mean()) / (advantage.std() + 1e-8))

        def loss(params):
            _, outputs = network.unroll(params, trajectories.carry, trajectories.obs, trajectories.first)
            return -(outputs.policy.log_prob(trajectories.action) * scaled).mean()

        return jax.grad(loss)(params)

    def clipped(tree):
        return jax.tree.map(lambda x: x * jnp.minimum(1, 0.5 / optax.tree.norm(tree)), tree)

    def mean(trees):
        return jax.tree.map(lambda x: x.mean(0), trees)

    whole = gradient(batch)
    each = jax.vmap(gradient)(shares)
    return {
        "plain": relative(mean(each), whole),
        "every worker clips its own": relative(mean(jax.vmap(clipped)(each)), clipped(whole)),
        "every worker normalises its own advantages": relative(mean(jax.vmap(normalized)(shares)), normalized(batch)),
    }


def measure(sizes):
    """Distances between gradients that should be equal, over seeds."""
    keys = jax.vmap(jax.random.key)(np.arange(sizes.seeds))
    found = jax.tree.map(np.asarray, jax.jit(jax.vmap(gradients))(keys))
    conclude(
        1,
        "mean_gradient",
        "A2C's gradient is the mean of its workers' gradients.",
        {name: found[name] for name in ("plain", "every worker clips its own", *sorted(found)) if name in found},
        ["plain"],
        sizes,
    )


if __name__ == "__main__":
    main(measure)
