"""A convolution whose gradients are fast on a CPU, also inside of a loop."""

import functools

import jax
import jax.numpy as jnp

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_MANY = 128  # images, from which on the copies that blocks take pay


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The convolution of images with windows that lie within them.

    A run is a loop, and in the body of a loop XLA brings the gradients of a convolution into no form for which it has
    fast code on a CPU (jax issue 12868): that of the windows takes 20 to 50 times as long as outside. Here they are
    written in that form. Other devices compute those that JAX derives.

    Args:
        images: ``[N, H, W, C]``.
        kernel: ``[size, size, C, features]``.
        stride: step of the window, in pixels.

    Returns:
        ``[N, H', W', features]``.
    """
    return jax.lax.conv_general_dilated(images, kernel, (stride, stride), "VALID", dimension_numbers=_LAYOUT)


def _forward(images: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(images, kernel, stride), (images, kernel)


def _backward(stride: int, saved: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    gradients = functools.partial(_on_cpu, stride=stride), functools.partial(_elsewhere, stride=stride)
    return jax.lax.platform_dependent(*saved, grad, cpu=gradients[0], default=gradients[1])


def _elsewhere(images: jax.Array, kernel: jax.Array, grad: jax.Array, stride: int) -> tuple[jax.Array, ...]:
    return jax.vjp(lambda *arguments: convolve.fun(*arguments, stride), images, kernel)[1](grad)


def _on_cpu(images: jax.Array, kernel: jax.Array, grad: jax.Array, stride: int) -> tuple[jax.Array, ...]:
    if stride == 1 or kernel.shape[0] % stride or len(grad) < _MANY:
        return _dilated(images, kernel, grad, stride)
    return _in_blocks(images, kernel, grad, stride)


def _in_blocks(images: jax.Array, kernel: jax.Array, grad: jax.Array, stride: int) -> tuple[jax.Array, ...]:
    """Both gradients, with blocks of ``stride`` x ``stride`` pixels as channels: no product is with zeros then."""
    count, channels, features = kernel.shape[0] // stride, kernel.shape[2], kernel.shape[3]
    height, width = (windows + count - 1 for windows in grad.shape[1:3])  # of the pixels in any window, in blocks
    blocks = kernel.reshape(count, stride, count, stride, channels, features).transpose(0, 2, 1, 3, 4, 5)
    blocks = blocks.reshape(count, count, -1, features)
    pads = [(count - 1, count - 1)] * 2
    flipped = jnp.swapaxes(blocks[::-1, ::-1], 2, 3)
    found = jax.lax.conv_general_dilated(grad, flipped, (1, 1), pads, dimension_numbers=_LAYOUT)
    found = found.reshape(len(grad), height, width, stride, stride, channels).transpose(0, 1, 3, 2, 4, 5)
    found = found.reshape(len(grad), height * stride, width * stride, channels)
    beyond = [(0, whole - part) for whole, part in zip(images.shape, found.shape, strict=True)]
    covered = images[:, : height * stride, : width * stride].reshape(len(grad), height, stride, width, stride, channels)
    covered = covered.transpose(0, 1, 3, 2, 4, 5).reshape(len(grad), height, width, -1)
    return jnp.pad(found, beyond), _of_blocks(covered, grad, kernel.shape, count)


def _of_blocks(blocks: jax.Array, grad: jax.Array, shape: tuple[int, ...], count: int) -> jax.Array:
    """The gradient of windows of ``count`` x ``count`` blocks: a product for each of them."""
    height, width = grad.shape[1:3]
    features, by_window = grad.shape[3], grad.reshape(-1, grad.shape[3]).T
    size, stride, channels = shape[0], shape[0] // count, shape[2]
    products = [
        by_window @ blocks[:, i : i + height, j : j + width].reshape(-1, blocks.shape[3])
        for i in range(count)
        for j in range(count)
    ]
    found = jnp.stack(products).reshape(count, count, features, stride, stride, channels)
    return found.transpose(0, 3, 1, 4, 5, 2).reshape(size, size, channels, features)


def _dilated(images: jax.Array, kernel: jax.Array, grad: jax.Array, stride: int) -> tuple[jax.Array, ...]:
    """Both gradients, with zeros between the windows; channels take the place of images, and images of channels."""
    ahead = kernel.shape[0] - 1
    height, width = ((count - 1) * stride + 1 for count in grad.shape[1:3])  # from the first to the last window
    pads = [(ahead, images.shape[1] - height), (ahead, images.shape[2] - width)]
    flipped = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    of_images = jax.lax.conv_general_dilated(
        grad, flipped, (1, 1), pads, lhs_dilation=(stride, stride), dimension_numbers=_LAYOUT
    )
    covered = images[:, : height + ahead, : width + ahead].transpose(3, 1, 2, 0)
    of_kernel = jax.lax.conv_general_dilated(
        covered, grad.transpose(1, 2, 0, 3), (1, 1), "VALID", rhs_dilation=(stride, stride), dimension_numbers=_LAYOUT
    )
    return of_images, of_kernel.transpose(1, 2, 0, 3)


convolve.defvjp(_forward, _backward)
