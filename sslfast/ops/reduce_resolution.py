"""reduce_resolution: images down by a factor of their own, and up again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def reduce_resolution(images: Tensor, factors: Tensor) -> Tensor:
    """Gives every block of f x f pixels its mean, with another factor f for each image; the size stays.

    Blocks are counted from the top left; the last ones of a row or column may be smaller.

    Args:
        images: (N, C, H, W) uint8, float16, bfloat16, float32 or float64, any values, at most 8192 pixels wide.
        factors: (N,) int32; 1 or less leaves an image as it is, one above its size makes it plain.

    Returns:
        Same shape and dtype, contiguous. uint8 is rounded to the nearest. Differentiable by images.

    Raises:
        RuntimeError: a wrong dtype, shape or device.
    """
    return torch.ops.sslfast.reduce_resolution(images.contiguous(), factors.contiguous())


@torch.library.register_fake("sslfast::reduce_resolution")
def _(images: Tensor, factors: Tensor) -> Tensor:
    return images.new_empty(images.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    """The map is its own adjoint."""
    (factors,) = ctx.saved_tensors
    return reduce_resolution(grad, factors), None


torch.library.register_autograd("sslfast::reduce_resolution", _backward, setup_context=_setup)
