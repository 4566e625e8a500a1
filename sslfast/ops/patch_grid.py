"""patch_grid: a grid of patches cut out of every image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sslfast.errors import UserError
from sslfast.ops.checks import check_tensors
from sslfast.ops.inputs import pair
from sslfast.ops.reduce_resolution import reduce_resolution


def patch_grid(
    images: Tensor,
    grid: int | tuple[int, int],
    patch: int | tuple[int, int],
    stride: int | tuple[int, int],
    order: Tensor | None = None,
    offsets: Tensor | None = None,
    dropped: Tensor | None = None,
    reduced: Tensor | None = None,
) -> Tensor:
    """Cuts a grid of patches out of every image; patches may overlap, leave gaps, be moved, reordered and repeated.

    The corner of the patch in row r and column s lies at (r * stride, s * stride) plus its offset. A stride below
    `patch` overlaps, one above it leaves gaps. What lies outside of the image is 0.

    Args:
        images: (B, C, H, W) uint8, float16, bfloat16, float32 or float64, any values.
        grid: rows and columns (an int for a square); without offsets it lies inside the image.
        patch: height and width of a patch in pixels.
        stride: pixels from a patch to the one below it, and to the one on its right.
        order: (B, K) int64; which patch of the grid each result shows, counted row by row from 0. It may name some
            patches only, or one twice; a number that is no patch of the grid gives zeros. Absent: all in their order.
        offsets: (B, K, 2) int32; pixels by which each result is moved down and to the right.
        dropped: (B, K) int32; each result's channels that are set to 0, as bits (bit c for channel c, at most 32).
        reduced: (B, K) int32; factor by which each result loses resolution, 1 for none: `reduce_resolution` scales it
            down and up again. What is 0 of it counts as such.

    Returns:
        (B, K, C, patch, patch) of the images' dtype, contiguous; K is rows * columns without an order. Differentiable
        by images: a pixel's gradient is the sum over the patches that show it, with equal bits in every run.

    Raises:
        UserError: a grid, patch or stride that is not one or two whole numbers, a table that is no tensor, or `reduced`
            of another shape.
        RuntimeError: a wrong dtype, shape or device, or a grid that is larger than the image.
    """
    tables = {"order": order, "offsets": offsets, "dropped": dropped, "reduced": reduced}
    check_tensors("patch_grid", images=images, **{name: table for name, table in tables.items() if table is not None})
    patches: Tensor = torch.ops.sslfast.patch_grid(
        images.contiguous(),
        *(None if table is None else table.contiguous() for table in (order, offsets, dropped)),
        pair("patch_grid", "grid", grid),
        pair("patch_grid", "patch", patch),
        pair("patch_grid", "stride", stride),
    )
    if reduced is None:
        return patches
    if reduced.shape != patches.shape[:2]:
        raise UserError(
            f"patch_grid: reduced must have shape {tuple(patches.shape[:2])}, one factor for each patch, "
            f"got {tuple(reduced.shape)}"
        )
    return reduce_resolution(patches.flatten(0, 1), reduced.flatten()).view(patches.shape)


@torch.library.register_fake("sslfast::patch_grid")
def _(
    images: Tensor,
    order: Tensor | None,
    offsets: Tensor | None,
    dropped: Tensor | None,
    grid: list[int],
    patch: list[int],
    stride: list[int],
) -> Tensor:
    count = grid[0] * grid[1] if order is None else order.shape[1]
    return images.new_empty((images.shape[0], count, images.shape[1], *patch))


@torch.library.register_fake("sslfast::patch_grid_backward")
def _(
    grad: Tensor,
    order: Tensor | None,
    offsets: Tensor | None,
    dropped: Tensor | None,
    grid: list[int],
    stride: list[int],
    height: int,
    width: int,
) -> Tensor:
    return grad.new_empty((grad.shape[0], grad.shape[2], height, width))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    images, *tables, ctx.grid, _, ctx.stride = inputs
    ctx.size = images.shape[2:]
    ctx.save_for_backward(*tables)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    images_grad = torch.ops.sslfast.patch_grid_backward(
        grad.contiguous(), *ctx.saved_tensors, ctx.grid, ctx.stride, *ctx.size
    )
    return images_grad, *(None,) * 6


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, *tables, ctx.grid, ctx.stride, _, _ = inputs
    ctx.patch = list(grad.shape[3:])
    ctx.save_for_backward(*tables)


def _double_backward(ctx: Any, images: Tensor) -> tuple[Tensor | None, ...]:
    """The gradient is linear in the patches' gradient: what it does to images is undone by cutting patches again."""
    patches = torch.ops.sslfast.patch_grid(images.contiguous(), *ctx.saved_tensors, ctx.grid, ctx.patch, ctx.stride)
    return patches, *(None,) * 7


torch.library.register_autograd("sslfast::patch_grid", _backward, setup_context=_setup)
torch.library.register_autograd("sslfast::patch_grid_backward", _double_backward, setup_context=_setup_backward)
