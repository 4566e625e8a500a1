"""lab_quantize and lab_soft_encode: colours of images at a lower resolution, as classes to predict, in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from sslfast.errors import UserError
from sslfast.ops.inputs import pair
from sslfast.registry import nearest

LAB_KINDS = ("grid", "rescaled", "ab313")
COLOR_SPACES = ("lab", "rgb")


def lab_quantize(
    images: Tensor, size: int | tuple[int, int], kind: str = "grid", space: str = "lab", return_ranges: bool = False
) -> tuple[Tensor, ...]:
    """Averages the colour of sRGB images over cells, and sorts L into 100 bins and (a, b) into 10 x 10, or into 313.

    A cell is the mean of its pixels, as `torch.nn.functional.adaptive_avg_pool2d` spreads them. The kinds:

    - `grid`: bins of equal width, L from 0 to 100, a and b from -128 to 127;
    - `rescaled`: bins of equal width, each channel from its least to its greatest cell in the same image, so that the
      few colours of a natural image spread over all bins. A channel that varies by no more than 0.01, the accuracy of
      the conversion (0.01 / 255 for RGB), is all in bin 0;
    - `ab313`: L as in `grid`, and (a, b) in the nearest of the 313 bins of `ab_bins`.

    In the space `rgb`, R takes the place of L, and (G, B) that of (a, b); the grid is from 0 to 1.

    Args:
        images: (B, 3, H, W) uint8 in [0, 255], or float32, which is cut to [0, 1].
        size: height h and width w of the targets (an int for a square), at most H and W.
        kind: "grid", "rescaled" or (of Lab) "ab313".
        space: "lab" or "rgb".
        return_ranges: also return what the bins divide, which `lab_dequantize` needs for `rescaled`.

    Returns:
        first: (B, h, w) int64 in [0, 100), bin of L or R.
        rest: (B, h, w) int64, in [0, 100): 10 * (bin of a or G) + (bin of b or B); for `ab313` in [0, 313).
        Both are classes as `torch.nn.functional.cross_entropy` takes them. A cell with a NaN has bin 0.
        ranges: (B, 3, 2) float32, only with `return_ranges`: least and greatest value of each channel's bins, in units
        of Lab or of RGB in [0, 1]; `ab313` does not use those of a and b.

    Raises:
        UserError: an unknown kind or space, `ab313` of RGB, or a size that is not one or two whole numbers.
        RuntimeError: another dtype or shape, or a size above the images'.

    Source: Zhang et al. 2017 (split-brain autoencoders), section 3.2, with 100 bins of L as of (a, b); Zhang et al.
    2016 (colorful image colorization), section 2.1, for `ab313`.
    """
    check_kind("lab_quantize", kind, space)
    first, rest, ranges = torch.ops.sslfast.lab_quantize(
        images.detach().contiguous(), *pair("lab_quantize", "size", size), LAB_KINDS.index(kind), space == "rgb"
    )
    return (first, rest, ranges) if return_ranges else (first, rest)


def lab_soft_encode(
    images: Tensor, size: int | tuple[int, int], neighbours: int = 10, sigma: float = 5.0
) -> tuple[Tensor, Tensor]:
    """Averages the Lab colour of sRGB images over cells, and spreads (a, b) over the nearest of the 313 bins.

    The weight of a bin at distance d is exp(-d^2 / (2 sigma^2)), divided by the sum over the neighbours. What is kept
    is sparse: `SoftCrossEntropyLoss` takes it as it is.

    Args:
        images: (B, 3, H, W) uint8 in [0, 255], or float32, which is cut to [0, 1].
        size: height h and width w of the targets (an int for a square), at most H and W.
        neighbours: K, 1 to 10. The paper writes 5, its authors' code has 10.
        sigma: of the Gaussian, in units of Lab, 0.001 to 1,000,000.

    Returns:
        indices: (B, K, h, w) int64 in [0, 313), numbers of `ab_bins`, the nearest first: `indices[:, 0]` is the class
        that `lab_quantize(…, "ab313")` gives.
        weights: (B, K, h, w) float32, above 0, with sum 1 over K.
        A cell with a NaN has the indices 0 and the weights NaN.

    Raises:
        UserError: a size that is not one or two whole numbers.
        RuntimeError: another dtype or shape, a size above the images', or a number outside its range.

    Source: Zhang et al. 2016 (colorful image colorization), section 2.1 and footnote on soft encoding.
    """
    return torch.ops.sslfast.lab_soft_encode(
        images.detach().contiguous(), *pair("lab_soft_encode", "size", size), neighbours, sigma
    )


def check_kind(op: str, kind: str, space: str) -> None:
    """Raises UserError unless the names exist and go together."""
    if kind not in LAB_KINDS:
        raise UserError(f"{op}: unknown kind {kind!r}; {nearest(kind, list(LAB_KINDS))}")
    if space not in COLOR_SPACES:
        raise UserError(f"{op}: unknown space {space!r}; {nearest(space, list(COLOR_SPACES))}")
    if kind == "ab313" and space == "rgb":
        raise UserError(f"{op}: the bins of 'ab313' are of Lab; choose the kind 'grid' or 'rescaled' for RGB")


@torch.library.register_fake("sslfast::lab_quantize")
def _(images: Tensor, height: int, width: int, kind: int, rgb: bool) -> tuple[Tensor, Tensor, Tensor]:
    shape = (images.shape[0], height, width)
    classes = (images.new_empty(shape, dtype=torch.int64), images.new_empty(shape, dtype=torch.int64))
    return *classes, images.new_empty((images.shape[0], 3, 2), dtype=torch.float32)


@torch.library.register_fake("sslfast::lab_soft_encode")
def _(images: Tensor, height: int, width: int, neighbours: int, sigma: float) -> tuple[Tensor, Tensor]:
    shape = (images.shape[0], neighbours, height, width)
    return images.new_empty(shape, dtype=torch.int64), images.new_empty(shape, dtype=torch.float32)
