"""Views with the papers' numbers: each function returns a list of ViewSpec, one per view."""

from __future__ import annotations

from typing import Any

from sslfast.augment.spec import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD, ViewSpec
from sslfast.errors import UserError

SMALL_IMAGE = 64  # up to this side the CIFAR variants of the recipes are used


def _statistics(size: int) -> dict[str, Any]:
    if size <= SMALL_IMAGE:
        return {"mean": CIFAR_MEAN, "std": CIFAR_STD}
    return {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}


def odd_kernel(size: int, fraction: float = 0.1) -> int:
    """Width of a blur window of `fraction` of the image's side, made odd and at least 3."""
    return max(3, int(fraction * size) // 2 * 2 + 1)


def simclr(size: int = 224, strength: float | None = None) -> list[ViewSpec]:
    """SimCLR's two views (Chen et al. 2020, appendix A; CIFAR variant: appendix B.9, strength 0.5 and no blur).

    Args:
        size: side of the view in pixels.
        strength: colour distortion strength; 1.0, or 0.5 up to 64 px, when absent.
    """
    small = size <= SMALL_IMAGE
    s = strength if strength is not None else (0.5 if small else 1.0)
    view = ViewSpec(
        size=size,
        crop_scale=(0.08, 1.0),
        hflip=0.5,
        jitter=0.8,
        brightness=0.8 * s,
        contrast=0.8 * s,
        saturation=0.8 * s,
        hue=0.2 * s,
        grayscale=0.2,
        blur=0.0 if small else 0.5,
        blur_kernel=odd_kernel(size),
        **_statistics(size),
    )
    return [view, view]


def rotation(size: int = 224, angles: int = 4) -> list[ViewSpec]:
    """Every image in all its rotations (Gidaris et al. 2018, section 3.1): one view per angle, from the same crop.

    Eight angles are magnified by sqrt(2) so that no empty corner gives the angle away.

    Args:
        size: side of the view in pixels.
        angles: 2 (0 and 180 degrees), 4 (steps of 90) or 8 (steps of 45).
    """
    if angles not in (2, 4, 8):
        raise UserError(f"rotation with {angles} angles; choose 2, 4 or 8")
    small = size <= SMALL_IMAGE
    view = ViewSpec(
        size=size,
        crop_scale=None if small else (0.08, 1.0),  # as in the authors' code
        hflip=0.5,
        rotation_zoom=2**0.5 if angles == 8 else 1.0,
        stream=0,
        **_statistics(size),
    )
    return [view.replace(rotation=(360.0 / angles * k,)) for k in range(angles)]


def plain(size: int = 224, center_fraction: float | None = None) -> list[ViewSpec]:
    """One view without randomness, for evaluation: central crop, resize, normalise.

    Args:
        size: side of the view in pixels.
        center_fraction: side of the crop; 0.875 (256 -> 224), or 1 up to 64 px, when absent.
    """
    fraction = center_fraction if center_fraction is not None else (1.0 if size <= SMALL_IMAGE else 0.875)
    return [ViewSpec(size=size, center_fraction=fraction, **_statistics(size))]


def noisy(size: int = 32, gaussian: float = 0.1, salt_pepper: float = 0.0, masking: float = 0.0) -> list[ViewSpec]:
    """A clean view and a corrupted one of the same pixels, in [0, 1] (Vincent et al. 2010, section 3.3).

    Args:
        size: side of the view in pixels.
        gaussian: standard deviation of additive noise, in [0, 1] units.
        salt_pepper: fraction of pixels set to black or white.
        masking: fraction of pixels set to zero.
    """
    clean = ViewSpec(size=size, mean=(0.0,), std=(1.0,), stream=0)
    return [clean, clean.replace(noise_gaussian=gaussian, noise_salt_pepper=salt_pepper, noise_masking=masking)]


def supervised(size: int = 224) -> list[ViewSpec]:
    """One view for training with labels: random-resized-crop and flip (from 20 % of the area up to 64 px)."""
    low = 0.2 if size <= SMALL_IMAGE else 0.08
    return [ViewSpec(size=size, crop_scale=(low, 1.0), hflip=0.5, **_statistics(size))]
