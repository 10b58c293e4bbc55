"""What objectives report beside the terms of their losses."""

import jax
import jax.numpy as jnp

_ROUNDING = 1e-12  # variance of float32 numbers of mean square 1 that are constant up to rounding


def explained_variance(value: jax.Array, target: jax.Array, weight: jax.Array) -> jax.Array:
    """How well values predict their targets: ``1 - Var[target - value] / Var[target]``, float32 ``[]``.

    It is 1 if all values are right up to a common offset, 0 if they say no more than a constant, and negative if they
    say less. It is also 0 where the targets are constant, or no step has weight. No gradient flows through it. On
    several devices each computes it for its own steps, and what is reported is the mean of these numbers.

    Args:
        value: float32 ``[...]``, or ``[..., values]`` where an observation has several values, whose variances are
            added up.
        target: of the same shape.
        weight: float32 ``[...]``, 1 for steps that count and 0 for others.
    """
    counts = weight.reshape(1, -1)
    value, target = (jax.lax.stop_gradient(x).reshape(counts.size, -1) for x in (value, target))
    share = counts / jnp.maximum(counts.sum(), 1.0)

    def means(*columns: jax.Array) -> list[jax.Array]:
        # As a product: XLA's CPU backend makes several kernels of every sum.
        found = jnp.matmul(share, jnp.concatenate(columns, axis=1), precision="highest")
        return jnp.split(found, len(columns), axis=1)

    error = target - value
    middle, bias, square = means(target, error, jnp.square(target))
    total, unexplained = (x.sum() for x in means(jnp.square(target - middle), jnp.square(error - bias)))
    varies = total > _ROUNDING * square.sum()
    return jnp.where(varies, 1.0 - unexplained / jnp.where(varies, total, 1.0), 0.0)
