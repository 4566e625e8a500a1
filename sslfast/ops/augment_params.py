"""augment_params: the parameter table of one view of a batch, from a counter-based generator."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sslfast import _host

if TYPE_CHECKING:
    from sslfast.augment.spec import ViewSpec

AUGMENT_COLUMNS: tuple[str, ...] = _host.AUGMENT_COLUMNS
MAX_ROTATIONS = 16


def augment_params(
    spec: ViewSpec,
    index: Tensor,
    sizes: Tensor,
    seed: int = 0,
    epoch: int = 0,
    view: int = 0,
    channels: int = 3,
    views: int = 1,
) -> tuple[Tensor, Tensor]:
    """Draws what `augment` does to each image, one row an image.

    A row depends on (seed, epoch, index, view), the image's size and the spec alone: the same bits on a CPU or a GPU,
    at any batch size, on any number of ranks, in any order.

    Args:
        spec: what to draw from.
        index: (B,) int64; position of each image in the data set. Any number names a stream, also a negative one.
        sizes: (B, 2) int32; height and width of each image in pixels.
        seed: any 64-bit integer.
        epoch: 0 to 2**32 - 1.
        view: number of the view, 0 to 65535.
        channels: of the images, 1 to 16; matters to `channel_drop` alone.
        views: how many views to draw at once, `view` being the number of the first; row v * B + b is that of view
            `view` + v of image b.

    Returns:
        params: (views * B, len(AUGMENT_COLUMNS)) float32; columns named by `AUGMENT_COLUMNS`.
        noise_key: (views * B,) int64; names the stream of each image's pixel noise.

    Raises:
        RuntimeError: a wrong dtype, shape or device, or a number outside its range.

    Source: Philox4x32-10 of Salmon et al., SC 2011; crop rule of Szegedy et al. 2015 as in torchvision.
    """
    return torch.ops.sslfast.augment_params(index, sizes, list(encode(spec, channels)), seed, epoch, view, views)


@lru_cache(maxsize=256)
def encode(spec: ViewSpec, channels: int = 3) -> tuple[float, ...]:
    """The spec as numbers in the order of the kernel's `VIEW_FIELDS`."""
    low, high = spec.crop_scale or (1.0, 1.0)
    lowest, highest = spec.rotation_range or (0.0, 0.0)
    height, width = spec.shape
    values = {
        "view_height": height,
        "view_width": width,
        "channels": channels,
        "bicubic": spec.interpolation == "bicubic",
        "random_crop": spec.crop_scale is not None,
        "crop_scale_low": low,
        "crop_scale_high": high,
        "crop_log_ratio_low": math.log(spec.crop_ratio[0]),
        "crop_log_ratio_high": math.log(spec.crop_ratio[1]),
        "rotation_count": len(spec.rotation),
        **{f"rotation_{k}": spec.rotation[k] if k < len(spec.rotation) else 0.0 for k in range(MAX_ROTATIONS)},
        "rotation_is_range": spec.rotation_range is not None,
        "rotation_low": lowest,
        "rotation_high": highest,
        "blur_sigma_low": spec.blur_sigma[0],
        "blur_sigma_high": spec.blur_sigma[1],
        "channel_drop_low": spec.channel_drop_count[0],
        "channel_drop_high": spec.channel_drop_count[1],
        "cutout_scale_low": spec.cutout_scale[0],
        "cutout_scale_high": spec.cutout_scale[1],
        "cutout_log_ratio_low": math.log(spec.cutout_ratio[0]),
        "cutout_log_ratio_high": math.log(spec.cutout_ratio[1]),
    }
    return tuple(float(values[name] if name in values else getattr(spec, name)) for name in _host.VIEW_FIELDS)


@torch.library.register_fake("sslfast::augment_params")
def _(
    index: Tensor, sizes: Tensor, fields: list[float], seed: int, epoch: int, view: int, views: int = 1
) -> tuple[Tensor, Tensor]:
    count = views * index.shape[0]
    params = index.new_empty((count, len(AUGMENT_COLUMNS)), dtype=torch.float32)
    return params, index.new_empty((count,), dtype=torch.int64)
