"""What is checked and taken before anything is compiled."""

import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console

from purejaxrl_a3c.checks import check_count, reject
from purejaxrl_a3c.config import flat
from purejaxrl_a3c.run import checkpoint, devices, folder, load, memory
from purejaxrl_a3c.run.interrupts import Interrupts
from purejaxrl_a3c.run.options import Options, check_options, remembered
from purejaxrl_a3c.run.progress import say
from purejaxrl_a3c.run.request import Request, check_resumed
from purejaxrl_a3c.run.train import build
from purejaxrl_a3c.run.where import check_engine, is_outside, spread, state_types
from purejaxrl_a3c.types import Pretrained, State


class Setting(NamedTuple):
    """A run that may begin."""

    request: Request
    on: devices.Devices | None  # None: one device
    path: Path  # of the run's folder
    folder: folder.RunFolder | None  # None in a process that does not write
    pretrained: Pretrained | None
    state: State | None  # to continue from
    title: str


def prepare(request: Request, console: Console, interrupts: Interrupts) -> Setting:
    """Check everything and take the folder, before anything is compiled.

    Raises:
        InputError: for settings that do not fit.
    """
    name, config, options, earlier = request
    check_options(options)
    if earlier is not None:
        check_resumed(request)
    algorithm = build(config)
    check_engine(config, options)
    check_seeds(config, options)
    on = choose_devices(config, options.num_devices)
    used = list(on.mesh.devices.flat) if on else jax.local_devices()[:1]
    whole = state_types(config)
    if any(jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) for x in jax.tree.leaves(whole)):
        accepted = "an environment whose state has no typed key, which no file holds: keep jax.random.key_data(key)"
        reject("env_id", flat(config)["env_id"], accepted)
    memory.check_fits(whole, algorithm.frames_per_step, used)
    pretrained = state = None
    if options.initialize_from and (earlier is None or not earlier.found.iteration):
        pretrained = load.read_pretrained(options.initialize_from, config)
    if earlier is not None:
        done = earlier.found.iteration * algorithm.frames_per_step
        if earlier.found.iteration > algorithm.iterations:
            reject("total_frames", flat(config)["total_frames"], f">= {done}, which the run has done already")
        if earlier.found.iteration:
            state = checkpoint.read_state(earlier.found, state_types(config, on))

    def farewell() -> None:
        if taken:
            taken.abandon()
        what = "nothing was written" if earlier is None else f"{path} is as it was"
        say(console, f"interrupted before training began; {what}")

    with interrupts.held():
        path, taken = _take_folder(request)
        interrupts.farewell = farewell
    last = options.seed + options.num_seeds - 1
    seeds = f"seed {options.seed}" if options.num_seeds == 1 else f"seeds {options.seed} to {last}"
    title = f"{name.upper()} on {flat(config)['env_id']}, {seeds}"
    total = algorithm.iterations * algorithm.frames_per_step
    size = memory.readable(memory.size_of(whole))
    replay = f", of which the replay buffer is {memory.readable(memory.replay_size(whole))}"
    replay *= memory.replay_size(whole) > 0
    say(console, f"{title}: {total:,} frames on {_describe(on)}, state of {size}{replay}")
    for note in _notes(request):
        say(console, f"note: {note}", style="yellow")
    return Setting(request, on, path, taken, pretrained, state, title)


def check_platform() -> None:
    """Check that JAX finds the kind of device that ``JAX_PLATFORMS`` asks for.

    Raises:
        InputError: with JAX's reason, in a line.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that something else than a missing plugin was found
        reason = "".join(f"; it says: {line}" for line in str(error).strip().splitlines()[:1])
        reject("JAX_PLATFORMS", os.environ.get("JAX_PLATFORMS"), f"a platform that JAX finds here{reason}")


def choose_devices(config: Any, num_devices: int | None) -> devices.Devices | None:
    """The `Devices` of the run; None if there is but one device.

    Raises:
        InputError: if there are not so many, or they cannot share the run evenly.
    """
    available, processes = jax.devices(), jax.process_count()
    count = (1 if processes == 1 else len(available)) if num_devices is None else num_devices
    check_count("num_devices", count)
    if count > len(available):
        reject("num_devices", count, f"at most {len(available)}, as many as there are")
    if processes > 1 and count != len(available):
        reject("num_devices", count, f"{len(available)}, all that the {processes} processes have")
    return None if count == 1 else spread(config, available[:count])


def check_seeds(config: Any, options: Options) -> None:
    """Check that several seeds can be trained side by side.

    Raises:
        InputError: naming the option.
    """
    check_count("num_seeds", options.num_seeds)
    if options.num_seeds == 1:
        return
    if is_outside(config):
        reject("num_seeds", options.num_seeds, "1 for environments outside of JAX")
    if options.seed + options.num_seeds > 2**32:
        reject("num_seeds", options.num_seeds, "so few that all seeds are below 2**32")
    if (options.num_devices or 1) > 1 or jax.process_count() > 1:
        reject("num_seeds", options.num_seeds, "1 on several devices")
    for name in ("evaluate_every_frames", "logger", "initialize_from"):
        if getattr(options, name) != getattr(Options, name):
            reject("num_seeds", options.num_seeds, f"1 with {name}")
    types = state_types(config)
    many = jax.tree.map(lambda x: jax.ShapeDtypeStruct((options.num_seeds, *x.shape), x.dtype), types)
    memory.check_fits(many, build(config).frames_per_step * options.num_seeds, jax.local_devices()[:1])


def _take_folder(request: Request) -> tuple[Path, folder.RunFolder | None]:
    """The folder of the run, which process 0 makes unless the run is resumed."""
    name, config, options, earlier = request
    writes = jax.process_index() == 0
    if earlier is not None:
        path = earlier.found.folder
        return path, folder.claim_again(path) if writes else None
    if options.out is None and jax.process_count() > 1:
        reject("out", None, "given, so that all processes write their checkpoints to the same folder")
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    env_id = str(flat(config)["env_id"]).replace("/", "-").replace(":", "-")
    taken = folder.claim_new(options.out, f"{stamp}-{name}-{env_id}-seed{options.seed}") if writes else None
    if taken:
        taken.write_config(folder.record(name, config, remembered(options)))
    return taken.path if taken else options.out or Path(), taken


def _describe(on: devices.Devices | None) -> str:
    kind = jax.devices()[0].device_kind
    return kind if on is None else f"{on.mesh.size} x {kind}"


def _notes(request: Request) -> Iterator[str]:
    """What a user may not expect of this run."""
    earlier = request.earlier
    if earlier is None:
        return
    yield from notes_on_damage(earlier.found)
    before, here = flat(earlier.config), flat(request.config)
    if before["total_frames"] == here["total_frames"]:
        return
    if here.get("prioritized"):
        yield (
            f"the importance exponent was to rise to 1 over {before['total_frames']:,} frames; from here on it rises "
            f"over {here['total_frames']:,}, so it changes at once"
        )
    if here.get("anneal_learning_rate"):
        yield (
            f"the learning rate was to fall to 0 over {before['total_frames']:,} frames; from here on it falls over "
            f"{here['total_frames']:,}, so it changes at once, and the run is not the one of {here['total_frames']:,} "
            "frames from the start"
        )


def notes_on_damage(found: checkpoint.Found) -> Iterator[str]:
    """Which checkpoints are passed over."""
    for iteration, wrong in found.damaged.items():
        yield f"checkpoints/{iteration} is damaged ({wrong}); checkpoints/{found.iteration} is used"
