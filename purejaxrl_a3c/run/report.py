"""What a run says at its end, on the screen and as a line of JSON."""

import contextlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from purejaxrl_a3c.config import flat
from purejaxrl_a3c.run.options import Options
from purejaxrl_a3c.run.progress import say, waiting
from purejaxrl_a3c.run.request import Request
from purejaxrl_a3c.run.where import evaluate
from purejaxrl_a3c.types import Key, State

RESULTS = "results.jsonl"


class Trained(NamedTuple):
    """What training left."""

    state: State  # NumPy arrays
    frames: int  # trained here, without those before a checkpoint
    seconds: float
    compile_seconds: float
    staleness_mean: float
    not_finite: list[str]  # names of reports and parameters


def evaluation_key(seed: int) -> Key:
    """The key of the evaluation of a run that has the key of ``seed``."""
    # The key of the seed 2**32 + seed, which no run can have.
    return jax.random.wrap_key_data(jnp.array([1, seed], jnp.uint32), impl="threefry2x32")


def evaluate_state(
    config: Any, state: State, options: Options, console: Console, frames: int = 0, opponent: State | str | None = None
) -> np.ndarray:
    """Returns of whole episodes, float32 ``[evaluation_episodes]``; ``frames`` makes them others than at the end.

    ``opponent`` is that of `evaluate`, in a game for two.
    """
    with waiting(console, "evaluating") if not frames else contextlib.nullcontext():
        key, deterministic = evaluation_key(options.seed), not options.sample_actions
        key = jax.random.fold_in(key, frames) if frames else key
        return evaluate(config, state, key, options.evaluation_episodes, deterministic, opponent)


def describe_returns(returns: np.ndarray) -> str:
    """The sentence about an evaluation."""
    return f"return {returns.mean():.1f} +- {returns.std():.1f} over {len(returns)} episodes"


def evaluation_summary(request: Request, returns: np.ndarray) -> dict[str, Any]:
    """What JSON says about an evaluation."""
    return {
        "algorithm": request.name,
        "env_id": flat(request.config)["env_id"],
        "seed": request.options.seed,
        "evaluation_return_mean": _finite(returns.mean()),
        "evaluation_return_std": _finite(returns.std()),
        "evaluation_episodes": len(returns),
    }


def report(
    request: Request, path: Path, frames: int, num_devices: int, trained: Trained, returns: np.ndarray, console: Console
) -> bool:
    """Say what came of a run, and keep it in the folder.

    Args:
        request: what was asked for.
        path: of the folder.
        frames: of the whole run.
        num_devices: that shared it.
        trained: what training left.
        returns: of the evaluation.
        console: for everything but the line of JSON.

    Returns:
        Whether the run diverged: reports, parameters or returns are not finite.
    """
    not_finite = [*trained.not_finite, *([] if np.isfinite(returns).all() else ["returns"])]
    rate = trained.frames / trained.seconds if trained.seconds else math.nan
    speed = f"{rate:,.0f} frames/s, compiled in {trained.compile_seconds:.1f} s; " if trained.frames else ""
    say(console, f"{describe_returns(returns)}, {speed}results in {path}")
    if not_finite:
        text = f"warning: the run diverged: {', '.join(not_finite)} not finite at its end"
        say(console, text, style="bold yellow")
    summary = {
        **evaluation_summary(request, returns),
        "frames": frames,
        "compile_seconds": round(trained.compile_seconds, 3),
        "train_seconds": round(trained.seconds, 3),
        "frames_per_second": round(rate) if trained.frames else None,
        "devices": num_devices,
        "staleness_mean": _finite(trained.staleness_mean),
        "diverged": bool(not_finite),
    }
    line = json.dumps(summary)
    with (path / RESULTS).open("a") as file:
        file.write(line + "\n")
    if request.options.json:
        print(line, flush=True)
    return bool(not_finite)


def not_finite_parameters(state: Any) -> list[str]:
    """``["parameters"]`` if one of them is not finite."""
    finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.learner.params))
    return [] if finite else ["parameters"]


def _finite(number: Any) -> float | None:
    """A number for JSON, which knows neither NaN nor infinity."""
    return float(number) if np.isfinite(number) else None
