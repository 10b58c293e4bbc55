"""Reports of iterations in few arrays: to fetch one takes as long as a step of a small environment."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def pack(report: Any) -> dict[str, jax.Array]:
    """All numbers of a report as one vector for each of their dtypes, by its name."""
    leaves: dict[str, list[jax.Array]] = {}
    for leaf in jax.tree.leaves(report):
        leaves.setdefault(str(leaf.dtype), []).append(jnp.ravel(leaf))
    return {dtype: jnp.concatenate(vectors) for dtype, vectors in leaves.items()}


def unpack(packed: list[dict[str, Any]], types: Any) -> Any:
    """Reports as arrays of NumPy ``[n, ...]``.

    Args:
        packed: ``n`` reports, each as of `pack`.
        types: the shapes and dtypes of one.
    """
    rows = jax.device_get(packed)
    tables = {dtype: np.stack([row[dtype] for row in rows]) for dtype in (rows[0] if rows else ())}
    start = dict.fromkeys(tables, 0)

    def take(one: Any) -> np.ndarray:
        name = str(one.dtype)
        if not rows:
            return np.zeros((0, *one.shape), one.dtype)
        begin, start[name] = start[name], start[name] + one.size
        return tables[name][:, begin : start[name]].reshape(len(rows), *one.shape)

    return jax.tree.map(take, types)
