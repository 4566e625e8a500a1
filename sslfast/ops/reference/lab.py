"""Lab conversion and classes by the formulas, in float64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

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


def bin_positions(images: Tensor, size: tuple[int, int], kind: str = "grid") -> Tensor:
    """(B, 3, h, w) float64: where the mean L, a and b of every cell lie; the whole part is the bin."""
    means = functional.adaptive_avg_pool2d(rgb_to_lab(images), size)
    low, high = (LOW, HIGH) if kind == "grid" else (means.amin((2, 3), True), means.amax((2, 3), True))
    varies = high - low > 0.01
    position = (means - low) * torch.where(varies, BINS / torch.where(varies, high - low, 1.0), 0.0)
    return position.clamp(min=0).minimum(BINS - 1e-9)


def lab_quantize(images: Tensor, size: tuple[int, int], kind: str = "grid") -> tuple[Tensor, Tensor]:
    """Same arguments and result as `sslfast.ops.lab_quantize`."""
    lightness, a, b = bin_positions(images, size, kind).long().unbind(1)
    return lightness, 10 * a + b
