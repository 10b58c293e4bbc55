"""Experiments 1 and 2: where A2C and A3C are one and the same, and where they are not."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.claims.common import interval, main, panels, report
from benchmarks.record import markdown_table
from purejaxrl_a3c import a2c, a3c, make_train, objectives, updates
from purejaxrl_a3c.loops.on_policy import build
from purejaxrl_a3c.objectives import returns

WORKERS = 8
SAME = 1e-4  # relative: what sums in another order differ by


def relative(a, b):
    """The distance of two trees over the length of the second."""
    return optax.tree.norm(jax.tree.map(jnp.subtract, a, b)) / optax.tree.norm(b)


def keep_trajectories(network, config):
    """A rule in A2C's place that learns nothing and keeps its parameters and what it is given."""
    objective = objectives.policy_gradient(network, config)

    def init(key, params):
        return params, None

    def update(key, learner, _, trajectories, turn=None):
        nothing = ("policy_loss", "value_loss", "entropy", "value_mean", "gradient_norm", "staleness")
        return (learner[0], trajectories), {name: jnp.zeros(1) for name in nothing}

    return objective, updates.synchronous(optax.identity())._replace(
        init=init, actor=lambda learner: jax.tree.map(lambda x: x[None], learner[0]), update=update
    )


def gradients(key):
    """A batch's gradient, and the mean of its workers' gradients, plain, clipped and with normalised advantages."""
    config = a2c.Config(num_envs=4 * WORKERS, rollout_length=20)
    algorithm = build(config, objectives.policy_gradient, updates.synchronous, num_workers=1, envs_per_worker=32)
    objective, rule = keep_trajectories(algorithm.network, config)
    acting = build(config, objectives.policy_gradient, lambda _: rule, num_workers=1, envs_per_worker=32)
    key_init, key_step = jax.random.split(key)
    state = acting.init(key_init)
    (params, _), position, iteration = state
    # Two updates of A2C, so that the values are no longer those of a fresh network.
    params = make_train(replace(config, total_frames=32 * 20 * 10))(key_init).state.learner.params
    state, _ = acting.step(key_step, state._replace(learner=(params, None), position=position, iteration=iteration))
    rows = jax.tree.map(lambda x: x[0], state.learner[1])
    batch = objective.prepare(params, rows)
    shares = jax.tree.map(lambda x: x.reshape(WORKERS, -1, *x.shape[1:]), batch)

    def gradient(batch):
        return jax.grad(objective.loss, has_aux=True)(params, batch)[0]

    def normalised(batch):
        """The policy's gradient with advantages of mean 0 and deviation 1."""
        trajectories, bootstrap = batch
        outputs = algorithm.network.unroll(params, trajectories.carry, trajectories.obs, trajectories.first)[1]
        last = trajectories.terminated | trajectories.truncated
        advantage = jax.vmap(partial(returns.gae, lambda_=config.lambda_))(
            outputs.value,
            jax.vmap(objectives.successor_values)(outputs.value, bootstrap, last),
            trajectories.reward,
            config.gamma * (1.0 - trajectories.terminated),
            last,
        ).advantage
        scaled = jax.lax.stop_gradient((advantage - advantage.mean()) / (advantage.std() + 1e-8))

        def loss(params):
            _, outputs = algorithm.network.unroll(params, trajectories.carry, trajectories.obs, trajectories.first)
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
        "every worker normalises its own advantages": relative(mean(jax.vmap(normalised)(shares)), normalised(batch)),
    }


