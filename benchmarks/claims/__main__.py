"""All claims, one after another, and the page about them: ``python -m benchmarks.claims [--full] [--page-only]``."""

import importlib
from pathlib import Path

import tyro

from benchmarks import record
from benchmarks.claims.common import DEFAULT, FULL

SCRIPTS = (
    "mean_gradient",
    "degenerate",
    "staleness",
    "corrections",
    "decorrelation",
    "coverage",
    "nstep",
    "entropy",
    "momentum",
    "threads",
    "speedup",
    "stragglers",
    "policy_lag",
    "stale_ppo",
    "best_correction",
    "best_rate",
    "sample_size",
    "discarding",
    "bounded",
    "periodic",
)
"""Each writes the result of the same name."""
PAGE = Path(__file__).parent / "README.md"
HEAD = """# The claims of the tutorials, as measurements

What tutorials say of A3C, A2C and their parts, each put to a test by a short script. Learning rates are swept for
each arm, so that no claim is decided by one shared rate; figures are interquartile means over {least} to {most} seeds
with bootstrap 95 % intervals. Claims 3, 4, 8, 9, 11 and 13 are decided on CartPole, Acrobot and Catch together, seeds
resampled within each; points of 100 are the way from the lowest to the highest return of a task. Most others are about
CartPole-v1. All networks are small: a verdict is about that, not about all of reinforcement learning. From 14 on the
claims are about PPO with rollouts of older parameters, as in asynchronous training of large models.
`python -m benchmarks.claims` measures everything again and writes this page.
"""


def page() -> str:
    """The page as text, from the results that are there."""
    found = {name: record.load(f"claims/{name}") for name in SCRIPTS}
    found = {name: result for name, result in found.items() if result}
    found = dict(sorted(found.items(), key=lambda item: item[1]["number"]))
    seeds = [len(result["seeds"]) for result in found.values() if "seeds" in result]
    parts = [HEAD.format(least=min(seeds), most=max(seeds))]
    rows = "".join(f"| {x['number']} | {x['claim']} | {x['verdict']} |\n" for x in found.values())
    parts.append("| | claim | verdict |\n| ---: | --- | --- |\n" + rows)
    for name, result in found.items():
        stem = f"../results/claims/{name}"
        parts.append(
            f"## {result['number']}. {result['claim']}\n\n![{result['claim']}]({stem}.png)\n\n"
            f"**{result['verdict'].capitalize()}**: {result['sentence']} ([table]({stem}.md), [script]({name}.py))\n"
        )
    return "\n".join(parts)


def main(full: bool = False, page_only: bool = False) -> None:
    """Measure all claims and write the page.

    Args:
        full: more seeds and frames, for a GPU.
        page_only: write the page from the results that are there.
    """
    for name in () if page_only else SCRIPTS:
        importlib.import_module(f"benchmarks.claims.{name}").measure(FULL if full else DEFAULT)
    PAGE.write_text(page())


if __name__ == "__main__":
    tyro.cli(main)
