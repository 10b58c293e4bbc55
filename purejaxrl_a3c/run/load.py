"""The trained agent in the folder of a run."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import flat
from purejaxrl_a3c.envs import normalize
from purejaxrl_a3c.run import checkpoint
from purejaxrl_a3c.run.act import Act, make_act
from purejaxrl_a3c.run.request import Earlier, read_earlier
from purejaxrl_a3c.run.where import state_types
from purejaxrl_a3c.types import Pretrained, State


class Loaded(NamedTuple):
    """What `load` returns."""

    config: Any  # the ``Config`` of the run's algorithm
    state: State  # of its last checkpoint; `evaluate` takes both
    act: Act


def load(folder: str | Path) -> Loaded:
    """The trained agent of a run of the command line.

    It is used like this::

        config, state, act = load("runs/mine")
        action, carry = act(obs)  # at the start of an episode
        action, carry = act(obs, carry)

    Args:
        folder: of the run, which left its last state there, at the end or when it was interrupted.

    Returns:
        ``(config, state, act)``. ``act`` takes observations as the environment's own library gives them; see `Act`.

    Raises:
        InputError: if there is no sound checkpoint in the folder.
    """
    earlier = read_earlier(Path(folder), "folder")
    for iteration, wrong in earlier.found.damaged.items():
        warnings.warn(
            f"{folder}: checkpoints/{iteration} is damaged ({wrong}); this is checkpoints/{earlier.found.iteration}",
            stacklevel=2,
        )
    state = read_state(earlier)
    return Loaded(earlier.config, state, make_act(earlier.config, state))


def read_state(earlier: Earlier) -> State:
    """The state of an earlier run, on one device."""
    return checkpoint.read_state(earlier.found, state_types(earlier.config))


def read_pretrained(folder: Path, config: Any) -> Pretrained:
    """What a new run takes from an earlier one: its parameters and, with them, its statistics of observations.

    Args:
        folder: of the earlier run.
        config: the new run's.

    Raises:
        InputError: if the networks differ, or only one of the runs normalizes observations.
    """
    earlier = read_earlier(folder, "initialize_from")
    state: Any = read_state(earlier)
    before, here = (flat(one)["normalize_observations"] for one in (earlier.config, config))
    if before != here:
        reject("normalize_observations", here, f"{before}, as in {folder}, whose parameters were trained with it")
    wanted = state_types(config).learner.params
    shapes = [
        {jax.tree_util.keystr(path): np.shape(x) for path, x in jax.tree_util.tree_leaves_with_path(params)}
        for params in (state.learner.params, wanted)
    ]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        there, asked = (one.get(name, "missing") for one in shapes)
        if there != asked:
            accepted = f"a run with the same network: {name.strip('[]')} is {there} there, {asked} here"
            reject("initialize_from", str(folder), accepted)
    moments = normalize.get_statistics(state.actor_state.env)
    return Pretrained(state.learner.params, moments and jax.tree.map(lambda x: x[0, 0], moments))
