"""Options for XLA's compiler, by what a program is like; the names depend on the version of jax."""

from typing import Any

import jax

from purejaxrl_a3c.types import Params

# Compiling soon counts for more than running fast. jax 0.11.1 lacks the second option.
RUNS_ONCE: dict[str, Any] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):
    RUNS_ONCE["xla_cpu_use_fusion_emitters"] = False

_SAVE_MEMORY: dict[str, Any] = (
    {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    if jax.__version_info__ >= (0, 9, 1)
    else {"xla_cpu_enable_concurrency_optimized_scheduler": False}
)


_WEIGHTS, _ROWS = 2**14, 512
"""Numbers of a layer's weights, and rows of a batch, up to which threads that share a kernel do not pay."""


def one_after_the_other(params: Params, rows: int) -> dict[str, Any]:
    """For many updates in turn, whose kernels may be so short that threads would wait longer than they work.

    XLA's CPU backend orders kernels so that threads can share them, unless it is told to save memory. The numbers are
    the same.

    Args:
        params: what is updated, or its shapes.
        rows: of the batch of an update.

    Returns:
        Options of `jax.jit`; none for large layers or batches, or on another backend.
    """
    is_short = rows <= _ROWS and all(leaf.size <= _WEIGHTS for leaf in jax.tree.leaves(params))
    return dict(_SAVE_MEMORY) if is_short and jax.default_backend() == "cpu" else {}
