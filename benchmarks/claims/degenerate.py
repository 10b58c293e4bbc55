"""Experiment 2: which runs of A3C are runs of A2C."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.claims.common import main
from benchmarks.claims.distances import WORKERS, conclude, draw, relative
from purejaxrl_a3c import a2c, a3c, loops, make_train, objectives, updates
from purejaxrl_a3c.config import replace

__all__ = ["draw", "measure"]


def schedules(keys):
    """Distance of the parameters of runs that should, or should not, be A2C's, from A2C's."""
    sizes: dict[str, Any] = {"rollout_length": 5, "total_frames": 5 * WORKERS * 60, "learning_rate": 1e-3}
    one = replace(a3c.Config(), num_workers=1, envs_per_worker=WORKERS, **sizes)
    lagged = updates.Asynchrony(reads="lagged", lag=0.0, max_lag=4)
    runs = {
        "A3C with one worker": one,
        "a delay line of length 0": replace(one, asynchrony=lagged),
        "a delay line of length 4": replace(one, asynchrony=replace(lagged, lag=4.0)),
        f"A3C with {WORKERS} workers": replace(a3c.Config(), num_workers=WORKERS, envs_per_worker=1, **sizes),
    }

    def final(config):
        return jax.jit(jax.vmap(make_train(config)))(keys).state.learner.params

    lockstep = final(replace(a2c.Config(), num_envs=WORKERS, **sizes))
    return {name: np.asarray(jax.vmap(relative)(final(config), lockstep)) for name, config in runs.items()}


def pushes(key):
    """One round of pushes, all from the same parameters, against one update with the mean gradient."""
    config = replace(a3c.Config(), num_workers=WORKERS, envs_per_worker=4, rollout_length=20, total_frames=WORKERS * 80)

    def push_each(optimizer):
        return updates.asynchronous(optimizer, WORKERS, updates.Asynchrony())

    def run(make_optimizer):
        def step(make_rule, workers, rate):
            rollouts = replace(config.rollouts, num_workers=workers, envs_per_worker=4 * WORKERS // workers)
            algorithm = loops.on_policy(
                config.env,
                config.network,
                config.objective.gamma,
                loops.make_layout(rollouts, None),
                partial(objectives.policy_gradient, config=config.objective),
                make_rule(make_optimizer(rate)),
            )
            key_init, key_step = jax.random.split(key)
            state = algorithm.init(key_init)
            after = algorithm.step(key_step, state)[0].learner.params
            return jax.tree.map(jnp.subtract, after, state.learner.params)

        one_by_one = step(push_each, WORKERS, 0.1 / WORKERS)
        return relative(one_by_one, step(updates.synchronous, 1, 0.1))

    return {
        f"{WORKERS} pushes of SGD at rate / {WORKERS}": run(optax.sgd),
        f"{WORKERS} pushes of RMSProp at rate / {WORKERS}": run(lambda rate: optax.rmsprop(rate, decay=0.9)),
    }


def measure(sizes):
    """Distances between runs that should be equal, over seeds."""
    keys = jax.vmap(jax.random.key)(np.arange(sizes.seeds))
    found = schedules(keys) | jax.tree.map(np.asarray, jax.jit(jax.vmap(pushes))(keys))
    names = ["A3C with one worker", "a delay line of length 0", f"{WORKERS} pushes of SGD at rate / {WORKERS}"]
    found = {name: found[name] for name in (*names, *sorted(found))}
    conclude(2, "degenerate", "A3C with one worker, or without staleness, is A2C.", found, names, sizes)


if __name__ == "__main__":
    main(measure)
