"""Colorization: the colours of an image from its lightness (Zhang et al. 2016)."""

from __future__ import annotations

from sslfast.augment import ViewSpec, presets


def color_views(size: int) -> list[ViewSpec]:
    """One view whose colours are left as they are, in [0, 1]: flips and, above 64 px, crops of half to all of the area.

    Args:
        size: side of the view in pixels.
    """
    crop = None if size <= presets.SMALL_IMAGE else (0.5, 1.0)
    return [ViewSpec(size=size, crop_scale=crop, hflip=0.5, mean=(0.0,), std=(1.0,))]
