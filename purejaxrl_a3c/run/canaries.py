"""Small programs that some versions of JAX have computed wrongly, compared with NumPy."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def scan_of_affine_maps() -> bool:
    """Issue 36958 of jax, reported for 0.10.0: a scan of a mapped affine map whose result is not returned."""
    rng = np.random.default_rng(0)
    matrix, offset = rng.normal(size=(2, 2)), rng.normal(size=2)
    points, steps = rng.normal(size=(8, 2)), 10

    @jax.jit
    def integrate(matrix: jax.Array, offset: jax.Array, points: jax.Array) -> jax.Array:
        def euler(points: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            velocity = jax.vmap(lambda point: matrix @ point + offset)(points)
            return points + velocity / steps, points

        return jax.lax.scan(euler, points, length=steps)[0]

    expected = points
    for _ in range(steps):
        expected = expected + (expected @ matrix.T + offset) / steps
    with jax.default_matmul_precision("highest"):
        result = integrate(*(jnp.asarray(x, jnp.float32) for x in (matrix, offset, points)))
    return np.allclose(result, expected, rtol=1e-4, atol=1e-5)


def sums_of_many_rows() -> bool:
    """Issue 39103 of jax: with jaxlib 0.10.2 on a CPU the last rows are wrong."""
    matrix, rows = np.eye(3), np.zeros((32769, 3))
    rows[:, 0] = np.arange(len(rows))

    @jax.jit
    def norms(matrix: jax.Array, rows: jax.Array) -> jax.Array:
        return jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2))(rows)

    with jax.default_matmul_precision("highest"):
        result = norms(jnp.asarray(matrix, jnp.float32), jnp.asarray(rows, jnp.float32))
    return np.allclose(result, ((rows @ matrix.T) ** 2).sum(-1), rtol=1e-3)


CANARIES: dict[str, Callable[[], bool]] = {
    "scan of affine maps (jax issue 36958)": scan_of_affine_maps,
    "sums of many rows (jax issue 39103)": sums_of_many_rows,
}
"""What each is called, and whether its numbers are right here."""
