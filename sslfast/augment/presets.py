"""Views with the papers' numbers: each function returns a list of ViewSpec, one per view.

Up to 64 px the recipes for random crops become those of CIFAR: no blur, CIFAR-10's statistics and, where the colour
distortion is SimCLR's, half its strength (Chen et al. 2020, appendix B.9). The operations keep ViewSpec's order, so the
flip comes before and the grayscale after the colour jitter in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sslfast.augment.spec import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD, ViewSpec, check_finite
from sslfast.data.sources import check_number
from sslfast.errors import UserError

SMALL_IMAGE = 64  # up to this side the CIFAR variants of the recipes are used

# Strengths of brightness, contrast, saturation and hue.
SIMCLR_COLOUR = (0.8, 0.8, 0.8, 0.2)
MOCO_V1_COLOUR = (0.4, 0.4, 0.4, 0.4)
MOCO_V2_COLOUR = (0.4, 0.4, 0.4, 0.1)
BYOL_COLOUR = (0.4, 0.4, 0.2, 0.1)


def _is_small(size: int) -> bool:
    """Whether the CIFAR variants of the recipes are used."""
    check_number("size", size, 1)
    return size <= SMALL_IMAGE


def _statistics(size: int) -> dict[str, Any]:
    if _is_small(size):
        return {"mean": CIFAR_MEAN, "std": CIFAR_STD}
    return {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}


def odd_kernel(size: int, fraction: float = 0.1) -> int:
    """Width of a blur window of `fraction` of the image's side, made odd and at least 3."""
    check_number("size", size, 1)
    return max(3, int(fraction * size) // 2 * 2 + 1)


def _distorted(
    size: int, smallest_crop: float, colour: tuple[float, float, float, float], blur: float, **changes: Any
) -> ViewSpec:
    """The frame of the contrastive recipes: random-resized-crop, flip, colour distortion and blur."""
    brightness, contrast, saturation, hue = colour
    view = ViewSpec(
        size=size,
        crop_scale=(smallest_crop, 1.0),
        hflip=0.5,
        jitter=0.8,
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        hue=hue,
        grayscale=0.2,
        blur=_blur(size, blur),
        blur_kernel=odd_kernel(size),
        **_statistics(size),
    )
    return view.replace(**changes)


def _blur(size: int, probability: float) -> float:
    return 0.0 if _is_small(size) else probability


def _simclr_colour(size: int, strength: float | None) -> tuple[float, float, float, float]:
    s = strength if strength is not None else (0.5 if _is_small(size) else 1.0)
    check_finite("strength", s)
    brightness, contrast, saturation, hue = SIMCLR_COLOUR
    return brightness * s, contrast * s, saturation * s, hue * s


def _local_size(size: int, local_size: int | None) -> int:
    return local_size if local_size is not None else max(1, round(size * 96 / 224))


def simclr(size: int = 224, strength: float | None = None, smallest_crop: float = 0.08) -> list[ViewSpec]:
    """SimCLR's two views (Chen et al. 2020, appendix A; CIFAR variant: appendix B.9, strength 0.5 and no blur).

    They are normalised; the authors' code leaves them in [0, 1].

    Args:
        size: side of the view in pixels.
        strength: colour distortion strength; 1.0, or 0.5 up to 64 px, when absent.
        smallest_crop: area of the smallest random-resized-crop, as a fraction of the image.
    """
    return [_distorted(size, smallest_crop, _simclr_colour(size, strength), blur=0.5)] * 2


def moco_v1(size: int = 224) -> list[ViewSpec]:
    """MoCo's two views (He et al. 2020, section 3.3, data augmentation; numbers of the authors' code).

    The jitter is always applied, and there is no blur.

    Args:
        size: side of the view in pixels.
    """
    return [_distorted(size, 0.2, MOCO_V1_COLOUR, blur=0.0, jitter=1.0)] * 2


def moco_v2(size: int = 224) -> list[ViewSpec]:
    """MoCo v2's two views (Chen, Fan et al. 2020, section 3; numbers of the authors' code).

    Args:
        size: side of the view in pixels.
    """
    return [_distorted(size, 0.2, MOCO_V2_COLOUR, blur=0.5)] * 2


def simsiam(size: int = 224) -> list[ViewSpec]:
    """SimSiam's two views, which are MoCo v2's (Chen and He 2021, appendix A; no blur for CIFAR: appendix D).

    Args:
        size: side of the view in pixels.
    """
    return moco_v2(size)


def byol(size: int = 224) -> list[ViewSpec]:
    """BYOL's two different views (Grill et al. 2020, appendix B and its table of parameters).

    The first is always blurred and never solarized; the second is blurred with probability 0.1 and solarized with 0.2.

    Args:
        size: side of the view in pixels.
    """
    first = _distorted(size, 0.08, BYOL_COLOUR, blur=1.0, interpolation="bicubic")
    return [first, first.replace(blur=_blur(size, 0.1), solarize=0.2)]


def barlow_twins(size: int = 224) -> list[ViewSpec]:
    """Barlow Twins' two views, which are BYOL's (Zbontar et al. 2021, section 2.2).

    Args:
        size: side of the view in pixels.
    """
    return byol(size)


def vicreg(size: int = 224) -> list[ViewSpec]:
    """VICReg's two views: BYOL's made alike (Bardes et al. 2022, appendix C.1; the authors' code differs from it).

    Args:
        size: side of the view in pixels.
    """
    return [_distorted(size, 0.08, BYOL_COLOUR, blur=0.5, solarize=0.1)] * 2


def swav(
    size: int = 224, local_size: int | None = None, local_views: int = 6, strength: float | None = None
) -> list[ViewSpec]:
    """SwAV's multi-crop: two large views and several of small parts (Caron et al. 2020, section 3.2: 2 x 224 + 6 x 96).

    Scales are those of the authors' code; the colour distortion is SimCLR's, the blur window that of the large views.

    Args:
        size: side of the two large views in pixels.
        local_size: side of the small views; 96/224 of `size` when absent.
        local_views: number of small views, 0 or more.
        strength: colour distortion strength; 1.0, or 0.5 up to 64 px, when absent.
    """
    check_number("local_views", local_views, 0)
    large = _distorted(size, 0.14, _simclr_colour(size, strength), blur=0.5)
    local = large.replace(size=_local_size(size, local_size), crop_scale=(0.05, 0.14))
    return [large] * 2 + [local] * local_views


def dino(size: int = 224, local_size: int | None = None, local_views: int = 8) -> list[ViewSpec]:
    """DINO's multi-crop: BYOL's two views and several of small parts (Caron et al. 2021, section 3.1: 224 and 96 px).

    Scales and the number of small views are those of the authors' code; the blur window is that of the large views.

    Args:
        size: side of the two large views in pixels.
        local_size: side of the small views; 96/224 of `size` when absent.
        local_views: number of small views, 0 or more.
    """
    check_number("local_views", local_views, 0)
    first, second = (view.replace(crop_scale=(0.4, 1.0)) for view in byol(size))
    local = first.replace(size=_local_size(size, local_size), crop_scale=(0.05, 0.4), blur=_blur(size, 0.5))
    return [first, second] + [local] * local_views


def rotation(size: int = 224, angles: int | Sequence[float] = 4) -> list[ViewSpec]:
    """Every image in all its rotations (Gidaris et al. 2018, section 3.1): one view per angle, from the same crop.

    Angles between the right ones magnify all views by sqrt(2), so that no empty corner gives the angle away. Up to
    64 px there is a flip alone; the authors' code also moves the image by up to 4 px, into a black frame.

    Args:
        size: side of the view in pixels.
        angles: 2 (0 and 180 degrees), 4 (steps of 90) or 8 (steps of 45), or the degrees themselves, two or more.
    """
    if isinstance(angles, int):
        if angles not in (2, 4, 8):
            raise UserError(f"rotation with {angles} angles; choose 2, 4 or 8, or give the degrees as a list")
        angles = [360.0 / angles * k for k in range(angles)]
    if not isinstance(angles, Iterable):
        raise UserError(f"rotation by {angles!r}; give the number of angles, 2, 4 or 8, or their degrees as a list")
    for angle in angles:
        check_finite("an angle of rotation", angle)
    degrees = [float(angle) for angle in angles]
    if len({angle % 360.0 for angle in degrees}) != len(degrees) or len(degrees) < 2:
        raise UserError(f"rotation by {degrees} degrees; give two or more angles, each of them once")
    view = ViewSpec(
        size=size,
        crop_scale=None if _is_small(size) else (0.08, 1.0),  # as in the authors' code
        hflip=0.5,
        rotation_zoom=1.0 if all(angle % 90.0 == 0.0 for angle in degrees) else 2**0.5,
        stream=0,
        **_statistics(size),
    )
    return [view.replace(rotation=(angle,)) for angle in degrees]


def plain(size: int = 224, center_fraction: float | None = None) -> list[ViewSpec]:
    """One view without randomness, for evaluation: central crop, resize, normalise.

    Args:
        size: side of the view in pixels.
        center_fraction: side of the crop; 0.875 (256 -> 224), or 1 up to 64 px, when absent.
    """
    fraction = center_fraction if center_fraction is not None else (1.0 if _is_small(size) else 0.875)
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
    low = 0.2 if _is_small(size) else 0.08
    return [ViewSpec(size=size, crop_scale=(low, 1.0), hflip=0.5, **_statistics(size))]
