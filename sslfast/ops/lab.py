"""rgb_to_lab and lab_to_rgb: sRGB to CIE-Lab and back, in one pass."""

from __future__ import annotations

import torch
from torch import Tensor


def rgb_to_lab(images: Tensor) -> Tensor:
    """Converts sRGB images to CIE-Lab with the white D65 (2 degrees).

    Args:
        images: (B, 3, H, W) uint8 in [0, 255], or float32, which is cut to [0, 1].

    Returns:
        (B, 3, H, W) float32, contiguous: L in [0, 100], a and b in [-128, 127] (sRGB reaches from -108 to 99). Each
        value lies within 0.01 of scikit-image's in float64. A pixel with a NaN is NaN. It carries no gradient: images
        are data.

    Raises:
        RuntimeError: another dtype or shape.

    Source: IEC 61966-2-1 (sRGB) and CIE 15 (Lab), with the constants of `skimage.color.rgb2lab`.
    """
    return torch.ops.sslfast.rgb_to_lab(images.detach().contiguous())


def lab_to_rgb(lab: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Converts CIE-Lab images with the white D65 (2 degrees) to sRGB.

    Args:
        lab: (B, 3, H, W) float32: L in [0, 100], a and b in [-128, 127].
        dtype: torch.float32 or torch.uint8.

    Returns:
        (B, 3, H, W) of `dtype`, contiguous: float32 in [0, 1], within 1e-4 of scikit-image's in float64, or uint8 in
        [0, 255], rounded to the nearest. Colours outside of sRGB are cut to it, channel by channel. A pixel with a NaN
        is NaN (0 in uint8). It carries no gradient.

    Raises:
        RuntimeError: another dtype or shape.

    Source: IEC 61966-2-1 (sRGB) and CIE 15 (Lab), with the constants of `skimage.color.lab2rgb`.
    """
    return torch.ops.sslfast.lab_to_rgb(lab.detach().contiguous(), dtype)


@torch.library.register_fake("sslfast::rgb_to_lab")
def _(images: Tensor) -> Tensor:
    return images.new_empty(images.shape, dtype=torch.float32)


@torch.library.register_fake("sslfast::lab_to_rgb")
def _(lab: Tensor, dtype: torch.dtype) -> Tensor:
    return lab.new_empty(lab.shape, dtype=dtype)
