# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "distrax==0.1.9", "gymnax==0.0.9", "six==1.17.0", "flax==0.12.8", "optax==0.2.8", "jax==0.10.1", "jaxlib==0.10.1"
# ]
# ///
"""PureJaxRL's own PPO (Lu et al. 2022, arXiv 2210.05639), out of a checkout of its sources: it is not on PyPI.

Its scripts run as they are, with gymnax 0.0.9, the last that they fit. Two things around them are not as they were:

- ``wrappers.py`` imports brax and navix, which its PPO does not use; here they are empty.
- ``ppo_rnn.py`` calls flax's GRU as flax 0.6 had it; here that call makes the GRU of today, of as many cells.

The driver runs this, see ``__main__.py``.
"""

import importlib
import sys
import time
import types
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.peers.protocol import Task, answer, parse

CELLS = 128  # of the recurrent one, and the width of its layers; they are fixed in its sources
SIZES = (64, 64)  # of the other one


def settings(task: Task) -> dict[str, Any]:
    """PureJaxRL's ``config``: the work of ``task``, and its own values for CartPole."""
    return {
        "LR": 2.5e-4,
        "NUM_ENVS": task.num_envs,
        "NUM_STEPS": task.rollout_length,
        "TOTAL_TIMESTEPS": task.frames,
        "UPDATE_EPOCHS": task.epochs,
        "NUM_MINIBATCHES": task.num_minibatches,
        "GAMMA": 0.99,
        "GAE_LAMBDA": 0.95,
        "CLIP_EPS": 0.2,
        "ENT_COEF": 0.01,
        "VF_COEF": 0.5,
        "MAX_GRAD_NORM": 0.5,
        "ACTIVATION": "tanh",
        "ENV_NAME": task.env_id,
        "ANNEAL_LR": True,
        "DEBUG": False,
    }


def sources(checkout: str, recurrent: bool) -> Any:
    """Its module ``ppo`` or ``ppo_rnn``."""
    for name in ("brax", "brax.envs", "brax.envs.wrappers", "brax.envs.wrappers.training", "navix"):
        sys.modules[name] = types.ModuleType(name)
    brax: Any = sys.modules["brax"]
    brax.envs = sys.modules["brax.envs"]
    training: Any = sys.modules["brax.envs.wrappers.training"]
    training.EpisodeWrapper = training.AutoResetWrapper = None
    sys.path.insert(0, str(Path(checkout) / "purejaxrl"))
    if not recurrent:
        return importlib.import_module("ppo")

    import flax.linen as nn
    import jax.numpy as jnp

    GRU = nn.GRUCell

    class GRUCell:
        """Flax's, called as in flax 0.6."""

        def __new__(cls) -> Any:
            return GRU(CELLS)

        @staticmethod
        def initialize_carry(key, batch_dims, size):
            return jnp.zeros((*batch_dims, size))

    nn.GRUCell = GRUCell  # type: ignore[assignment, misc]
    return importlib.import_module("ppo_rnn")


def main():
    task = parse()
    began = time.perf_counter()
    import jax

    train = sources(task.checkout, bool(task.num_cells)).make_train(settings(task))
    imported = time.perf_counter()
    key = jax.random.PRNGKey(task.seed)
    program = jax.jit(train).lower(key).compile()
    compiled = time.perf_counter()
    result = jax.block_until_ready(program(key))
    returns = result["metric" if task.num_cells else "metrics"]["returned_episode_returns"]
    answer(
        frames=returns.size,
        run_seconds=time.perf_counter() - compiled,
        import_seconds=imported - began,
        compile_seconds=compiled - imported,
        last_return=float(returns[-1].mean()),
        versions={name: version(name) for name in ("gymnax", "distrax", "flax", "optax", "jax", "jaxlib")},
    )


if __name__ == "__main__":
    main()
