"""How the time of an iteration grows: with environments, workers, parameters and agents.

``python -m benchmarks.scaling`` times A2C, A3C and PPO on CartPole, beside each other. Each line of the figure has the
exponent ``p`` of ``time ~ size^p`` between its last two points, where fixed costs weigh least: 1 is proportional to the
size, 0 costs nothing.
"""

from typing import Any

import jax
import numpy as np
import tyro

from benchmarks.agents import mapped
from benchmarks.figures import caption, color_of, panels
from benchmarks.parts import algorithm_loop
from benchmarks.record import markdown_table, save, spread
from benchmarks.timing import in_turns
from purejaxrl_a3c import a2c, a3c, ppo, replace

A2C, A3C, PPO = (replace(module.Config(), total_frames=2**24) for module in (a2c, a3c, ppo))
ENVS = (64, 256, 1024, 4096)
WORKERS = (1, 4, 16, 64)
ENVS_OF_WORKERS = 256  # in all
WIDTHS = (16, 64, 256, 1024)
ENVS_OF_WIDTHS = 64
AGENTS = (1, 8, 64, 512)


def configs() -> dict[str, dict[str, dict[int, Any]]]:
    """What is timed: by what grows, by algorithm, by size. A size of ``WIDTHS`` becomes a number of parameters."""
    few = {"num_envs": ENVS_OF_WIDTHS}, {"num_workers": 16, "envs_per_worker": ENVS_OF_WIDTHS // 16}
    bases = {"A2C": replace(A2C, **few[0]), "A3C": replace(A3C, **few[1]), "PPO": replace(PPO, **few[0])}
    return {
        "environments": {
            "A2C": {n: replace(A2C, num_envs=n) for n in ENVS},
            "A3C": {n: replace(A3C, num_workers=16, envs_per_worker=n // 16) for n in ENVS},
            "PPO": {n: replace(PPO, num_envs=n) for n in ENVS},
        },
        "workers": {
            "A3C": {n: replace(A3C, num_workers=n, envs_per_worker=ENVS_OF_WORKERS // n) for n in WORKERS},
        },
        "parameters": {
            name: {parameters(config): config for config in (replace(base, hidden_sizes=(n, n)) for n in WIDTHS)}
            for name, base in bases.items()
        },
        "agents": {
            name: dict.fromkeys(AGENTS, config) for name, config in {"A2C": A2C, "A3C": A3C, "PPO": PPO}.items()
        },
    }


def parameters(config: Any) -> int:
    """How many numbers are learned."""
    state = jax.eval_shape(config.build().init, jax.random.key(0))
    return sum(x.size for x in jax.tree.leaves(state.learner.params))


def measure(lines: dict[str, dict[int, Any]], several: bool, repetitions: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of an iteration, ``{algorithm: {size: [repetitions]}}``, of one agent or of as many as the size."""
    loops = {
        (name, size): mapped(config, size) if several else algorithm_loop(config)
        for name, sizes in lines.items()
        for size, config in sizes.items()
    }
    timed = in_turns(loops, repetitions, seconds)
    found: dict[str, Any] = {}
    for (name, size), one in timed.items():
        found.setdefault(name, {})[str(size)] = (1e3 * np.array(one.seconds)).tolist()
    return found


def exponent(times: dict[str, list[float]]) -> float:
    """Of the last two points of a line."""
    sizes, medians = np.array([float(size) for size in times]), np.array([np.median(each) for each in times.values()])
    return float(np.diff(np.log(medians[-2:]))[0] / np.diff(np.log(sizes[-2:]))[0])


def draw(found: dict[str, Any]) -> Any:
    """A panel for each thing that grows."""
    figure, axes = panels(2, 2, height=3.3)
    for one, (what, lines) in zip(axes, found["milliseconds"].items(), strict=True):
        for name, times in lines.items():
            sizes = [float(size) for size in times]
            label = f"{name}, exponent {exponent(times):.2f}"
            one.plot(
                sizes, [np.median(each) for each in times.values()], "o-", color=color_of(name), lw=1.8, label=label
            )
        one.set(xscale="log", yscale="log", xlabel=what, ylabel="ms an iteration")
        if what == "workers":  # less than a factor of ten
            one.set(yscale="linear", ylim=(0, None))
        one.legend(loc="lower right" if what == "workers" else "upper left")
    caption(
        figure, "Medians of several measurements on two CPU cores. Exponents are those between the last two points."
    )
    return figure


def main(repetitions: int = 3, seconds: float = 0.3) -> None:
    """Measure and write results/scaling.json, .md and .png.

    Args:
        repetitions: measurements, in turns.
        seconds: that each takes, about.
    """
    found = {what: measure(lines, what == "agents", repetitions, seconds) for what, lines in configs().items()}
    rows = [
        [f"{name}, {what}", " / ".join(f"{int(size):,}" for size in times), *_cells(times)]
        for what, lines in found.items()
        for name, times in lines.items()
    ]
    table = (
        "Milliseconds of an iteration on CartPole-v1 (median, and range), and the exponent between the last two sizes. "
        f"A3C has 16 workers; {ENVS_OF_WORKERS} environments where their number grows. Networks of two layers; with "
        f"{ENVS_OF_WIDTHS} environments where the parameters grow. Agents have the default settings.\n\n"
    )
    header = ["", "sizes", *(f"ms, size {i}" for i in range(1, 5)), "exponent"]
    save("scaling", {"milliseconds": found}, table + markdown_table(header, rows), draw=draw)


def _cells(times: dict[str, list[float]]) -> list[str]:
    return [*(spread(each, 2) for each in times.values()), f"{exponent(times):.2f}"]


if __name__ == "__main__":
    tyro.cli(main)
