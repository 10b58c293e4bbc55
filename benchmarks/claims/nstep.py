"""Experiment 7: bias and variance of the n-step return, where both are known.

A random walk on FrozenLake's 4x4 map: every move is north, east, south or west with probability 1/4, which is what
the uniformly random policy makes of slippery ice and of dry ice alike. Its values V solve a linear system. The return
over n steps bootstraps from an estimate that is wrong by a fixed normal error in every state. What a learner moves
towards is a mean over a batch of such targets, whose mean squared error is bias^2 + variance / size of the batch.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.claims.common import interquartile_mean, interval, main, report, seeds_note, sweep
from benchmarks.figures import OTHER_COLORS, caption, panels, shades
from benchmarks.record import markdown_table
from purejaxrl_a3c.objectives import returns

MAP = np.array(list("SFFFFHFHFFFHHFFG"))  # start, frozen, hole, goal; rows of four
GAMMA = 0.99
ERROR = 0.1  # standard deviation of the estimate's error
LENGTH = 128  # steps of a trajectory: all but one in a million have ended by then
STEPS = (1, 2, 5, 10, 20, LENGTH)
LABELS = (*map(str, STEPS[:-1]), "all")
BATCHES = (1, 16, 256)  # 16: one target from each of A2C's 16 environments
TRAJECTORIES = 4096  # from every cell

LIVE = ~np.isin(MAP, ("H", "G"))  # cells that do not end the episode
ROWS, COLUMNS = np.divmod(np.arange(16), 4)
NEXT = np.stack(  # [cell, move]
    [4 * (ROWS + dy).clip(0, 3) + (COLUMNS + dx).clip(0, 3) for dy, dx in ((-1, 0), (0, 1), (1, 0), (0, -1))], 1
)


def exact_values():
    """V of every cell, float [16]; 0 where the episode has ended."""
    transition = np.eye(16)[NEXT].mean(1) * LIVE[:, None]
    return np.linalg.solve(np.eye(16) - GAMMA * transition * LIVE, transition @ (MAP == "G"))


def errors_of_means(squared_bias, variance):
    """Mean squared errors of means of targets, ``[batches, n, seeds]``, from those of one target, ``[seeds, n]``."""
    return np.stack([(squared_bias + variance / batch).T for batch in BATCHES])


def measure(sizes):
    """Bias, variance and mean squared error of the n-step return against n."""
    exact, live, successors = jnp.asarray(exact_values()), jnp.asarray(LIVE), jnp.asarray(NEXT)
    goal = jnp.asarray(MAP == "G")

    def targets(key, estimate, cell):
        """The n-step return of one trajectory from ``cell``, for each n."""

        def move(cell, direction):
            return (successors[cell, direction],) * 2

        _, reached = jax.lax.scan(move, cell, jax.random.randint(key, (LENGTH,), 0, 4))
        acted = jnp.concatenate([cell[None], reached[:-1]])
        # What lies behind the end of the episode is cut off by `last`, as it is in a rollout that goes on.
        steps = estimate[acted], estimate[reached], goal[reached].astype(float), GAMMA * live[reached], ~live[reached]
        # A block's end bootstraps, so a block of n steps is all that the return of its first step takes.
        found = [returns.n_step(*(x[:n] for x in steps), n=n).value[0] for n in STEPS]
        return jnp.stack(found)

    def run(key):
        key_error, key_walk = jax.random.split(key)
        error = ERROR * jax.random.normal(key_error, (16,)) * live
        cells = jnp.flatnonzero(live, size=LIVE.sum())
        keys = jax.random.split(key_walk, (LIVE.sum(), TRAJECTORIES))
        sample = jax.vmap(jax.vmap(targets, (0, None, None)), (0, None, 0))(keys, exact + error, cells)
        variance = sample.var(1, ddof=1)  # [cells, n]
        standard_error = jnp.sqrt(variance / TRAJECTORIES)
        bias = sample.mean(1) - exact[cells][:, None]
        bound = GAMMA ** jnp.array(STEPS) * jnp.abs(error).max()
        # The square of a mean is too large by the mean's variance, on average.
        squared_bias = (bias**2 - standard_error**2).mean(0)
        return squared_bias, variance.mean(0), (jnp.abs(bias) <= bound + 5 * standard_error).all()

    squared_bias, variance, bounded = sweep(run, {}, sizes.seeds, batch=1)  # [seeds, n]
    errors = errors_of_means(squared_bias, variance)

    columns = [squared_bias.T, variance.T, *errors]
    rows = [[n, *("{:.2g} ({:.2g} to {:.2g})".format(*interval(x[i])) for x in columns)] for i, n in enumerate(LABELS)]
    header = ["n", "squared bias", "variance", *(f"error, mean of {batch}" for batch in BATCHES)]
    table = (
        f"Mean over the {LIVE.sum()} cells of a start, for an estimate with errors of standard deviation {ERROR} "
        "(interquartile mean over seeds, 95 % interval).\n\n" + markdown_table(header, rows)
    )

    draws = np.random.default_rng(0).integers(sizes.seeds, size=(5000, sizes.seeds))
    best = [np.argmin(interquartile_mean(error, -1)) for error in errors]
    where = [np.percentile(interquartile_mean(error[:, draws], -1).argmin(0), [2.5, 97.5]) for error in errors]
    minima = [f"{LABELS[b]} ({LABELS[int(lo)]} to {LABELS[int(hi)]})" for b, (lo, hi) in zip(best, where, strict=True)]
    # Differences within a seed: the ends of the curve share errors and trajectories.
    bias_falls = interval(squared_bias[:, 0] - squared_bias[:, -1])
    variance_grows = interval(np.diff(variance, axis=1).T)
    ends = [interval(errors[1][end] - errors[1][best[1]]) for end in (0, -1)]
    trades = bias_falls[1] > 0 and variance_grows[1].min() > 0 and bounded.all()
    u_shape = min(low for _, low, _ in ends) > 0
    reverse = bias_falls[2] < 0 or variance_grows[2].min() < 0 or not bounded.all()
    report(
        7,
        "nstep",
        "n-step returns trade bias for variance.",
        "confirmed" if trades and u_shape else "refuted" if reverse else "not decided",
        f"from n = 1 to Monte Carlo the squared bias falls by {bias_falls[0]:.2g} ({bias_falls[1]:.2g} to "
        f"{bias_falls[2]:.2g}) and the variance grows from {rows[0][2]} to {rows[-1][2]};"
        f" |bias| <= gamma^n max|error| holds in {bounded.sum()} of {sizes.seeds} seeds. For a mean of {BATCHES[1]} "
        f"targets the best n is {minima[1]}, and the error at n = 1 is {ends[0][0]:.2g} ({ends[0][1]:.2g} to "
        f"{ends[0][2]:.2g}) and that of Monte Carlo {ends[1][0]:.2g} ({ends[1][1]:.2g} to {ends[1][2]:.2g}) above it; "
        f"for a single target the best n is {minima[0]}, for a mean of {BATCHES[2]} {minima[2]}.",
        table,
        draw,
        {"seeds": list(range(sizes.seeds)), "steps": STEPS, "squared_bias": squared_bias, "variance": variance},
    )


def draw(found):
    """Figure of bias and variance, and of the error of means of targets, against n."""
    squared_bias, variance = np.array(found["squared_bias"]), np.array(found["variance"])
    errors = errors_of_means(squared_bias, variance)
    place = range(len(found["steps"]))
    figure, axes = panels(2, height=4.4)
    for one, curves, labels, colors in (
        (axes[0], (squared_bias.T, variance.T), ("squared bias", "variance of one target"), OTHER_COLORS),
        (axes[1], errors, ("one target", *(f"mean of {batch} targets" for batch in BATCHES[1:])), shades(len(BATCHES))),
    ):
        for color, curve, label in zip(colors, curves, labels, strict=False):
            middle, low, high = interval(curve)
            one.fill_between(place, low, high, color=color, alpha=0.2, lw=0)
            one.plot(place, middle, "o-", color=color, label=label)
            if one is axes[1]:
                one.plot(np.argmin(middle), middle.min(), "o", ms=14, mfc="none", color=color)
        one.set(xticks=place, xticklabels=LABELS, xlabel="n, rewards in the return (all: Monte Carlo)")
    axes[0].set(ylabel="squared units of return", title="longer returns: less bias, more variance")
    axes[1].set(ylabel="mean squared error of the target", title="the best n (ringed) grows with the batch")
    # Estimates of a squared bias near 0 may be negative.
    axes[0].set_yscale("symlog", linthresh=1e-5)
    axes[0].set_ylim(-1e-5, 0.2)
    axes[1].set_yscale("log")
    axes[0].legend(loc="lower left")
    axes[1].legend(loc="upper left")
    axes[1].set_ylim(top=2)
    caption(figure, seeds_note(found, "bands"))
    return figure


if __name__ == "__main__":
    main(measure)
