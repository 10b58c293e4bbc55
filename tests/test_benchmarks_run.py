"""Every script of benchmarks/ runs, at the smallest sizes that go through all of its lines."""

import contextlib
import dataclasses
import importlib
import io
import json
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from test_self_play import nim

from benchmarks import actors, devices, kill, outside, record, redraw, schedules, solve, suites
from benchmarks.claims import corrections, discarding, policy_lag, speedup, tasks
from benchmarks.claims.common import Sizes
from benchmarks.peers import __main__ as peers
from benchmarks.peers import ours, ours_outside, processes, protocol
from purejaxrl_a3c import a2c, a3c, dqn, networks, ppo, replace

FOLDER = Path(record.__file__).parent
# Each runs in an environment of its own.
OTHER_PACKAGES = {"peers.sb3", "peers.rejax_peer", "peers.plain_ppo", "peers.purejaxrl_peer"}
CARTPOLE = outside.Row("ppo", "gym/CartPole-v1", 256, 1, 2, {"rollout-length": 16, "clip-values": True})
ACTORS: dict[str, object] = {"num_workers": 2, "envs_per_worker": 2, "hidden_sizes": (4,)}
SEEDS = Sizes(seeds=2, frames=1_600)


class Small(NamedTuple):
    """How a script runs in seconds."""

    constants: Mapping[str, Any] = MappingProxyType({})  # names in the module, and what stands there instead
    run: Callable[[Any], Any] = lambda script: script.measure(SEEDS)
    results: int = 1  # how many JSON files it writes


def main(*arguments: Any, **options: Any) -> Callable[[Any], Any]:
    return lambda script: script.main(*arguments, **options)


def first(items: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: items[name] for name in names}


def train_here(script: str, python: str, task: protocol.Task) -> Any:
    """`processes.train` without a process, for one of our own runs."""
    output, arguments = io.StringIO(), sys.argv
    sys.argv = ["ours.py", *protocol.arguments(task)]
    try:
        with contextlib.redirect_stdout(output):
            (ours_outside if script == "ours_outside" else ours).main()
    finally:
        sys.argv = arguments
    return json.loads(output.getvalue().splitlines()[-1])


def run_peers(script: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "train", train_here)
        patch.setattr(processes, "interpreter", lambda script: sys.executable)
        script.main(turns=1)


def run_outside(script: Any) -> None:
    # Of A3C more, so that no worker can do all of them before the other one has pushed.
    for algorithm, frames in (("a2c", ours_outside.WARM + 60 * TASK.num_envs * TASK.rollout_length), ("a3c", 60_000)):
        row = train_here("ours_outside", "", dataclasses.replace(TASK, algorithm=algorithm, frames=frames))
        assert 0 < row["frames"] < frames


def run_host_bounds(script: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "train", lambda script, python, task: {"frames": task.frames, "run_seconds": 2.0})
        patch.setattr(processes, "interpreter", lambda script: sys.executable)
        script.main(turns=1, seconds=1e-3)


def run_learning_outside(script: Any) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(script, "RUNS", Path(folder))
        script.main()
        assert record.rows_of("outside")["PPO on CartPole"]["runs"][0]["return"] >= 8


def run_solve(script: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "compile_sources", lambda python: None)  # of everything that is installed
        script.main(seeds=1)


def run_tuned(script: Any) -> None:
    """Writes what the package has already, to another place."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        shipped, other = script.tuned.FILE.read_text(), Path(folder) / "tuned.json"
        patch.setattr(script.tuned, "FILE", other)
        patch.setattr(record, "RESULTS", FOLDER / "results")
        script.main()
        assert other.read_text() == shipped


def run_same_numbers(script: Any) -> None:
    params = {"a2c ['w']": np.zeros(3), "ppo ['w']": np.ones(2)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "train_commit", lambda commit: params)
        script.main("before")
        patch.setattr(script, "train_commit", lambda commit: {name: len(commit) + x for name, x in params.items()})
        with pytest.raises(SystemExit):
            script.main("before")


def run_ab(script: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "measure", lambda tree, seconds: {"A3C": 2.0 if (tree / "README.md").exists() else 0.0})
        script.main("HEAD", turns=2)


def run_redraw(script: Any) -> None:
    committed = FOLDER / "results" / "claims" / "nstep.json"
    (record.RESULTS / "claims").mkdir()
    (record.RESULTS / "claims" / "nstep.json").write_text(committed.read_text())
    (record.RESULTS / "claims" / "nstep.png").touch()
    script.main()
    assert (record.RESULTS / "claims" / "nstep.png").stat().st_size > 0


def of_stale_runs(script: Any) -> None:
    with pytest.raises(SystemExit, match=r"first python -m benchmarks\.claims\.stale_ppo"):
        script.measure(SEEDS)
    (record.RESULTS / "claims").mkdir()
    rng = np.random.default_rng(0)
    found = {
        "corrections": ["none", "decoupled"],
        "lags": [0, 1, 64],
        "frames": 100,
        "returns": np.stack([rng.uniform(300, 500, (2, 4)), rng.uniform(0, 500, (2, 4)), rng.uniform(0, 9, (2, 4))], 1),
        "effective_sample_size": rng.uniform(0, 1, (2, 3, 4, 5)),
    }
    (record.RESULTS / "claims" / "stale_ppo.json").write_text(record.to_json(record.plain(found)) + "\n")
    script.measure(SEEDS)


FEW = {"SEARCH_SEEDS": 2, "SEEDS": 2}
CATCH = (tasks.TASKS[2]._replace(frames=1_600),)


def on_catch(script: Any) -> None:
    """A claim that is decided on several tasks, on one of them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (FEW | {"TASKS": CATCH, "RATES": (1e-3, 1e-2), "RESAMPLES": 50}).items():
            patch.setattr(tasks, name, value)
            if hasattr(script, name):
                patch.setattr(script, name, value)
        script.measure(SEEDS)


