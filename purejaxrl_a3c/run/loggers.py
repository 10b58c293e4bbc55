"""Where the metrics of a run go besides ``metrics.csv``."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.types import Metrics

LoggerName: TypeAlias = Literal["tensorboard", "wandb"]
"""Names of loggers."""


class Logger(NamedTuple):
    """One of them, at work."""

    log: Callable[[int, dict[str, float]], None]
    """(frames, values by name)."""
    close: Callable[[], None]


def tensorboard(folder: Path, record: dict[str, Any]) -> Logger:
    """Event files for TensorBoard, in the folder ``tensorboard`` of the run."""
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))
    writer.add_text("config", "\n".join(f"    {name}: {value}" for name, value in record["config"].items()))

    def log(frames: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, frames)

    return Logger(log, writer.close)


def wandb(folder: Path, record: dict[str, Any]) -> Logger:
    """A run of Weights & Biases; ``WANDB_MODE=offline`` keeps it in the folder ``wandb`` of the run."""
    import wandb

    settings = {"algorithm": record["algorithm"], "seed": record["seed"], **record["config"]}
    run = wandb.init(project="purejaxrl-a3c", name=folder.name, dir=folder, config=settings, reinit="finish_previous")

    def log(frames: int, values: dict[str, float]) -> None:
        run.log({"frames": frames, **values}, step=frames)

    return Logger(log, run.finish)


MAKE: dict[LoggerName, Callable[[Path, dict[str, Any]], Logger]] = {"tensorboard": tensorboard, "wandb": wandb}
"""The loggers by name."""


def check_loggers(names: Sequence[str]) -> None:
    """Check that there are such loggers, and that their packages are installed.

    Raises:
        InputError: naming the logger.
    """
    import importlib.util

    packages = {"tensorboard": "tensorboardX", "wandb": "wandb"}
    for name in names:
        if name not in packages:
            reject("logger", name, f"one of {', '.join(get_args(LoggerName))}")
        if importlib.util.find_spec(packages[name]) is None:
            reject("logger", name, f"installed: pip install 'purejaxrl-a3c[{name}]'")


def means(metrics: Metrics) -> dict[str, float]:
    """The metrics of some iterations, ``[n]``, as one number each; what is not finite is left out."""
    episodes = np.asarray(metrics.episodes).sum()
    found = {name: np.asarray(values, np.float64).mean() for name, values in metrics.losses.items()}
    if episodes:
        found["episode_return"] = np.asarray(metrics.return_sum, np.float64).sum() / episodes
        found["episode_length"] = np.asarray(metrics.length_sum, np.float64).sum() / episodes
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}
