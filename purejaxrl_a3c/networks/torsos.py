"""What turns observations into features: flax modules ``[..., *observation_shape] -> [..., F]``.

Each ends in fully connected layers, ``hidden_sizes`` of them. Any flax module of that type can take their place.
"""

import functools
from collections.abc import Callable
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import tyro

from purejaxrl_a3c import checks

Torso = Annotated[str | nn.Module, tyro.conf.arg(constructor=str)]
"""The type of a config's field: a name on the command line, in Python also a flax module."""

ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "elu": nn.elu,
    "gelu": nn.gelu,
    "relu": nn.relu,
    "silu": nn.silu,
    "tanh": nn.tanh,
}


def orthogonal(scale):
    """Orthogonal initializer (Saxe et al. 2014, arXiv 1312.6120) that is safe to ``vmap``.

    An orthogonal matrix comes from a QR factorisation, and a *batched* QR, which is what `jax.vmap` over seeds
    makes of it, can wait for ever on jaxlib 0.10 with two cores: each thread of the pool that runs the batch
    waits for tasks that need a thread of that same pool. Mapped one after the other, every QR has batch 1,
    which runs in the calling thread. This is the package's only call into LAPACK, and must stay so.

    Args:
        scale: factor on the orthogonal matrix.

    Returns:
        A flax initializer ``(key, shape, dtype) -> matrix [shape]``.
    """

    def init(key, shape, dtype=jnp.float32):
        @jax.custom_batching.sequential_vmap
        def draw(key):
            return nn.initializers.orthogonal(scale)(key, shape, dtype)

        return draw(key)

    return init


class MLP(nn.Module):
    """Fully connected layers over the flattened observation.

    Attributes:
        observation_rank: number of axes of one observation.
        hidden_sizes: widths of the layers.
        activation: a key of `ACTIVATIONS`.
        layer_norm: normalise each layer before its activation (Ba et al. 2016, arXiv 1607.06450).
    """

    observation_rank: int
    hidden_sizes: tuple[int, ...]
    activation: str
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x):
        """Features for ``x [..., *observation_shape]``."""
        x = x.reshape(*x.shape[: x.ndim - self.observation_rank], -1)
        for size in self.hidden_sizes:
            # sqrt(2), 0.01 and 1 as in Andrychowicz et al. 2021 (arXiv 2006.05990) and OpenAI Baselines.
            x = nn.Dense(size, kernel_init=orthogonal(2**0.5))(x)
            x = nn.LayerNorm()(x) if self.layer_norm else x
            x = ACTIVATIONS[self.activation](x)
        return x


class Convolution(nn.Module):
    """A convolution ``[..., H, W, C] -> [..., H', W', features]``, also as one matrix product over patches.

    Under A3C every worker has weights of its own, and a convolution that is mapped over its weights becomes a grouped
    one, a product a batched product. ``benchmarks/convolution.py`` measures which is faster when.

    Attributes:
        features: output channels.
        size: height and width of the window.
        stride: step of the window, in pixels.
        padding: "VALID", or "SAME" as in TensorFlow.
        as_product: compute it as a product over patches; the parameters are the same.
    """

    features: int
    size: int
    stride: int = 1
    padding: str = "VALID"
    as_product: bool = False

    @nn.compact
    def __call__(self, x):
        """Convolve."""
        inputs = self.size * self.size * x.shape[-1]
        kernel = self.param("kernel", orthogonal(2**0.5), (inputs, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        height, width, _ = x.shape[-3:]
        if self.padding == "SAME":
            pads = jax.lax.padtype_to_pads((height, width), (self.size,) * 2, (self.stride,) * 2, "SAME")
            x = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + list(pads) + [(0, 0)])
            height, width, _ = x.shape[-3:]
        if min(height, width) < self.size:
            checks.reject("torso", f"a window of {self.size}x{self.size}", f"no larger than its input, {x.shape[-3:]}")

        def window(i, j):
            rows = slice(i, height - self.size + i + 1, self.stride)
            columns = slice(j, width - self.size + j + 1, self.stride)
            return x[..., rows, columns, :]

        if self.as_product:
            patches = [window(i, j) for i in range(self.size) for j in range(self.size)]
            product = jnp.concatenate(patches, axis=-1) @ kernel
            return product + bias.reshape((1,) * (x.ndim - 1) + (-1,))
        rows = x.reshape(-1, *x.shape[-3:])
        window_first = kernel.reshape(self.size, self.size, x.shape[-1], self.features)
        strides = (self.stride, self.stride)
        layout = ("NHWC", "HWIO", "NHWC")
        rows = jax.lax.conv_general_dilated(rows, window_first, strides, "VALID", dimension_numbers=layout)
        return rows.reshape(*x.shape[:-3], *rows.shape[1:]) + bias.reshape((1,) * (x.ndim - 1) + (-1,))


class Convolutional(nn.Module):
    """Convolutions, each followed by the activation, and an `MLP`.

    Attributes:
        layers: ``(features, size, stride)`` of each convolution.
        hidden_sizes: as in `MLP`.
        activation: as in `MLP`.
        layer_norm: as in `MLP`.
        as_product: as in `Convolution`.
    """

    layers: tuple[tuple[int, int, int], ...]
    hidden_sizes: tuple[int, ...]
    activation: str
    layer_norm: bool = False
    as_product: bool = False

    @nn.compact
    def __call__(self, x):
        """Features for ``x [..., H, W, C]``."""
        for features, size, stride in self.layers:
            x = ACTIVATIONS[self.activation](Convolution(features, size, stride, as_product=self.as_product)(x))
        return MLP(3, self.hidden_sizes, self.activation, self.layer_norm)(x)


class Residual(nn.Module):
    """IMPALA's residual network (Espeholt et al. 2018, arXiv 1802.01561, figure 3, right) and an `MLP`.

    Attributes:
        channels: of each of the sections, which halve height and width.
        hidden_sizes: as in `MLP`.
        activation: of the `MLP`; the residual blocks use ReLU, as in the paper.
        layer_norm: as in `MLP`.
        as_product: as in `Convolution`.
    """

    channels: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    activation: str
    layer_norm: bool = False
    as_product: bool = False

    @nn.compact
    def __call__(self, x):
        """Features for ``x [..., H, W, C]``."""
        convolution = functools.partial(Convolution, size=3, padding="SAME", as_product=self.as_product)
        for features in self.channels:
            x = _max_pool(convolution(features)(x))
            for _ in range(2):
                block = convolution(features)(nn.relu(x))
                x = x + convolution(features)(nn.relu(block))
        return MLP(3, self.hidden_sizes, self.activation, self.layer_norm)(nn.relu(x))


def _max_pool(x):
    """Maximum over windows of 3x3 with stride 2, "SAME", of ``[..., H, W, C]``."""
    rows = x.reshape(-1, *x.shape[-3:])
    pooled = nn.max_pool(rows, (3, 3), (2, 2), "SAME")
    return pooled.reshape(*x.shape[:-3], *pooled.shape[1:])


TORSOS: dict[str, Callable[..., nn.Module]] = {
    # Young & Tian 2019 (arXiv 1903.03176): one layer of 16 3x3 windows.
    "minatar": functools.partial(Convolutional, ((16, 3, 1),)),
    # Mnih et al. 2015 (doi 10.1038/nature14236).
    "nature": functools.partial(Convolutional, ((32, 8, 4), (64, 4, 2), (64, 3, 1))),
    "impala": functools.partial(Residual, (16, 32, 32)),
}
"""For observations of height, width and channels; the arguments are the attributes from ``hidden_sizes`` on."""
