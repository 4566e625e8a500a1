"""patch_grid_params: what a grid draws for each image, from a counter-based generator."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sslfast.augment.grids import GridSpec


class PatchGridParams(NamedTuple):
    """The tables of `patch_grid`, and the number of the arrangement that each image has drawn.

    Attributes:
        order: (B, K) int64, offsets: (B, K, 2) int32, dropped: (B, K) int32; see `patch_grid`.
        arrangement: (B,) int64, position in the spec's `arrangements`; 0 where it has none.
        reduced: (B, K) int32, factor by which each patch loses resolution, 1 where it loses none.
    """

    order: Tensor
    offsets: Tensor
    dropped: Tensor
    arrangement: Tensor
    reduced: Tensor


def patch_grid_params(
    spec: GridSpec, index: Tensor, seed: int = 0, epoch: int = 0, view: int = 0, channels: int = 3
) -> PatchGridParams:
    """Draws the arrangement, offsets, dropped channels and loss of resolution of every image's patches.

    An image's rows depend on (seed, epoch, index, view) and the spec alone: the same bits on a CPU or a GPU, at any
    batch size, on any number of ranks, in any order.

    Args:
        spec: what to draw from.
        index: (B,) int64; position of each image in the data set. Any number names a stream, also a negative one.
        seed: any 64-bit integer.
        epoch: 0 to 2**32 - 1.
        view: number of the view, 0 to 65535.
        channels: of the images, 1 to 32; matters to `channel_drop` alone.

    Returns:
        PatchGridParams, on the index's device.

    Raises:
        RuntimeError: a wrong dtype, shape or device, or a number outside its range.

    Source: Philox4x32-10 of Salmon et al., SC 2011.
    """
    arrangements = _arrangements(spec, index.device) if spec.arrangements else None
    return PatchGridParams(
        *torch.ops.sslfast.patch_grid_params(
            index,
            arrangements,
            spec.count,
            spec.jitter,
            spec.channel_drop,
            spec.channel_drop_count,
            channels,
            spec.reduce,
            spec.reduce_factor,
            seed,
            epoch,
            view,
        )
    )


@lru_cache(maxsize=64)
def _arrangements(spec: GridSpec, device: torch.device) -> Tensor:
    """(A, K) int64 on `device`; kept, so that the host does not wait for a copy in every step."""
    return torch.tensor(spec.arrangements, device=device)


@torch.library.register_fake("sslfast::patch_grid_params")
def _(
    index: Tensor,
    arrangements: Tensor | None,
    patches: int,
    jitter: int,
    channel_drop: float,
    drop_count: list[int],
    channels: int,
    reduce: float,
    reduce_factor: list[int],
    seed: int,
    epoch: int,
    view: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    count = index.shape[0]
    return (
        index.new_empty((count, patches)),
        index.new_empty((count, patches, 2), dtype=torch.int32),
        index.new_empty((count, patches), dtype=torch.int32),
        index.new_empty((count,)),
        index.new_empty((count, patches), dtype=torch.int32),
    )
