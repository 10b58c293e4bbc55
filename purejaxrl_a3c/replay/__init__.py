"""Replay: experience that is kept, drawn by chance or by priority, and learned from again."""

from purejaxrl_a3c.replay.batches import Sequences, Transitions, sequences, transitions
from purejaxrl_a3c.replay.config import Config, PriorityConfig
from purejaxrl_a3c.replay.ring import Buffer, Drawn, Ring, Rows, Size, View, make, split

__all__ = [
    "Buffer",
    "Config",
    "Drawn",
    "PriorityConfig",
    "Ring",
    "Rows",
    "Sequences",
    "Size",
    "Transitions",
    "View",
    "make",
    "sequences",
    "split",
    "transitions",
]
