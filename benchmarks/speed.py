"""Frames per second beside the parts of an iteration, each measured alone in the same run.

``python -m benchmarks.speed`` measures what a CPU can do in some ten minutes, ``--suite gpu`` what fills a GPU. Every
figure is the median of several repetitions, taken in turn (A B C A B C ...), because the speed of a shared machine
drifts; every ratio of two times is a median of ratios within one turn.

`benchmarks.parts` says what the parts are. The *sum of the parts* is act + learn: what no implementation that acts and
learns in turn can do without. The *acting ceiling* of an environment is the fastest acting of the run: environments and
policy, without learning. A last table says what the parts ask of the machine (`benchmarks.roofline`).
"""

import subprocess
import sys
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from benchmarks import parts, roofline
from benchmarks.figures import caption, color_of, legend_above, panels
from benchmarks.peers.processes import compile_sources
from benchmarks.record import ROOT, markdown_table, put_into_page, save
from benchmarks.timing import in_turns, rate
from purejaxrl_a3c import a2c, a3c, ppo
from purejaxrl_a3c.config import replace

PAGE = ROOT / "benchmarks" / "speed.md"
WORKERS = 16
COMPILED, COMPILATIONS = ("a3c", "a2c", "ppo"), 5  # default runs whose compilation is timed, and how often
FOREVER = 1_000_000_000  # frames: the learning rate does not reach 0 while we measure
MINATAR: dict[str, Any] = {"torso": "minatar", "hidden_sizes": (128,), "activation": "relu", "shared_torso": True}
LSTM: dict[str, Any] = {"core": "lstm", "shared_torso": True}


class Case(NamedTuple):
    """Algorithms on as many environments, with rollouts as long and the same network, which share their parts."""

    title: str
    num_envs: int
    configs: dict[str, Any]


def actor_critics(title, num_envs, **changes):
    """A2C and A3C on rollouts of 5 steps, as in Mnih et al. 2016; 2x64 tanh unless ``changes`` say otherwise."""
    shared: dict[str, Any] = {"rollout_length": 5, "gae_lambda": 1.0, "total_frames": FOREVER} | changes
    each = num_envs // WORKERS
    return Case(
        title,
        num_envs,
        {
            "A2C": replace(a2c.Config(), num_envs=num_envs, **shared),
            "A3C": replace(a3c.Config(), num_workers=WORKERS, envs_per_worker=each, **shared),
        },
    )


def proximal(title, num_envs, **changes):
    """PPO with PureJaxRL's settings for CartPole: 128 steps, 4 epochs of 4 minibatches, 2x64 tanh."""
    config = replace(
        ppo.Config(), num_envs=num_envs, rollout_length=128, epochs=4, num_minibatches=4, total_frames=FOREVER
    )
    return Case(title, num_envs, {"PPO": replace(config, **changes)})


def suite(classic, ppo_classic, frames, recurrent):
    """Cases for these numbers of environments, which put the environments that set the ceiling first."""
    lstm, breakout = {"env_id": "CartPole-v1"} | LSTM, {"env_id": "Breakout-MinAtar"} | MINATAR
    pendulum = {"env_id": "Pendulum-v1"}
    return (
        *(actor_critics("CartPole-v1", n) for n in classic),
        *(proximal("CartPole-v1", n) for n in ppo_classic),
        *(actor_critics("Pendulum-v1", n, **pendulum) for n in classic[-1:]),
        *(proximal("Pendulum-v1", n, **pendulum) for n in ppo_classic[-1:]),
        *(actor_critics("Breakout-MinAtar", n, **breakout) for n in frames),
        *(proximal("Breakout-MinAtar", n, **breakout) for n in frames),
        *(actor_critics("CartPole-v1, LSTM of 256", n, **lstm) for n in recurrent),
    )


SUITES = {
    "cpu": suite((64, 512, 2048), (4, 64, 512, 2048), (64,), (64,)),
    "gpu": suite((64, 2048, 16384, 65536), (64, 2048, 16384), (2048,), (2048,)),
    "small": suite((16,), (4,), (), ()),  # to see that the script works
}


