"""Loops that act and learn in turn; each builds an `Algorithm` from its parts."""

from purejaxrl_a3c.loops.config import Batch, Workers
from purejaxrl_a3c.loops.layout import EnvLayout, make_layout
from purejaxrl_a3c.loops.on_policy import on_policy

__all__ = ["Batch", "EnvLayout", "Workers", "make_layout", "on_policy"]
