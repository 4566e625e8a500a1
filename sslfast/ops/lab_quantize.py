"""lab_quantize: Lab colours of images at a lower resolution, as classes to predict, in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from sslfast.errors import UserError
from sslfast.registry import nearest

LAB_KINDS = ("grid", "rescaled")


def lab_quantize(images: Tensor, size: tuple[int, int], kind: str = "grid") -> tuple[Tensor, Tensor]:
    """Averages the Lab colour of sRGB images over cells, and sorts L into 100 bins and (a, b) into 10 x 10.

    A cell is the mean of its pixels, as `torch.nn.functional.adaptive_avg_pool2d` spreads them. Bins have equal widths:

    - `grid`: L from 0 to 100, a and b from -128 to 127;
    - `rescaled`: each channel from its least to its greatest cell in the same image, so that the few colours of a
      natural image spread over all bins. A channel that varies by no more than 0.01, the accuracy of the conversion, is
      all in bin 0.

    Args:
        images: (B, 3, H, W) uint8 in [0, 255], or float32, which is cut to [0, 1].
        size: height h and width w of the targets, at most H and W.
        kind: "grid" or "rescaled".

    Returns:
        lightness: (B, h, w) int64 in [0, 100), bin of L.
        color: (B, h, w) int64 in [0, 100), 10 * (bin of a) + (bin of b).
        Both are classes as `torch.nn.functional.cross_entropy` takes them. A cell with a NaN has bin 0.

    Raises:
        UserError: an unknown kind.
        RuntimeError: another dtype or shape, or a size above the images'.

    Source: Zhang et al. 2017 (split-brain autoencoders), section 3.2, with 100 bins of L as of (a, b).
    """
    if kind not in LAB_KINDS:
        raise UserError(f"lab_quantize: unknown kind {kind!r}; {nearest(kind, list(LAB_KINDS))}")
    return torch.ops.sslfast.lab_quantize(images.detach().contiguous(), *size, kind == "rescaled")


@torch.library.register_fake("sslfast::lab_quantize")
def _(images: Tensor, height: int, width: int, rescaled: bool) -> tuple[Tensor, Tensor]:
    shape = (images.shape[0], height, width)
    return images.new_empty(shape, dtype=torch.int64), images.new_empty(shape, dtype=torch.int64)