def measure(case, repetitions, seconds, best):
    """A JSON row for each algorithm of a `Case`; ``best`` is what `roofline.peaks` found."""
    config = next(iter(case.configs.values()))
    start, pieces = parts.parts(config)
    loops = {name: (start, parts.looped(part.run)) for name, part in pieces.items()}
    if "A3C" in case.configs:
        loops["push"] = parts.push_loop(case.configs["A3C"])
    loops |= {label: parts.algorithm_loop(config) for label, config in case.configs.items()}
    timed = in_turns(loops, repetitions, seconds)
    took = {name: np.array(one.seconds) for name, one in timed.items()}
    frames = case.num_envs * config.rollouts.rollout_length
    asked = {}
    for name in ("step", "act", "learn"):
        wanted = roofline.demand(pieces[name], timed[name].state)
        operations, moved, what = roofline.limit(wanted, float(np.median(took[name])), best)
        asked[name] = wanted._asdict() | {"of_peak_operations": operations, "of_peak_bytes": moved, "limit": what}
    return {
        "title": case.title,
        "num_envs": case.num_envs,
        "frames_per_iteration": frames,
        "seconds_per_iteration": {name: x.tolist() for name, x in took.items()},
        "over_sum_of_parts": {
            label: float(np.median(took[label] / (took["act"] + took["learn"]))) for label in case.configs
        },
        "a3c_over_a2c": float(np.median(took["A2C"] / took["A3C"])) if "A3C" in took else None,
        "compile_seconds": {name: one.compile_seconds for name, one in timed.items()},
        "bytes": {name: one.bytes for name, one in timed.items()},
        "demand": asked,
    }


def ceilings(rows):
    """Frames a second of the fastest acting, by environment and network."""
    found: dict[str, float] = {}
    for row in rows:
        rate = row["frames_per_iteration"] / np.median(row["seconds_per_iteration"]["act"])
        found[row["title"]] = max(found.get(row["title"], 0.0), float(rate))
    return found


def tables(data):
    """Markdown of what `measure` found; the first table is for the page on speed."""
    rows, best = data["rows"], roofline.Demand(*data["peaks"])
    ceiling = ceilings(rows)
    speeds, times, machine = [], [], []
    for row in rows:
        frames, took = row["frames_per_iteration"], row["seconds_per_iteration"]
        of_parts = [rate(frames, took["step"]), rate(frames, took["act"])]
        for label, over in row["over_sum_of_parts"].items():
            share = frames / np.median(took[label]) / ceiling[row["title"]]
            megabytes = f"{row['bytes'][label] / 1e6:,.1f}"
            figures = [rate(frames, took[label]), f"{share:.3f}", f"{over:.2f}"]
            compiling = f"{row['compile_seconds'][label]:.1f}"
            speeds.append([f"{label} on {row['title']}", row["num_envs"], *of_parts, *figures, compiling, megabytes])
        name = f"{row['title']}, {'/'.join(row['over_sum_of_parts'])}"
        middle = {part: f"{1e6 * np.median(x):,.0f}" for part, x in took.items()}
        whole = " / ".join(middle[label] for label in row["over_sum_of_parts"])
        listed = [middle.get(part, "") for part in ("step", "act", "learn", "prepare", "push")]
        times.append([name, row["num_envs"], *listed, whole])
        for part, asked in row["demand"].items():
            machine.append(
                [
                    f"{part}, {name}",
                    row["num_envs"],
                    f"{asked['operations'] / frames:,.0f}",
                    f"{asked['bytes'] / frames:,.0f}",
                    f"{asked['of_peak_operations']:.2f}",
                    f"{asked['of_peak_bytes']:.2f}",
                    asked["limit"],
                ]
            )
    compiling = ", ".join(f"{name.upper()} {seconds:.1f}" for name, seconds in data["compile_seconds"].items())
    return (
        "Million frames per second (median, and range). A2C and A3C (16 workers): rollouts of 5 steps; PPO: 128 steps, "
        "4 epochs of 4 minibatches. 2x64 tanh, policy and value apart; Breakout: MinAtar's network. Compiling is the "
        "loop's, memory its arguments, results and temporaries.\n\n",
        markdown_table(
            ["", "environments", "step", "act", "whole", "of ceiling", "time / sum", "compile, s", "MB"], speeds
        ),
        "\nMicroseconds an iteration, by part (median).\n\n",
        markdown_table(["", "environments", "step", "act", "learn", "prepare", "push", "whole"], times),
        f"\nSeconds to trace and compile the default run of the command line, in a fresh process without a cache "
        f"(median of {COMPILATIONS}): {compiling}.\n"
        f"\nWhat a frame asks for, and its share of the machine's best ({best.operations / 1e9:,.0f} GFLOP/s in a "
        f"large product, {best.bytes / 1e9:,.0f} GB/s in a vector that stays in cache). Bytes are those that kernels "
        f"read and write, also from caches. Below {roofline.ENOUGH} of both, the kernels are too small for the machine."
        "\n\n",
        markdown_table(
            ["", "environments", "operations", "bytes", "of peak operations", "of peak bytes", "limit"], machine
        ),
    )


