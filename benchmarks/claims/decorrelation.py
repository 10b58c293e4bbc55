"""Experiment 5: how many independent samples a batch of 64 frames is worth, against the environments it is from.

A batch is N environments x 64 / N steps. Its effective sample size is the variance of a single sample over the mean
squared distance of a batch's mean from the long-run mean, over many batches. For a stationary chain that is
B / (1 + 2 sum_k rho_k), with the autocorrelation rho (Sokal 1997), but it also sees correlation between environments:
those that were reset together stay in phase until their episodes have ended at different times. The samples are the
critic's estimates of the value, under a policy that is trained briefly and then held fixed.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.claims.common import interval, main, report, seeds_note, sweep
from benchmarks.figures import OTHER_COLORS, caption, panels
from benchmarks.record import markdown_table
from purejaxrl_a3c import a2c, make_train
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.envs import Wrappers
from purejaxrl_a3c.loops import rollout

BATCH = 64  # frames
ENVS = (1, 2, 4, 8, 16, 32, 64)
STAGGERS = (0, 500)  # frames; CartPole's longest episode has 500
FRAMES = 50_000  # of the training of the policy
LANES, STEPS = 512, 1536  # of the simulation
WINDOW = 64  # steps over which batches are pooled, to see their size change with time
EARLY, LATE = slice(0, 256), slice(STEPS // 2, STEPS)  # steps since the start
CASES = {  # which of the staggers, and when
    "resets staggered, late": (1, LATE),
    "reset together, late": (0, LATE),
    f"reset together, first {EARLY.stop} steps": (0, EARLY),
}


def config(stagger):
    wrappers = Wrappers(stagger_resets=stagger)
    return replace(a2c.Config(), total_frames=FRAMES, learning_rate=1e-2, hidden_sizes=(32,), wrappers=wrappers)


def act(key, params, stagger):
    """Values [LANES, STEPS] of environments that all start at step 0."""
    algorithm = config(stagger).build()
    env, network = algorithm.env, algorithm.network
    key_start, key_act = jax.random.split(key)
    positions = jax.vmap(lambda key: rollout.start(env, network, key))(jax.random.split(key_start, LANES))
    noise, keys = rollout.draw(network, key_act, jnp.arange(LANES * STEPS).reshape(LANES, STEPS))
    lane = jax.vmap(lambda *random: rollout.unroll(env, network, params, *random))
    _, trajectories = lane(positions, noise, keys)
    return network.unroll(params, network.carry(), trajectories.obs, trajectories.first)[1].value


def error(deviations, num_envs):
    """Mean square of the means of batches, of deviations [LANES, steps] from the long-run mean."""
    steps = BATCH // num_envs
    return (deviations.reshape(LANES // num_envs, num_envs, -1, steps).mean((1, 3)) ** 2).mean()


def measure(sizes):
    """Effective sample size of a batch of fixed size against the number of environments."""

    def run(key):
        params = make_train(config(0))(key).state.learner.params
        values = jnp.stack([act(jax.random.fold_in(key, stagger), params, stagger) for stagger in STAGGERS])
        # By then the staggered environments are in every phase of their episodes: this is the long run.
        deviations = values - values[1][:, LATE].mean()
        variance = (deviations[1][:, LATE] ** 2).mean()
        by_envs = [[variance / error(deviations[i][:, when], n) for n in ENVS] for i, when in CASES.values()]
        windows = jnp.moveaxis(deviations.reshape(len(STAGGERS), LANES, -1, WINDOW), 2, 1)
        by_time = variance / jax.vmap(jax.vmap(lambda x: error(x, max(ENVS))))(windows)
        return jnp.array(by_envs), by_time

    by_envs, by_time = sweep(run, {}, sizes.seeds, batch=1)  # [seeds, cases, envs], [seeds, staggers, windows]

    def cell(values, form="{:.1f} ({:.1f} to {:.1f})"):
        return form.format(*interval(values))

    rows = [[n, *(cell(by_envs[:, case, i]) for case in range(len(CASES)))] for i, n in enumerate(ENVS)]
    table = (
        f"Effective samples in a batch of {BATCH} frames of CartPole-v1 "
        "(interquartile mean over seeds, 95 % interval).\n\n" + markdown_table(["environments", *CASES], rows)
    )
    staggered = np.log2(by_envs[:, 0]).T  # [envs, seeds]
    overall = interval(staggered[-1] - staggered[0])
    second = cell(by_envs[:, 0, 1] / by_envs[:, 0, 0], "{:.2f} ({:.2f} to {:.2f})")
    power = cell((staggered[-1] - staggered[2]) / np.log2(ENVS[-1] / ENVS[2]), "{:.2f} ({:.2f} to {:.2f})")
    report(
        5,
        "decorrelation",
        "Parallel environments decorrelate a batch.",
        "confirmed" if overall[1] > 0 else "refuted" if overall[2] < 0 else "not decided",
        f"with staggered resets a batch of {BATCH} frames is worth {rows[0][1]} independent samples from 1 environment "
        f"and {rows[-1][1]} from {ENVS[-1]}. The second environment multiplies them by {second}; from {ENVS[2]} on "
        f"they grow like N^{power}. Environments that were all reset together are in phase at first: over their first "
        f"{EARLY.stop} steps {ENVS[-1]} of them are worth {rows[-1][3]}.",
        table,
        draw,
        {"environments": ENVS, "cases": list(CASES), "effective": by_envs, "effective_by_time": by_time},
        sizes._replace(frames=FRAMES),
    )


def draw(found):
    """Figure of the effective samples against the number of environments, and against time."""
    sizes, by_time = found["environments"], np.array(found["effective_by_time"])
    figure, (left, right) = panels(2, height=4.4)
    for color, label, values in zip(
        OTHER_COLORS, found["cases"], np.array(found["effective"]).transpose(1, 2, 0), strict=False
    ):
        middle, low, high = interval(values)
        left.fill_between(sizes, low, high, color=color, alpha=0.2, lw=0)
        left.plot(sizes, middle, "o-", color=color, label=label)
    left.plot(sizes, sizes, ":", color="0.4", label="as many as environments")
    left.set(xscale="log", yscale="log", xticks=sizes, xticklabels=sizes, yticks=sizes, yticklabels=sizes)
    left.set(xlabel=f"environments in a batch of {BATCH} frames", ylabel="effective samples in the batch")
    left.set_title("more environments, more independent samples")
    left.minorticks_off()
    left.legend(loc="upper left")
    time = WINDOW * (np.arange(by_time.shape[-1]) + 0.5)
    labels = {"reset together": OTHER_COLORS[1], "staggered": OTHER_COLORS[0]}
    for (label, color), values in zip(labels.items(), by_time.transpose(1, 2, 0), strict=True):
        middle, low, high = interval(values)
        right.fill_between(time, low, high, color=color, alpha=0.2, lw=0)
        right.plot(time, middle, color=color, label=label)
    right.axhline(BATCH, ls=":", color="0.4", label="independent samples")
    right.set(xlabel="steps of every environment since the start", ylim=(0, None))
    right.set_title(f"{max(sizes)} environments x 1 step")
    right.legend(loc="lower right")
    caption(figure, seeds_note(found, "bands"))
    return figure


if __name__ == "__main__":
    main(measure)
