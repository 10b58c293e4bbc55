"""A curriculum of domain randomisation: ranges that widen while the agent learns."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl_a3c.backend import collectives
from purejaxrl_a3c.envs import wrappers
from purejaxrl_a3c.types import Action, AxisName, Env, EnvState, Key, Observation, TimeStep


class CurriculumState(NamedTuple):
    """State of `curriculum`."""

    env: EnvState
    frames: jax.Array  # int32 []: of all copies, as of the last refresh; it stops where the ranges are at full width
    new_frames: jax.Array  # int32 []: of this copy since then


def curriculum(at: Callable[[float | jax.Array], Env], frames: int) -> Env:
    """An environment whose ranges widen linearly from the defaults to their full width over ``frames``.

    Ranges that begin narrow and widen are those of automatic domain randomisation (Akkaya et al. 2019, arXiv
    1910.07113), which widens them when the agent is good enough. Here they widen by a schedule.

    An episodic environment forgets everything when it is reset, so what counts the frames lies around the one that
    resets itself. As with running statistics, each copy counts its own frames, and ``refresh`` adds them up over all
    copies and devices. So the width stands still during a rollout. An evaluation, in the frozen environment, has the
    full width.

    Args:
        at: width in [0, 1] -> an `Env` that resets itself, as `wrappers.auto_reset` makes it.
        frames: of the run, in ``1 .. 2**30``.
    """
    full = at(1.0)

    def reset(key: Key) -> tuple[CurriculumState, Observation]:
        inner, obs = at(jnp.float32(0)).reset(key)
        return CurriculumState(inner, jnp.int32(0), jnp.int32(0)), obs

    def step(keys: Key, state: CurriculumState, action: Action) -> tuple[CurriculumState, TimeStep]:
        width = state.frames.astype(jnp.float32) / frames
        inner, timestep = at(width).step(keys, state.env, action)
        return state._replace(env=inner, new_frames=state.new_frames + 1), timestep

    def refresh(states: CurriculumState, axis_name: AxisName = None) -> CurriculumState:
        new = collectives.total(states.new_frames.sum(dtype=jnp.int32), axis_name)
        done = jnp.minimum(states.frames + new, frames)
        return states._replace(frames=done, new_frames=jnp.zeros_like(states.new_frames))

    render = wrappers.drawn(full, lambda state: state.env)
    return full._replace(reset=reset, step=step, refresh=refresh, render=render)