def draw(found):
    """Figure of frames a second against environments, of everything measured at more than one number of them."""
    curves: dict[str, list[tuple[int, np.ndarray]]] = {}
    for row in found["rows"]:
        if row["title"] == "CartPole-v1":
            steps = row["frames_per_iteration"] // row["num_envs"]
            for name in ("act", *row["over_sum_of_parts"]):
                millions = row["frames_per_iteration"] / np.array(row["seconds_per_iteration"][name]) / 1e6
                label = f"acting alone, {steps} steps" if name == "act" else name
                curves.setdefault(label, []).append((row["num_envs"], millions))
    figure, (axes,) = panels(height=4.6)
    for label, points in curves.items():
        low, middle, high = np.array([np.percentile(rates, [0, 50, 100]) for _, rates in points]).T
        sizes, style = [size for size, _ in points], "o--" if "acting" in label else "o-"
        color = color_of(label, default="0.3" if "128" in label else "0.6")
        axes.plot(sizes, middle, style, color=color, label=label)
        axes.fill_between(sizes, low, high, color=color, alpha=0.2, lw=0)
    axes.set(xscale="log", yscale="log", xlabel="environments", ylabel="million frames per second", title="CartPole-v1")
    axes.xaxis.set_major_locator(FixedLocator(sorted({size for points in curves.values() for size, _ in points})))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.xaxis.set_minor_locator(NullLocator())
    legend_above(figure, axes, 3)
    caption(figure, f"Median of {found['repetitions']} measurements in turn; bands: their range.")
    return figure


def compile_seconds(names, repetitions):
    """Seconds that compiling the default run of each takes: the median of fresh processes without a cache, in turn."""
    compile_sources(sys.executable)
    measured: dict[str, list[float]] = {name: [] for name in names}
    for name in tuple(names) * repetitions:
        program = (
            f"from purejaxrl_a3c import {name}; from purejaxrl_a3c.run.chunks import compile_run; "
            f"print(compile_run({name}.Config()).compile_seconds)"
        )
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
        measured[name].append(float(run.stdout))
    return {name: float(np.median(seconds)) for name, seconds in measured.items()}


def main(
    suite: Annotated[str, tyro.conf.arg(help="cpu, gpu, or small, to see that it works")] = "cpu",
    repetitions: Annotated[int, tyro.conf.arg(help="turns, of which the median counts")] = 7,
    seconds: Annotated[float, tyro.conf.arg(help="of one measurement")] = 0.4,
):
    """Measure and write results/speed_SUITE.json, .md and .png, and the table in the page on speed."""
    if suite not in SUITES:
        raise SystemExit(f"suite: {suite!r}; accepted: {', '.join(SUITES)}")
    compiling = compile_seconds(COMPILED, COMPILATIONS)
    best = roofline.peaks()
    rows = []
    for case in SUITES[suite]:
        rows.append(measure(case, repetitions, seconds, best))
        print(case.title, case.num_envs, rows[-1]["over_sum_of_parts"], file=sys.stderr, flush=True)
    data = {"repetitions": repetitions, "peaks": best, "compile_seconds": compiling, "rows": rows}
    written = tables(data)
    save(f"speed_{suite}", data, "".join(written), draw=draw)
    if suite != "small":
        put_into_page(PAGE, f"speed on a {suite.upper()}", written[1])


if __name__ == "__main__":
    tyro.cli(main)
