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


_SHORT = 2**14  # numbers of a layer's weights; with more, DQN's kernels are long enough to be shared


def one_after_the_other(params: Params) -> dict[str, Any]:
    """For updates one after the other, whose kernels are so short that threads would wait longer than they work.

    XLA's CPU backend orders kernels so that threads can share them, unless it is told to save memory. The numbers are
    the same.

    Args:
        params: what is updated, or its shapes.

    Returns:
        Options of `jax.jit`; none for large layers, or on another backend.
    """
    short = all(leaf.size <= _SHORT for leaf in jax.tree.leaves(params))
    return dict(_SAVE_MEMORY) if short and jax.default_backend() == "cpu" else {}


def compute_where_called() -> None:
    """Let the thread that calls a program on the CPU compute it, which must be said before anything is computed.

    JAX hands it to another thread otherwise, and whoever needs the result at once waits for both to wake up. For a
    policy of two layers that takes twice as long as its arithmetic.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # it has no environment variable
