"""How a run of the command line is run, whatever the algorithm."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from purejaxrl_a3c.checks import check_count, reject
from purejaxrl_a3c.host.store import Push
from purejaxrl_a3c.run.loggers import LoggerName, check_loggers


@dataclasses.dataclass(frozen=True)
class Options:
    """How to run, whatever the algorithm."""

    seed: int = 0
    """Seed of the run: it is make_train(config)(jax.random.key(seed)). The evaluation has a key of its own."""
    num_seeds: int = 1
    """Number of runs with this and the following seeds, which are trained in one program, each in a folder of its own:
    seed-0, seed-1 and so on in that of the run."""
    out: Path | None = None
    """New or empty folder for the settings, the metrics, the learning curve and the trained agent; by default a new one
    in runs/."""
    evaluation_episodes: int = 128
    """Number of whole episodes on which the trained policy is evaluated."""
    sample_actions: bool = False
    """Evaluate with sampled actions instead of the most probable ones."""
    evaluate_every_frames: int = 0
    """Evaluate after this many frames too, rounded up to whole iterations, and keep the best agent in the folder best;
    0 evaluates only at the end."""
    logger: tuple[LoggerName, ...] = ()
    """Where the metrics go besides metrics.csv: tensorboard, wandb or both; each is an extra of the package."""
    json: bool = False
    """Print one last line of JSON on standard output."""
    checkpoint_every_frames: int = 0
    """Write a checkpoint after this many frames too, rounded up to whole iterations; 0 writes one only at the end and
    when the run is interrupted."""
    config: Path | None = None
    """File with the settings to start from, and their algorithm: the config.json of a run, or the best.json of a sweep;
    other flags change them."""
    tuned: bool = False
    """Start from the settings that were found for this environment; other flags change them."""
    resume: Path | None = None
    """Continue the run in this folder, with its algorithm, settings, options and seed; a larger total-frames extends
    it."""
    initialize_from: Path | None = None
    """Start a new run with the trained parameters of the run in this folder, and with its statistics of observations
    if both runs normalize them; the network must be the same."""
    engine: Literal["lockstep", "processes", "threads", "ray", "actors"] = "lockstep"
    """How environments outside of JAX step: lockstep has all of them in one loop, where asynchrony is simulated; with
    processes, threads or actors of ray the workers of A3C really race, and a run does not repeat. With actors, those of
    PPO and IMPALA with schedule queue are threads that act while another one learns, and a run does not repeat
    either."""
    push: Push = "locked"
    """How workers that race change the parameters: one at a time, without a lock (hogwild), or in the order of their
    numbers, so that the run repeats."""
    ray_address: str | None = None
    """Address of a cluster for the engine ray; by default Ray is started on this machine."""
    num_devices: int | None = None
    """Number of devices that share the run; by default 1, or with several processes all that they have."""
    distributed: bool = False
    """Join the other processes of a job started by Slurm, Open MPI or a Cloud TPU; they share the run."""
    coordinator_address: str | None = None
    """Address HOST:PORT of the first of several processes that were started by hand; needs num-processes and
    process-id."""
    num_processes: int | None = None
    """Number of processes that share the run, if they were started by hand."""
    process_id: int | None = None
    """Number of this process, from 0, if they were started by hand. Process 0 prints and writes."""


_REMEMBERED = (
    "seed",
    "num_seeds",
    "evaluation_episodes",
    "sample_actions",
    "evaluate_every_frames",
    "logger",
    "json",
    "checkpoint_every_frames",
    "engine",
    "push",
    "ray_address",
    "num_devices",
    "initialize_from",
)
"""What a resumed run takes over. The others say where a run is, or are of a single start."""


def remembered(options: Options) -> dict[str, Any]:
    """The options by name that a resumed run takes over, as JSON holds them."""
    values = {name: getattr(options, name) for name in _REMEMBERED}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    return {name: str(value) if isinstance(value, Path) else value for name, value in plain.items()}


def from_record(record: dict[str, Any]) -> Options:
    """The options that an earlier run was started with, as far as a resumed run takes them over."""
    values = {name: record[name] for name in _REMEMBERED if name in record}
    if values.get("initialize_from") is not None:
        values["initialize_from"] = Path(values["initialize_from"])
    values["logger"] = tuple(values.get("logger", ()))
    return Options(**values)


def check_options(options: Options) -> None:
    """Check what does not depend on the machine.

    Raises:
        InputError: naming the option.
    """
    check_count("evaluation_episodes", options.evaluation_episodes)
    for name in ("checkpoint_every_frames", "evaluate_every_frames"):
        check_count(name, getattr(options, name), least=0)
    check_loggers(options.logger)
    if not 0 <= options.seed < 2**32:
        reject("seed", options.seed, "in [0, 2**32)")
