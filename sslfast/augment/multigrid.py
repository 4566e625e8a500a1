"""MultiGrid: a view of every image of a batch, and the patches that a grid cuts out of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sslfast import ops
from sslfast.augment.grids import GridSpec
from sslfast.augment.multiview import MultiView, Views, uncompiled
from sslfast.augment.spec import ViewSpec
from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError

IMAGE_STREAM, CHANNEL_STREAM = 0, 1  # numbers of the random streams: of view and patches, of the channels' places


@dataclass(kw_only=True)
class GridViews(Views):
    """A view of every image of a batch, and the patches that were cut out of it.

    Attributes:
        patches: (B, K, C, p, p), normalised like the view.
        drawn: what the grid drew: order, offsets and dropped channels of the patches, number of the arrangement.
    """

    patches: Tensor
    drawn: ops.PatchGridParams


class MultiGrid(MultiView):
    """Draws one view of every image and cuts it into patches; every draw depends on (seed, epoch, image index) alone.

    Args:
        view: of the image, no smaller than the grid.
        grid: how the view is cut, from its upper left corner.
        seed: names the run's random streams, any 64-bit integer.
        channel_jitter: every channel of a patch is moved down and to the right by -n to n pixels more, each drawn
            uniformly, as far as the grid's own jitter reaches; views that were made gray stay gray. It hides the lens's
            chromatic aberration, which tells where in the image a patch was (Noroozi and Favaro 2016).

    Raises:
        UserError: a view smaller than the grid, or a negative `channel_jitter`.
    """

    def __init__(self, view: ViewSpec, grid: GridSpec, seed: int = 0, channel_jitter: int = 0) -> None:
        super().__init__([view], seed)
        if any(side < need for side, need in zip(view.shape, grid.image_size, strict=True)):
            raise UserError(f"a grid of {grid.image_size} px cannot be cut out of views of {view.shape}; enlarge these")
        if channel_jitter < 0:
            raise UserError(f"channel_jitter is {channel_jitter}; it must be 0 or more pixels")
        self.grid = grid
        self.channel_jitter = channel_jitter

    @uncompiled
    @torch.no_grad()
    def __call__(self, batch: ImageBatch, epoch: int = 0) -> GridViews:
        """View and patches of every image of `batch`, on its device."""
        views = super().__call__(batch, epoch)
        grid = self.grid
        drawn = ops.patch_grid_params(grid, batch.index, self.seed, epoch, IMAGE_STREAM, batch.channels)
        if self.channel_jitter and grid.jitter:
            patches = self._cut_by_channel(views, drawn, epoch)
        else:
            patches = ops.patch_grid(views.tensors[0], grid.grid, grid.patch, grid.stride, *drawn[:3])
        if grid.reduce:
            reduced = ops.reduce_resolution(patches.flatten(0, 1), drawn.reduced.flatten())
            patches = reduced.unflatten(0, patches.shape[:2])
        return GridViews(views.tensors, views.params, views.index, views.label, patches=patches, drawn=drawn)

    def _cut_by_channel(self, views: Views, drawn: ops.PatchGridParams, epoch: int) -> Tensor:
        """The patches when each of their channels lies at a place of its own."""
        grid, images, reach = self.grid, views.tensors[0], self.channel_jitter
        batch, channels = images.shape[:2]
        # Another grid draws the shifts: one "patch" for each channel of each patch.
        places = GridSpec(grid=(channels, grid.count), patch=1, stride=1, jitter=2 * reach)
        shifts = ops.patch_grid_params(places, views.index, self.seed, epoch, CHANNEL_STREAM).offsets - reach
        shifts = shifts * (views.column(0, "grayscale") == 0)[:, None, None]
        # Every channel is cut as if it were an image: its bit of `dropped` is the lowest one.
        offsets = drawn.offsets[:, None] + shifts.unflatten(1, (channels, grid.count))
        dropped = (drawn.dropped[:, None] >> torch.arange(channels, device=images.device)[:, None]) & 1
        patches = ops.patch_grid(
            images.reshape(batch * channels, 1, *images.shape[2:]),
            grid.grid,
            grid.patch,
            grid.stride,
            drawn.order.repeat_interleave(channels, dim=0),
            offsets.clamp(0, grid.jitter).flatten(0, 1).int(),
            dropped.flatten(0, 1).int(),
        )
        return patches.view(batch, channels, *patches.shape[1:2], *patches.shape[3:]).transpose(1, 2).contiguous()


def mosaic(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patches laid out as a picture, each with a white line to its right and below.

    Args:
        patches: (B, rows * columns, C, h, w) in [0, 1], row by row.
        grid: rows and columns.

    Returns:
        (B, C, rows * (h + 1), columns * (w + 1)).
    """
    tiles = functional.pad(patches, (0, 1, 0, 1), value=1.0).unflatten(1, grid)  # (B, rows, columns, C, h + 1, w + 1)
    return tiles.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