FAKE_PROGRAM = """
import pathlib, sys
folder = pathlib.Path("runs/one")
folder.mkdir(parents=True, exist_ok=True)
(folder / "metrics.csv").write_text("row\\n" * 200)
print(pathlib.Path.cwd(), sys.argv[1:])
"""
WORK: dict[str, Any] = {"num_envs": 16, "rollout_length": 5, "hidden_sizes": (4,)}
TASK = protocol.Task(frames=160, **WORK)
SOLVE = solve.ours(replace(a2c.Config(), total_frames=160, hidden_sizes=(4,)), threshold=1e9, piece=80, episodes=2)
SMALL = {
    "agents": Small({"CONFIGS": {"A2C": replace(a2c.Config(), hidden_sizes=(4,))}}, main((2,), 1, 1e-3)),
    "replay": Small(
        {"ITERATIONS": {"DQN": replace(dqn.Config(), hidden_sizes=(4,), replay_size=1_000)}},
        main((160,), (2,), ("CartPole",), 1, 1e-3),
    ),
    "replay_parts": Small(
        {"CONFIGS": {"DQN": replace(dqn.Config(), hidden_sizes=(4,), replay_size=64, learning_starts=16)}},
        main(repetitions=1, seconds=0.001),
    ),
    "pages": Small({}, lambda script: script.main(record.RESULTS), 0),
    "population": Small(
        {
            "ROWS": {
                "A2C": replace(a2c.Config(), env_id="Catch-bsuite", num_envs=4, total_frames=640, hidden_sizes=(4,))
            },
            "SEEDS": (0, 1),
        },
        main(4, 2),
    ),
    "self_play": Small(
        {
            "CONFIG": replace(
                ppo.Config(), env_id=nim(), opponent="pool", num_envs=4, rollout_length=8, hidden_sizes=(4,)
            ),
            "ARMS": {"few": {"pool_size": 2, "snapshot_every": 2}},
            "SEEDS": (0,),
            "VERSIONS": 2,
            "GAMES": 4,
        },
        main(320),
    ),
    "cluster": Small({"WORKERS": 2, "EPISODES": 2}, main(1, 2_400)),
    "convolution": Small({"TORSOS": {"minatar": (16, (10, 10, 4), ((2, 3, 1),), 4)}}, main(repetitions=1)),
    "cores": Small(
        {"ENVS": 2, "STEPS": 3, "BODY": replace(networks.BodyConfig(), num_cells=4, memory_window=2)},
        main(repetitions=1, seconds=1e-4),
    ),
    "devices": Small(
        {
            "COUNTS": (1, 2),
            "EQUAL": first(devices.EQUAL, "A3C, exact"),
            "MODES": first(devices.MODES, "averaging every 8 rounds"),
            "STEPS": first(devices.STEPS, "DQN"),
        },
        main(),
    ),
    "learning": Small(
        {"SUITES": {"defaults": {"Catch-bsuite": suites.both(env_id="Catch-bsuite", total_frames=1_280)}}},
        main(seeds=2, episodes=2),
    ),
    "ab": Small({}, run_ab),
    "dip": Small({}, main(2, 20_000)),
    "kill": Small({"ARMS": (kill.Arm("a2c", 1, 400),)}, main(kills=1, compilations=1)),
    "memory": Small({"SETTINGS": {"a2c": "num_envs=64"}}, main((640,))),
    "redraw": Small({}, run_redraw),
    "runs": Small({"PROGRAM": [sys.executable, "-c", FAKE_PROGRAM]}, main()),
    "same_numbers": Small({}, run_same_numbers),
    "scaling": Small(
        {
            "A2C": replace(a2c.Config(), hidden_sizes=(2,)),
            "A3C": replace(a3c.Config(), hidden_sizes=(2,)),
            "PPO": replace(ppo.Config(), hidden_sizes=(2,), rollout_length=4),
            "ENVS": (16, 32),
            "WORKERS": (1, 2),
            "ENVS_OF_WORKERS": 2,
            "WIDTHS": (2, 4),
            "ENVS_OF_WIDTHS": 16,
            "AGENTS": (1, 2),
        },
        main(1, 1e-4),
    ),
    "schedules": Small(
        {
            "SCHEDULES": first(schedules.SCHEDULES, schedules.PLAIN, "clock, gamma CV 0.3"),
            "ACTORS": first(schedules.ACTORS, schedules.SYNCHRONOUS, "clock, exponential"),
        },
        main((16,), 1, 1e-3),
    ),
    "solve": Small({"ROWS": {"A2C on CartPole-v1": SOLVE}}, run_solve),
    "speed": Small({"COMPILED": ("a2c",), "COMPILATIONS": 1}, main("small", 1, 1e-3)),
    "surface": Small({}, main("HEAD")),
    "actors": Small({"ROWS": {"CartPole": actors.Row("gym/CartPole-v1", 1_600, ACTORS)}}, main(turns=1)),
    "outside": Small({"ROWS": {"PPO on CartPole": CARTPOLE}}, run_learning_outside),
    "host_parts": Small(
        {
            "CONFIGS": {
                "A2C": replace(a2c.Config(), env_id="gym/CartPole-v1", num_envs=2, rollout_length=3, hidden_sizes=(4,))
            }
        },
        main(turns=1, seconds=1e-4),
    ),
    "host_bounds": Small({"PROCESSES": 1}, run_host_bounds),
    "first_result": Small({"ALGORITHMS": ("a2c",)}, main(turns=1)),
    "weights": Small({"ENVS": 16}, main(1, 1e-4, 4)),
    "start": Small({}, lambda script: script.start_seconds(2), 0),
    "sweeps": Small(
        {
            "CONFIGS": {"A2C": replace(a2c.Config(), hidden_sizes=(4,))},
            "WIDTHS": (1,),
            "POINTS": {"learning_rate": [1e-3, 1e-2]},
            "EPISODES": 1,
        },
        main(800),
    ),
    "tuned": Small({}, run_tuned, 0),
    "workers": Small({"COUNTS": (2,), "PUSHES": ("locked",), "MANY": 2, "STARTS": 1, "EPISODES": 2}, main(2, 800)),
    "claims.__main__": Small({"SCRIPTS": ("nstep",), "DEFAULT": SEEDS}, main()),
    "claims.corrections": Small(
        {"ARMS": first(corrections.ARMS, "nothing", "V-trace at the newest parameters"), "DELAYS": (0, 63)}, on_catch
    ),
    "claims.coverage": Small({"ENVS": (2,), "FRAMES": 16 * 5 * 2}),
    "claims.decorrelation": Small({"LANES": 64, "FRAMES": 800}),
    "claims.degenerate": Small(),
    "claims.entropy": Small({"COEFFICIENTS": (0.0, 1e-3, 1e-2)}, on_catch),
    "claims.mean_gradient": Small(),
    "claims.momentum": Small({"RUNS": 50, "WORKERS": (2,), "MOMENTA": (0.0, 0.9)}, on_catch),
    "claims.nstep": Small({"TRAJECTORIES": 8}),
    "claims.policy_lag": Small({"ARMS": first(policy_lag.ARMS, "V-trace", "no correction"), "LAGS": (0, 16)}, on_catch),
    "claims.speedup": Small(
        {
            "TASKS": {"CartPole-v1": speedup.Task(150, ("A3C", "averaging", "one-step SARSA"), 10, 800)},
            "WORKERS": (2,),
            "RATES": (1e-3, 1e-2),
        }
        | FEW
    ),
    "claims.staleness": Small({"DELAYS": (0, 63), "RATES": (1e-3, 1e-2), "SEEDS": 2, "TASKS": CATCH}),
    "claims.stale_ppo": Small(
        {"CORRECTIONS": ("none", "decoupled"), "LAGS": (0, 64), "RATES": (1e-3, 1e-2), "FRAMES": 1_280} | FEW
    ),
    "claims.best_correction": Small(run=lambda script: of_stale_runs(script), results=2),
    "claims.sample_size": Small(run=lambda script: of_stale_runs(script), results=2),
    "claims.best_rate": Small({"RATES": (1e-3, 1e-2), "LAGS": (0, 4, 16), "FRAMES": 1_280, "SEEDS": 2}),
    "claims.discarding": Small({"EVENTS": 200, "SEEDS": 2, "LAWS": first(discarding.LAWS, "exponential")}),
    "claims.bounded": Small({"BOUNDS": (0, 4, None), "RATES": (1e-3, 1e-2), "FRAMES": 2_560} | FEW),
    "claims.periodic": Small({"LEARNER_TIMES": (1.0,), "RATES": (1e-3, 1e-2), "FRAMES": 2_560} | FEW),
    "claims.stragglers": Small({"WORKERS": (2,), "SHOWN": 2}),
    "claims.threads": Small({"COUNTS": (2,), "PUSHES": 200, "CVS": (0.1, 0.3), "SLICES": (0.5, 2.0)}),
    "peers.__main__": Small({"COMPARISONS": {"ours": peers.Comparison("ours", "a2c", ("a2c",), TASK, 160)}}, run_peers),
    "peers.ours": Small({}, lambda script: train_here("ours", "", dataclasses.replace(TASK, algorithm="ppo")), 0),
    "peers.ours_outside": Small({}, run_outside, 0),
}


