"""What can be done beside a run: in its compiled program, and between its pieces."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c.checks import check_count
from purejaxrl_a3c.run.chunks import run_in_chunks
from purejaxrl_a3c.run.evaluate import run_episodes
from purejaxrl_a3c.run.options import Options
from purejaxrl_a3c.run.train import AlgorithmConfig, Callback, Result, build
from purejaxrl_a3c.types import Key, Metrics, State


def evaluate_every(
    config: AlgorithmConfig, frames: int, episodes: int = 32, deterministic: bool = True, seed: int = 0
) -> Callback:
    """A `Callback` that evaluates the policy now and then, in the compiled run.

    It is used like this::

        train = make_train(config, callback=evaluate_every(config, 50_000))

    The metrics ``evaluation_return_mean`` and ``evaluation_return_std`` are those of whole episodes, each counted once,
    see `evaluate`. They are NaN in iterations in which nothing was evaluated, and if an episode did not end. Mapped
    over keys, all runs are evaluated in episodes that begin alike.

    Args:
        config: the ``Config`` of the run.
        frames: an evaluation every so many frames, rounded up to whole iterations.
        episodes: of an evaluation.
        deterministic: take the most probable action instead of a sampled one.
        seed: of the episodes.

    Raises:
        InputError: for a number that is not accepted.
    """
    check_count("frames", frames)
    check_count("episodes", episodes)
    every = -(-frames // build(config).frames_per_step)

    def callback(iteration: jax.Array, state: State, metrics: Metrics) -> Mapping[str, jax.Array]:
        del metrics

        def measure() -> tuple[jax.Array, jax.Array]:
            key = jax.random.fold_in(jax.random.key(seed), iteration)
            returns = run_episodes(build(config), state, key, episodes, deterministic).returns
            return returns.mean(), returns.std()

        nothing = jnp.float32(jnp.nan)
        mean, std = jax.lax.cond(iteration % every == 0, measure, lambda: (nothing, nothing))
        return {"evaluation_return_mean": mean, "evaluation_return_std": std}

    return callback


def train_in_pieces(config: Any, key: Key, on_piece: Callable[[Result], bool | None]) -> Result:
    """A run of which the program sees a piece every fraction of a second, and may end it early.

    Args:
        config: the ``Config`` of an algorithm, whose environments may be outside of JAX.
        key: of the run.
        on_piece: called with the `Result` so far, whose metrics are those of the newest piece and whose state is valid
            until it returns. The run ends if it returns True.

    Returns:
        The `Result` of all that was done, as arrays of NumPy. A run that was not ended is that of `make_train` up to
        rounding, whatever ``on_piece`` does.

    Raises:
        InputError: as `make_train`.
    """
    from purejaxrl_a3c.run.where import compile_run  # it imports the loops outside of JAX

    pieces: list[Metrics] = []
    state: State | None = None
    for piece in run_in_chunks(compile_run(config, Options(), None, None), key):
        pieces.append(piece.metrics)
        stop = on_piece(piece)
        state = jax.device_get(piece.state) if stop else piece.state
        if stop:
            break
    joined = jax.tree.map(lambda *rows: np.concatenate(rows), *pieces)
    return Result(jax.device_get(state), joined)
