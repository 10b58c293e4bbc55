"""What a loop is, seen from where something else steps its environments."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from purejaxrl_a3c.loops.acting import Acting
from purejaxrl_a3c.loops.origin import Origin
from purejaxrl_a3c.loops.rollout import ActorState
from purejaxrl_a3c.types import ClockedRule, Key, Metrics, Objective, Params, Trajectory, UpdateRule


class Outside(NamedTuple):
    """The parts of an algorithm that are left if the environments are taken out.

    One iteration is: act for ``T`` steps with the parameters of ``actor``, then ``learn``. The state of environments
    is ``()`` in every `ActorState`.
    """

    acting: Acting
    start: Callable[[Key, ActorState, Params | None], Any]
    """(key, environments that are reset, leaves [W, B, ...], parameters or None) -> the state at the start."""
    actor: Callable[[Any], Params]
    """state -> the parameters that act, leaves [W, ...]."""
    key_act: Callable[[Key], Key]
    """The key of an iteration -> that of its acting."""
    learn: Callable[[Key, Any, Any, ActorState, Trajectory], tuple[Any, Metrics]]
    """(key of the iteration, state, level of exploration [W, B], environments after acting, trajectories [W, B, T]) ->
    (state, metrics)."""
    origin: Origin
    objective: Objective | None = None
    """Of an on-policy algorithm."""
    rule: UpdateRule | ClockedRule | None = None
    """Likewise."""
    refusal: tuple[str, Any, str] | None = None
    """Why its environments cannot be outside of JAX, as arguments of `checks.reject`; None if they can."""

    @property
    def workers(self) -> jax.Array:
        """Numbers of the workers, int32 ``[W]``."""
        return self.acting.layout.own_workers()
