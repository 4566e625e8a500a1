"""Lab conversion and classes by the formulas, in float64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sslfast import _host

XYZ_FROM_RGB = torch.tensor(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]],
    dtype=torch.float64,
)
WHITE = torch.tensor([0.95047, 1.0, 1.08883], dtype=torch.float64)
LOW = torch.tensor([0.0, -128.0, -128.0], dtype=torch.float64).view(3, 1, 1)
HIGH = torch.tensor([100.0, 127.0, 127.0], dtype=torch.float64).view(3, 1, 1)
BINS = torch.tensor([100.0, 10.0, 10.0], dtype=torch.float64).view(3, 1, 1)


def rgb_to_lab(images: Tensor) -> Tensor:
    """Same arguments as `sslfast.ops.rgb_to_lab`; float64."""
    value = images.double() / 255 if images.dtype == torch.uint8 else images.double().clamp(0, 1)
    light = torch.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)
    t = torch.einsum("xc,bchw->bxhw", XYZ_FROM_RGB / WHITE[:, None], light)
    x, y, z = torch.where(t > 0.008856, t ** (1 / 3), 7.787 * t + 16 / 116).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def lab_to_rgb(lab: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Same arguments as `sslfast.ops.lab_to_rgb`; float64 in [0, 1], or uint8."""
    lightness, a, b = lab.double().unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, (y - b / 200).clamp(min=0)], dim=1)
    t = torch.where(f > 0.2068966, f**3, (f - 16 / 116) / 7.787)
    light = torch.einsum("cx,bxhw->bchw", torch.linalg.inv(XYZ_FROM_RGB) * WHITE, t)
    value = torch.where(light > 0.0031308, 1.055 * light.clamp(min=0) ** (1 / 2.4) - 0.055, 12.92 * light).clamp(0, 1)
    return (value * 255).round().byte() if dtype == torch.uint8 else value


def channel_means(images: Tensor, size: tuple[int, int], space: str = "lab") -> Tensor:
    """(B, 3, h, w) float64: mean Lab of every cell, or mean RGB in [0, 1]."""
    if space == "lab":
        values = rgb_to_lab(images)
    else:
        values = images.double() / 255 if images.dtype == torch.uint8 else images.double().clamp(0, 1)
    return functional.adaptive_avg_pool2d(values, size)


def bin_ranges(means: Tensor, kind: str = "grid", space: str = "lab") -> tuple[Tensor, Tensor]:
    """Least and greatest value of the bins of every channel, (B, 3, 1, 1) float64 each."""
    if kind == "rescaled":
        low, high = means.amin((2, 3), True), means.amax((2, 3), True)
        return low, torch.where(high - low > (0.01 if space == "lab" else 0.01 / 255), high, low)
    low, high = (LOW, HIGH) if space == "lab" else (torch.zeros_like(LOW), torch.ones_like(HIGH))
    return low.expand(len(means), 3, 1, 1), high.expand(len(means), 3, 1, 1)


def bin_positions(images: Tensor, size: tuple[int, int], kind: str = "grid", space: str = "lab") -> Tensor:
    """(B, 3, h, w) float64: where the mean of every cell and channel lies; the whole part is the bin."""
    means = channel_means(images, size, space)
    low, high = bin_ranges(means, kind, space)
    position = (means - low) * torch.where(high > low, BINS / torch.where(high > low, high - low, 1.0), 0.0)
    return position.clamp(min=0).minimum(BINS - 1e-9)


def lab_quantize(
    images: Tensor, size: tuple[int, int], kind: str = "grid", space: str = "lab"
) -> tuple[Tensor, Tensor, Tensor]:
    """Same arguments as `sslfast.ops.lab_quantize`, and its result with the ranges."""
    first, second, third = bin_positions(images, size, kind, space).long().unbind(1)
    low, high = bin_ranges(channel_means(images, size, space), kind, space)
    ranges = torch.cat([low, high], dim=3)[:, :, 0]
    rest = lab_soft_encode(images, size, 1)[0][:, 0] if kind == "ab313" else 10 * second + third
    return first, rest, ranges


def lab_soft_encode(
    images: Tensor, size: tuple[int, int], neighbours: int = 10, sigma: float = 5.0
) -> tuple[Tensor, Tensor]:
    """Same arguments and result as `sslfast.ops.lab_soft_encode`; the distances to all bins, sorted."""
    ab = channel_means(images, size)[:, 1:].permute(0, 2, 3, 1)
    bins = torch.tensor(_host.ab_bins(), dtype=torch.float64)
    square, indices = (ab[..., None, :] - bins).square().sum(-1).sort(dim=-1)
    weights = (square[..., :neighbours] / (-2 * sigma**2)).softmax(-1)
    return indices[..., :neighbours].permute(0, 3, 1, 2), weights.permute(0, 3, 1, 2)
