"""patch_grid by slicing, patch by patch."""

from __future__ import annotations

import torch
from torch import Tensor


def patch_grid(
    images: Tensor,
    grid: tuple[int, int],
    patch: tuple[int, int],
    stride: tuple[int, int],
    order: Tensor | None = None,
    offsets: Tensor | None = None,
    dropped: Tensor | None = None,
) -> Tensor:
    """Same arguments and result as `sslfast.ops.patch_grid`, with pairs of numbers."""
    count = grid[0] * grid[1] if order is None else order.shape[1]
    result = images.new_zeros((len(images), count, images.shape[1], *patch))
    for b in range(len(images)):
        for k in range(count):
            number = k if order is None else int(order[b, k])
            if not 0 <= number < grid[0] * grid[1]:
                continue
            down, right = (0, 0) if offsets is None else offsets[b, k].tolist()
            top, left = number // grid[1] * stride[0] + down, number % grid[1] * stride[1] + right
            rows, columns = range(images.shape[2]), range(images.shape[3])
            ys = [y for y in range(patch[0]) if top + y in rows]
            xs = [x for x in range(patch[1]) if left + x in columns]
            if not ys or not xs:
                continue
            inside = (slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1))
            source = (slice(top + ys[0], top + ys[-1] + 1), slice(left + xs[0], left + xs[-1] + 1))
            for c in range(images.shape[1]):
                if dropped is None or not int(dropped[b, k]) >> c & 1:
                    result[(b, k, c, *inside)] = images[(b, c, *source)]
    return result


def patch_grid_backward(
    grad: Tensor,
    grid: tuple[int, int],
    stride: tuple[int, int],
    size: tuple[int, int],
    order: Tensor | None = None,
    offsets: Tensor | None = None,
    dropped: Tensor | None = None,
) -> Tensor:
    """Gradient of `sum(grad * patch_grid(images, …))` by images of `size`, through autograd."""
    images = grad.new_zeros((len(grad), grad.shape[2], *size)).requires_grad_()
    with torch.enable_grad():
        patches = patch_grid(images, grid, (grad.shape[3], grad.shape[4]), stride, order, offsets, dropped)
        # The second summand is there for grids that show nothing of the images.
        (result,) = torch.autograd.grad((patches * grad).sum() + 0 * images.sum(), images)
    return result
