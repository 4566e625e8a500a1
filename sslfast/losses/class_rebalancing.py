"""Class rebalancing: rare colours weigh more, by how often each occurs in the user's own images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from sslfast.errors import UserError
from sslfast.ops.lab_dequantize import AB_BINS, ab_bins
from sslfast.ops.lab_quantize import lab_quantize


def count_ab_bins(batches: Iterable[Tensor], size: tuple[int, int]) -> Tensor:
    """Counts how often each of the 313 bins of the ab plane is the nearest to a cell of the images.

    Args:
        batches: tensors of images as `lab_quantize` takes them, (B, 3, H, W) uint8 or float32.
        size: height and width of the targets that the model will learn.

    Returns:
        (313,) int64, on the images' device; on the CPU where there are none.
    """
    counts = torch.zeros(AB_BINS, dtype=torch.int64)
    for images in batches:
        _, bins = lab_quantize(images, size, "ab313")
        counts = counts.to(bins.device) + torch.bincount(bins.flatten(), minlength=AB_BINS)
    return counts


def rebalancing_weights(counts: Tensor, uniform: float = 0.5, sigma: float = 5.0) -> Tensor:
    """Weights of the 313 bins: the inverse of a smoothed prior that is mixed with the uniform distribution.

    With p the distribution of the counts, each bin's share spread over the bins by a Gaussian of their distance, and
    Q = 313,

        w = ((1 - uniform) p + uniform / Q)^-1, scaled so that the sum of p w is 1

    Args:
        counts: (313,) numbers that are 0 or more, such as `count_ab_bins` returns.
        uniform: lambda, share of the uniform distribution, above 0 and at most 1, where all weights are 1.
        sigma: of the Gaussian, in units of Lab; 0 leaves the counts as they are.

    Returns:
        (313,) float32, above 0, on the counts' device.

    Raises:
        UserError: counts of another shape, below 0 or without a single one, or a number outside its range.

    Source: Zhang et al. 2016 (colorful image colorization), equation 4.
    """
    if counts.shape != (AB_BINS,):
        raise UserError(f"rebalancing_weights: counts must have shape ({AB_BINS},), got {tuple(counts.shape)}")
    if not (counts >= 0).all() or not 0 < counts.sum() < float("inf"):
        raise UserError("rebalancing_weights: counts must be finite, 0 or more, and not all 0; count some images first")
    if not 0 < uniform <= 1:
        raise UserError(f"rebalancing_weights: uniform is {uniform!r}; it must be above 0 and at most 1")
    if not 0 <= sigma < float("inf"):
        raise UserError(f"rebalancing_weights: sigma is {sigma!r}; it must be 0 or more")
    prior = counts.double() / counts.double().sum()
    if sigma > 0:
        bins = ab_bins(counts.device).double()
        spread = (
            (bins[:, None] - bins).square().sum(-1).div(-2 * sigma**2).softmax(0)
        )  # column: where a bin's share goes
        prior = spread @ prior
    weights = 1 / ((1 - uniform) * prior + uniform / AB_BINS)
    return (weights / (prior * weights).sum()).float()
