"""How the cost of SimCLR's views grows with the image."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.ops.augment import augment_case
from benchmarks.run import Case, Setup

PIXELS = 64 * 224 * 224  # of all views of a call


def cases(setup: Setup) -> Iterator[Case]:
    """Views of 32 to 512 px from images that are 8/7 as large; a call makes about as many pixels at every size."""
    scale = 64 if setup.device == "cuda" else 1
    for view in (32, 64, 96, 160, 224, 320, 512):
        count = max(4, min(512, PIXELS // view**2)) * scale
        case = augment_case(setup, f"simclr {view} px", size=view * 8 // 7, view=view, count=count)
        case.axis = "view_size"
        yield case
