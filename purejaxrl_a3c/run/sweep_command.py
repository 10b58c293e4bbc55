"""``purejaxrl-a3c sweep``: many settings, compared and kept in a folder."""

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import flat, replace, to_json
from purejaxrl_a3c.run import folder
from purejaxrl_a3c.run.progress import say
from purejaxrl_a3c.run.report import RESULTS
from purejaxrl_a3c.run.sweep import Done, Sweep, sweep
from purejaxrl_a3c.run.sweep_request import Request, parse, usage
from purejaxrl_a3c.run.train import build


def sweep_command(argv: list[str], console: Console) -> int:
    """Run the command; returns the exit status.

    Raises:
        InputError: for what is not accepted, before anything is compiled.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(usage(), end="")
        return 0
    request = parse(argv)
    keys = jax.vmap(jax.random.key)(np.arange(request.options.seed, request.options.seed + request.options.seeds))
    record = {
        "algorithm": request.name,
        "config": to_json(request.config),
        "points": [{name: _plain(value) for name, value in point.items()} for point in request.points],
        "options": {
            name: value for name, value in dataclasses.asdict(request.options).items() if name not in ("out", "json")
        },
    }
    path = _take_folder(request, record)
    before = _read(path / RESULTS)
    runs = len(request.points) * request.options.seeds
    program = f"{request.name.upper()} on {flat(request.config)['env_id']}"
    say(console, f"{program}: {len(request.points)} points, {request.options.seeds} seeds, {runs} runs, into {path}")
    if before:
        say(console, f"note: {len(before)} of the runs are in the folder already", style="yellow")
    found, seconds, frames = _sweep(request, keys, before, path, console)
    _write(path, request, found)
    order, names = found.order, list(request.points[0])
    for i in order[:5]:
        settings = ", ".join(f"{name} {_text(found.points[i][name])}" for name in names) or "no settings"
        say(console, f"{found.scores[i]:10.1f}  {settings}")
    rate = f"{frames / seconds:,.0f} frames/s; " if frames else ""
    say(console, f"{rate}the best settings are in {path / 'best.json'}: purejaxrl-a3c train --config {path}/best.json")
    if request.options.json:
        best = {name: _plain(value) for name, value in found.best.items()}
        summary = {"best": best, "score": float(found.scores[order[0]]), "runs": runs, "seconds": seconds}
        print(json.dumps(summary | {"frames_per_second": frames / seconds if frames else None}), flush=True)
    return 0


def _take_folder(request: Request, record: dict[str, Any]) -> Path:
    """The folder, with what the sweep is written down in it."""
    path = request.options.out
    if path is None:
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        path = Path("runs") / f"{stamp}-sweep-{request.name}"
    description = path / "sweep.json"
    if description.exists():
        if json.loads(description.read_text()) != json.loads(json.dumps(record)):
            reject("out", str(path), "a new folder, or one of the same sweep")
        return path
    if path.exists() and any(path.iterdir()):
        reject("out", str(path), "a new or empty folder, or one of the same sweep")
    path.mkdir(parents=True, exist_ok=True)
    description.write_text(json.dumps(record, indent=2) + "\n")
    return path


def _read(path: Path) -> list[Done]:
    """What was done before; a row that is not whole is taken out of the file, as the next one would be joined to it."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(Done(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text("".join(_row(one) for one in found))
    unfinished.rename(path)
    return found


def _row(done: Done) -> str:
    return json.dumps(done._asdict()) + "\n"


def _sweep(request: Request, keys: Any, before: list[Done], path: Path, console: Console) -> tuple[Sweep, float, int]:
    """The sweep, how many seconds it took, and frames that were trained in them."""
    built = {i: build(replace(request.config, **point)) for i, point in enumerate(request.points)}
    furthest = {(one.point, one.seed): one.iterations for one in before}
    frames = 0
    began = time.perf_counter()
    with (
        (path / RESULTS).open("a") as file,
        Progress(
            TextColumn("{task.completed} runs"),
            BarColumn(),
            TextColumn("best {task.fields[best]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        ) as bar,
    ):
        task = bar.add_task("sweep", total=_number_of_runs(request), completed=len(before), best="-")
        best = max((one.score for one in before if math.isfinite(one.score)), default=-math.inf)

        def keep(done: list[Done]) -> None:
            nonlocal best, frames
            for one in done:
                file.write(_row(one))
                frames += (one.iterations - furthest.get((one.point, one.seed), 0)) * built[one.point].frames_per_step
                furthest[one.point, one.seed] = one.iterations
            file.flush()
            best = max([best, *(one.score for one in done if math.isfinite(one.score))])
            bar.update(task, advance=len(done), best=f"{best:.1f}")

        found = sweep(
            request.config,
            request.points,
            keys,
            episodes=request.options.evaluation_episodes,
            batch_size=request.options.batch_size,
            halvings=request.options.halvings,
            done=before,
            on_done=keep,
        )
    return found, time.perf_counter() - began, frames


def _number_of_runs(request: Request) -> int:
    points, total = len(request.points), 0
    for _ in range(request.options.halvings + 1):
        total += points * request.options.seeds
        points = max(1, -(-points // 2))
    return total


def _write(path: Path, request: Request, found: Sweep) -> None:
    """The table, the picture and the best settings."""
    from purejaxrl_a3c.run.sweep_plots import plot_sweep  # it imports matplotlib, which only a sweep's end needs

    names = list(request.points[0])
    best = replace(request.config, **found.best)
    record = folder.record(request.name, best, {})
    (path / "best.json").write_text(json.dumps(record, indent=2) + "\n")
    rows = ["| " + " | ".join([*names, "frames", "return", "seeds"]) + " |"]
    rows.append("| " + " | ".join(["---"] * len(names) + ["---:"] * 3) + " |")
    for i in found.order:
        settings = [_text(found.points[i][name]) for name in names]
        returns = " ".join(f"{value:.1f}" for value in np.sort(found.returns[i]))
        rows.append("| " + " | ".join([*settings, f"{found.frames[i]:,}", f"{found.scores[i]:.1f}", returns]) + " |")
    (path / "table.md").write_text("\n".join(rows) + "\n")
    plot_sweep(path / "sweep.png", found, f"{request.name.upper()} on {flat(request.config)['env_id']}")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