def schedules(keys):
    """Distance of the parameters of runs that should, or should not, be A2C's, from A2C's."""
    sizes: dict[str, Any] = {"rollout_length": 5, "total_frames": 5 * WORKERS * 60, "learning_rate": 1e-3}
    one = a3c.Config(num_workers=1, envs_per_worker=WORKERS, **sizes)
    lagged = updates.Asynchrony(reads="lagged", lag=0.0, max_lag=4)
    runs = {
        "A3C with one worker": one,
        "a delay line of length 0": replace(one, asynchrony=lagged),
        "a delay line of length 4": replace(one, asynchrony=replace(lagged, lag=4.0)),
        f"A3C with {WORKERS} workers": a3c.Config(num_workers=WORKERS, envs_per_worker=1, **sizes),
    }

    def final(config):
        return jax.jit(jax.vmap(make_train(config)))(keys).state.learner.params

    lockstep = final(a2c.Config(num_envs=WORKERS, **sizes))
    return {name: np.asarray(jax.vmap(relative)(final(config), lockstep)) for name, config in runs.items()}


def pushes(key):
    """One round of pushes, all from the same parameters, against one update with the mean gradient."""
    config = a3c.Config(num_workers=WORKERS, envs_per_worker=4, rollout_length=20, total_frames=WORKERS * 80)

    def run(make_optimizer):
        def step(make_rule, workers, rate):
            algorithm = build(
                config,
                objectives.policy_gradient,
                lambda _: make_rule(make_optimizer(rate)),
                num_workers=workers,
                envs_per_worker=4 * WORKERS // workers,
            )
            key_init, key_step = jax.random.split(key)
            state = algorithm.init(key_init)
            after = algorithm.step(key_step, state)[0].learner.params
            return jax.tree.map(jnp.subtract, after, state.learner.params)

        one_by_one = step(lambda optimizer: updates.asynchronous(optimizer, WORKERS), WORKERS, 0.1 / WORKERS)
        return relative(one_by_one, step(updates.synchronous, 1, 0.1))

    return {
        f"{WORKERS} pushes of SGD at rate / {WORKERS}": run(optax.sgd),
        f"{WORKERS} pushes of RMSProp at rate / {WORKERS}": run(lambda rate: optax.rmsprop(rate, decay=0.9)),
    }


def conclude(number, name, claim, found, equal, sizes):
    """Report whether exactly the rows named in ``equal`` are equal."""
    rows = [[row, "{:.1e} ({:.1e} - {:.1e})".format(*interval(values, np.max))] for row, values in found.items()]
    table = "Relative distance (the largest of all seeds, 95 % interval).\n\n" + markdown_table(["", "distance"], rows)
    largest = {row: values.max() for row, values in found.items()}
    smallest = {row: values.min() for row, values in found.items()}
    others = [row for row in found if row not in equal]
    holds = all(largest[row] < SAME for row in equal) and all(smallest[row] > SAME for row in others)
    figure, (axes,) = panels(width=8, height=0.6 + 0.5 * len(found))
    for i, (row, values) in enumerate(reversed(found.items())):
        axes.plot(np.maximum(values, 1e-9), np.full(len(values), i), "o", color="C0" if row in equal else "C3")
    axes.axvline(SAME, color="0.5", ls=":")
    axes.set(yticks=range(len(found)), yticklabels=list(reversed(found)), xscale="log")
    axes.set(xlabel="relative distance; left of the line: the same up to rounding; a dot is a seed")
    sentence = "; ".join(
        [f"{row}: {'the same' if largest[row] < SAME else 'not the same'}, within {largest[row]:.0e}" for row in equal]
        + [f"{row}: {smallest[row]:.0e} or more apart" for row in others]
    )
    verdict = "confirmed" if holds else "refuted"
    report(number, name, claim, verdict, sentence + ".", table, figure, {"distances": found}, sizes, "equalities")


def measure(sizes):
    """Distances between runs and gradients that should be equal, over seeds."""
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
    found = schedules(keys) | jax.tree.map(np.asarray, jax.jit(jax.vmap(pushes))(keys))
    names = ["A3C with one worker", "a delay line of length 0", f"{WORKERS} pushes of SGD at rate / {WORKERS}"]
    found = {name: found[name] for name in (*names, *sorted(found))}
    conclude(2, "degenerate", "A3C with one worker, or without staleness, is A2C.", found, names, sizes)


if __name__ == "__main__":
    main(measure)
