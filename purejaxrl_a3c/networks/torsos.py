"""Torsos turn observations into features: flax modules ``[..., *observation_shape] -> [..., F]``.

Every torso ends in fully connected layers of the widths ``hidden_sizes``. Any flax module with these shapes can take a
torso's place; `custom.check_module` says what it must be like.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl_a3c import checks
from purejaxrl_a3c.backend.convolution import convolve
from purejaxrl_a3c.networks.initializers import orthogonal

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "elu": nn.elu,
    "gelu": nn.gelu,
    "relu": nn.relu,
    "silu": nn.silu,
    "tanh": nn.tanh,
}


class MLP(nn.Module):
    """Fully connected layers on the flattened observation.

    Attributes:
        observation_rank: number of axes of one observation.
        hidden_sizes: widths of the layers; without any, the features are the flattened observation.
        activation: a key of `ACTIVATIONS`.
        layer_norm: normalise each layer's output before its activation (Ba et al. 2016, arXiv 1607.06450).
    """

    observation_rank: int
    hidden_sizes: tuple[int, ...]
    activation: str
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features ``[..., F]`` of ``x [..., *observation_shape]``."""
        x = x.reshape(*x.shape[: x.ndim - self.observation_rank], -1)
        for size in self.hidden_sizes:
            # The scales sqrt(2) here, and 0.01 and 1 in the heads, are those of Andrychowicz et al. 2021 (arXiv
            # 2006.05990) and OpenAI Baselines.
            x = nn.Dense(size, kernel_init=orthogonal(2**0.5))(x)
            x = nn.LayerNorm()(x) if self.layer_norm else x
            x = ACTIVATIONS[self.activation](x)
        return x


class Convolution(nn.Module):
    """A convolution ``[..., H, W, C] -> [..., H', W', features]``, which can be computed as one matrix product.

    Workers of A3C have weights of their own. A convolution that is mapped over its weights becomes a grouped
    convolution, and a product becomes a batched product. ``benchmarks/convolution.py`` measures which is faster.

    Attributes:
        features: number of output channels.
        size: height and width of the window, in pixels.
        stride: step of the window, in pixels.
        padding: "VALID", or "SAME" as TensorFlow defines it.
        as_product: compute the convolution as a product over patches; the parameters are the same.
    """

    features: int
    size: int
    stride: int = 1
    padding: str = "VALID"
    as_product: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The convolution of ``x [..., H, W, C]``.

        Raises:
            InputError: if the window is larger than the image.
        """
        inputs = self.size * self.size * x.shape[-1]
        kernel = self.param("kernel", orthogonal(2**0.5), (inputs, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        if self.padding == "SAME":
            x = _pad_as_same(x, self.size, self.stride)
        if min(x.shape[-3:-1]) < self.size:
            checks.reject("torso", f"a window of {self.size}x{self.size}", f"no larger than its input, {x.shape[-3:]}")
        product = _multiply_patches if self.as_product else _convolve
        return product(x, kernel, self.size, self.stride) + bias.reshape((1,) * (x.ndim - 1) + (-1,))


def _pad_as_same(x: jax.Array, size: int, stride: int) -> jax.Array:
    pads = jax.lax.padtype_to_pads(x.shape[-3:-1], (size, size), (stride, stride), "SAME")
    return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + list(pads) + [(0, 0)])


def _multiply_patches(x: jax.Array, kernel: jax.Array, size: int, stride: int) -> jax.Array:
    height, width, _ = x.shape[-3:]

    def pixels(i: int, j: int) -> jax.Array:
        """The pixel at row ``i`` and column ``j`` of every window."""
        rows = slice(i, height - size + i + 1, stride)
        columns = slice(j, width - size + j + 1, stride)
        return x[..., rows, columns, :]

    patches = [pixels(i, j) for i in range(size) for j in range(size)]
    return jnp.concatenate(patches, axis=-1) @ kernel


def _convolve(x: jax.Array, kernel: jax.Array, size: int, stride: int) -> jax.Array:
    images = convolve(x.reshape(-1, *x.shape[-3:]), kernel.reshape(size, size, x.shape[-1], -1), stride)
    return images.reshape(*x.shape[:-3], *images.shape[1:])


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
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features ``[..., F]`` of ``x [..., H, W, C]``."""
        for features, size, stride in self.layers:
            x = ACTIVATIONS[self.activation](Convolution(features, size, stride, as_product=self.as_product)(x))
        return MLP(3, self.hidden_sizes, self.activation, self.layer_norm)(x)


class Residual(nn.Module):
    """IMPALA's residual network (Espeholt et al. 2018, arXiv 1802.01561, figure 3, right) and an `MLP`.

    Attributes:
        channels: number of channels of each section; a section halves height and width.
        hidden_sizes: as in `MLP`.
        activation: activation of the `MLP`; the residual blocks use ReLU, as in the paper.
        layer_norm: as in `MLP`.
        as_product: as in `Convolution`.
    """

    channels: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    activation: str
    layer_norm: bool = False
    as_product: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features ``[..., F]`` of ``x [..., H, W, C]``."""
        convolution = functools.partial(Convolution, size=3, padding="SAME", as_product=self.as_product)
        for features in self.channels:
            x = _max_pool(convolution(features)(x))
            for _ in range(2):
                block = convolution(features)(nn.relu(x))
                x = x + convolution(features)(nn.relu(block))
        return MLP(3, self.hidden_sizes, self.activation, self.layer_norm)(nn.relu(x))


def _max_pool(x: jax.Array) -> jax.Array:
    """Maximum over windows of 3x3 with stride 2, "SAME", of ``[..., H, W, C]``."""
    images = x.reshape(-1, *x.shape[-3:])
    pooled = nn.max_pool(images, (3, 3), (2, 2), "SAME")
    return pooled.reshape(*x.shape[:-3], *pooled.shape[1:])


class Structured(nn.Module):
    """Features of several arrays: each goes through a module of its own, and fully connected layers see all of them.

    Attributes:
        parts: for each array, in the order of their names, a module ``[..., *shape] -> [..., F]``.
        layers: from all features side by side to those of the torso.
    """

    parts: tuple[nn.Module, ...]
    layers: nn.Module

    @nn.compact
    def __call__(self, obs: Any) -> jax.Array:
        """Features ``[..., F]`` of a dict of arrays ``[..., *shape]``."""
        features = [part(x) for part, x in zip(self.parts, jax.tree.leaves(obs), strict=True)]
        found: jax.Array = self.layers(jnp.concatenate(features, axis=-1))
        return found


class ImageTorso(Protocol):
    """Makes a torso for observations of height, width and channels."""

    def __call__(
        self, hidden_sizes: tuple[int, ...], activation: str, layer_norm: bool, *, as_product: bool = False
    ) -> nn.Module:
        """A module with these attributes; see `Convolutional`."""
        ...


TORSOS: dict[str, ImageTorso] = {
    # Young & Tian 2019 (arXiv 1903.03176): one convolution with 16 windows of 3x3.
    "minatar": functools.partial(Convolutional, ((16, 3, 1),)),
    # Mnih et al. 2013 (arXiv 1312.5602), with one hidden layer of 256; Mnih et al. 2016 train A3C on Atari with it.
    "nips": functools.partial(Convolutional, ((16, 8, 4), (32, 4, 2))),
    # Mnih et al. 2015 (doi 10.1038/nature14236).
    "nature": functools.partial(Convolutional, ((32, 8, 4), (64, 4, 2), (64, 3, 1))),
    "impala": functools.partial(Residual, (16, 32, 32)),
}
"""The torsos for images by name."""
