"""Wrong numbers from the compiler itself: why pyproject.toml excludes jax 0.10.0 and 0.10.2.

Each test is the smallest reproduction, compared with NumPy in float64. Should one fail on a version that is not
excluded, exclude it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("optimized")


def test_a_scan_of_a_vmapped_affine_map_whose_result_is_not_returned():
    """Issue 36958 of jax, reported for 0.10.0; on the x86-64 processor it was tried on here it passes there too."""
    rng = np.random.default_rng(0)
    matrix, offset = rng.normal(size=(2, 2)), rng.normal(size=2)
    points, steps = rng.normal(size=(8, 2)), 10

    @jax.jit
    def integrate(matrix, offset, points):
        def euler(points, _):
            velocity = jax.vmap(lambda point: matrix @ point + offset)(points)
            return points + velocity / steps, points

        return jax.lax.scan(euler, points, length=steps)[0]

    expected = points
    for _ in range(steps):
        expected = expected + (expected @ matrix.T + offset) / steps
    result = integrate(*(jnp.asarray(x, jnp.float32) for x in (matrix, offset, points)))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_a_vmapped_sum_of_squares_over_many_rows():
    """Issue 39103 of jax: the last rows are wrong on the CPU backend of jaxlib 0.10.2."""
    matrix, rows = np.eye(3), np.zeros((32769, 3))
    rows[:, 0] = np.arange(len(rows))

    @jax.jit
    def norms(matrix, rows):
        return jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2))(rows)

    result = norms(jnp.asarray(matrix, jnp.float32), jnp.asarray(rows, jnp.float32))
    np.testing.assert_allclose(result, ((rows @ matrix.T) ** 2).sum(-1), rtol=1e-3)
