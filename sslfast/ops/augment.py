"""augment: one view of every image of a batch, in one fused pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def augment(
    storage: Tensor,
    offsets: Tensor,
    sizes: Tensor,
    params: Tensor,
    noise_key: Tensor,
    size: tuple[int, int],
    channels: int = 3,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> Tensor:
    """Crops, resizes, flips, rotates, jitters, blurs, solarizes, corrupts and normalises every image by its own row.

    In this order: crop and antialiased resize (cut to [0, 1]), flips, rotation (bilinear, zeros outside), brightness,
    contrast, saturation and hue in the row's order, grayscale, gaussian blur (reflected edges), sobel, solarize,
    gaussian, salt-and-pepper and masking noise, channel drop, normalisation, cutout. Each step equals
    `torchvision.transforms.v2.functional` on float images in [0, 1]. Gray is 0.2989 R + 0.587 G + 0.114 B for three
    channels and the mean of the channels otherwise; hue acts on three channels only. Crops are cut to the image.

    Args:
        storage: (bytes,) uint8 in [0, 255]; packed images, rows of interleaved channels.
        offsets: (B,) int64; byte where each image begins.
        sizes: (B, 2) int32; height and width of each image.
        params: (B, len(AUGMENT_COLUMNS)) float32, from `augment_params`.
        noise_key: (B,) int64, from `augment_params`.
        size: height and width of the view, 1 to 32768 px; on a GPU, with less than 2^31 values. There, blurs of views
            of which shared memory does not hold a row and four columns (from some 6,000 px on) take a slower path.
        channels: channels of every image, 1 to 16.
        mean, std: normalisation per channel of values in [0, 1]; one entry serves all channels.
        dtype: torch.float32, float16 or bfloat16.
        channels_last: memory layout of the result.

    Returns:
        (B, channels, H, W) tensor of `dtype`. It carries no gradient: images are data.

    Raises:
        RuntimeError: a wrong dtype, shape, device or range; on a CPU, an image that does not lie inside the storage. On
            a GPU the view of such an image is NaN, because looking would make the host wait, and so is that of an image
            of 2^27 columns or more.
    """
    return torch.ops.sslfast.augment(
        storage,
        offsets,
        sizes,
        params,
        noise_key,
        size[0],
        size[1],
        channels,
        list(mean),
        list(std),
        dtype,
        channels_last,
    )


@torch.library.register_fake("sslfast::augment")
def _(
    storage: Tensor,
    offsets: Tensor,
    sizes: Tensor,
    params: Tensor,
    noise_key: Tensor,
    height: int,
    width: int,
    channels: int,
    mean: list[float],
    std: list[float],
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    return torch.empty(
        (offsets.shape[0], channels, height, width),
        dtype=dtype,
        device=storage.device,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )
