"""Distances between parameters or gradients, and the report of which of them are 0 up to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.claims.common import interval, report
from benchmarks.figures import caption, panels
from benchmarks.record import markdown_table

WORKERS = 8
SAME = 1e-4  # relative: more than sums in another order differ by


def relative(a, b):
    """The distance of two trees over the length of the second."""
    return optax.tree.norm(jax.tree.map(jnp.subtract, a, b)) / optax.tree.norm(b)


def conclude(number, name, claim, found, equal, sizes):
    """Report whether exactly the rows named in ``equal`` are equal."""
    rows = [[row, "{:.1e} ({:.1e} - {:.1e})".format(*interval(values, np.max))] for row, values in found.items()]
    table = "Relative distance (the largest of all seeds, 95 % interval).\n\n" + markdown_table(["", "distance"], rows)
    largest = {row: values.max() for row, values in found.items()}
    smallest = {row: values.min() for row, values in found.items()}
    others = [row for row in found if row not in equal]
    holds = all(largest[row] < SAME for row in equal) and all(smallest[row] > SAME for row in others)
    sentence = "; ".join(
        [f"{row}: {'the same' if largest[row] < SAME else 'not the same'}, within {largest[row]:.0e}" for row in equal]
        + [f"{row}: {smallest[row]:.0e} or more apart" for row in others]
    )
    verdict = "confirmed" if holds else "refuted"
    report(number, name, claim, verdict, sentence + ".", table, draw, {"distances": found}, sizes)


def draw(found):
    """Figure of the distances, a dot for each seed."""
    distances = found["distances"]
    figure, (axes,) = panels(columns=1, height=1.5 + 0.45 * len(distances))
    figure.set_figwidth(9)
    for i, values in enumerate(reversed(distances.values())):
        color = "C0" if max(values) < SAME else "C3"
        # A distance of 0 has no place on a logarithmic axis.
        axes.plot(np.maximum(values, 1e-9), np.full(len(values), i), "o", color=color, alpha=0.6, ms=7)
    axes.axvline(SAME, color="0.3", ls=":")
    axes.set(yticks=range(len(distances)), yticklabels=list(reversed(distances)), xscale="log", xlim=(5e-10, 10))
    axes.set(xlabel="relative distance", ylim=(-0.5, len(distances) - 0.5))
    axes.set_title("left of the line (blue): the same up to rounding")
    caption(figure, f"Each dot is one of {len(found['seeds'])} seeds.")
    return figure