def test_every_script_has_a_small_run():
    files = [path for path in FOLDER.rglob("*.py") if '__name__ == "__main__"' in path.read_text()]
    assert {".".join(path.relative_to(FOLDER).with_suffix("").parts) for path in files} == SMALL.keys() | OTHER_PACKAGES


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder that scripts write to instead of the committed results and the pages with tables."""
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr("benchmarks.speed.PAGE", tmp_path / "speed.md")
    monkeypatch.setattr("benchmarks.claims.__main__.PAGE", tmp_path / "README.md")
    record.RESULTS.mkdir()
    with jax.numpy_rank_promotion("allow"):  # as where the scripts run for real
        yield record.RESULTS


# Even at their smallest, from a tenth of a minute to a minute each.
LONG = (
    "actors",
    "dip",
    "host_bounds",
    "learning",
    "population",
    "self_play",
    "claims.__main__",
    "claims.best_rate",
    "claims.discarding",
    "claims.entropy",
    "claims.mean_gradient",
    "claims.momentum",
    "claims.policy_lag",
    "scaling",
    "schedules",
    "speed",
    "kill",
    "devices",
    "claims.corrections",
    "claims.coverage",
    "claims.degenerate",
    "claims.speedup",
    "claims.stale_ppo",
    "claims.threads",
    "claims.bounded",
    "claims.periodic",
    "workers",
    "outside",
    "start",
    "first_result",
    "cluster",
)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in SMALL])
def test_a_script_runs(name, results, monkeypatch):
    script: Any = importlib.import_module(f"benchmarks.{name}")
    small = SMALL[name]
    for constant, value in small.constants.items():
        monkeypatch.setattr(script, constant, value)
    small.run(script)

    written = list(results.rglob("*.json"))
    assert len(written) == small.results
    for path in written:
        json.loads(path.read_text())
        assert redraw.script_of(str(path.relative_to(results).with_suffix(""))) in _names(name)


def _names(name):
    """Modules whose results a script writes: its own, or that of the package that it runs."""
    package = f"benchmarks.{name}".removesuffix(".__main__")
    return {package, "benchmarks.claims.nstep", "benchmarks.claims.stale_ppo"}


@pytest.mark.parametrize("path", sorted((FOLDER / "results").rglob("*.png")), ids=lambda path: path.stem)
def test_a_committed_figure_can_be_drawn_from_its_numbers(path):
    name = str(path.relative_to(FOLDER / "results").with_suffix(""))
    script: Any = importlib.import_module(redraw.script_of(name))
    found = record.load(name)
    if "learning" in name and not all("curve" in row for row in found["results"].values()):
        pytest.skip("measured before curves were saved")
    figure = script.draw(found)
    assert re.search("seeds|runs|measurements", figure.get_supxlabel())


def test_arrays_of_numbers_are_on_one_line():
    data = {"rows": [[1, 2.5], [3, 4]], "names": ["a", "b"], "empty": {}, "inner": {"x": None}}
    text = record.to_json(data)
    assert json.loads(text) == data
    assert "[1, 2.5]" in text
    for path in (FOLDER / "results").rglob("*.json"):
        assert path.read_text() == record.to_json(json.loads(path.read_text())) + "\n"


def test_a_figure_is_drawn_again_only_for_other_numbers(results):
    drawn = []

    def draw(found):
        drawn.append(found["x"])
        return importlib.import_module("benchmarks.figures").panels()[0]

    for x in ([1, 2], np.array([1, 2]), [1, 3]):
        record.save("some", {"x": x, "measured": {"date": len(drawn)}}, "table", draw=draw)
    assert drawn == [[1, 2], [1, 3]]
