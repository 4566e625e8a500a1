"""How the cost of views, Lab conversion and patches grows with the image, and that of views falls with the threads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks.ops.augment import augment_case
from benchmarks.ops.lab import conversion_case, images_of
from benchmarks.ops.patch_grid import regular_case
from benchmarks.run import Case, Setup
from sslfast.augment import grids

PIXELS = 64 * 224 * 224  # of all views of a call
FEWER_PIXELS = 8 * 256 * 256  # of all images of a call whose results are several times as large


def views(setup: Setup) -> Iterator[Case]:
    """Views of 32 to 512 px from images that are 8/7 as large; a call makes about as many pixels at every size."""
    for view in (32, 64, 96, 160, 224, 320, 512):
        count = max(4, min(512, PIXELS // view**2)) * _scale(setup)
        case = augment_case(setup, f"simclr {view} px", size=view * 8 // 7, view=view, count=count)
        case.axis = "view_size"
        yield case


def threads(setup: Setup) -> Iterator[Case]:
    """Views on one thread, two, four … and all that there are; on a GPU there is nothing to share out."""
    if setup.device == "cuda":
        return
    for view, size, count in ((32, 32, 512), (224, 256, 32)):
        for number in _doubling(setup.threads):
            torch.set_num_threads(number)
            try:
                name = f"{number} threads" if number > 1 else "1 thread"
                case = augment_case(replace(setup, threads=number), name, size=size, view=view, count=count)
                case.op, case.axis, case.settings["threads"] = f"augment, simclr {view} px", "threads", number
                yield case  # and is measured before the next is asked for
            finally:
                torch.set_num_threads(setup.threads)


def _doubling(most: int) -> list[int]:
    return sorted({2**k for k in range(most.bit_length())} | {most})


def lab(setup: Setup) -> Iterator[Case]:
    """Images of 32 to 512 px; a call converts as many pixels at every size."""
    for size in (32, 64, 128, 256, 512):
        images = images_of(size, FEWER_PIXELS // size**2 * _scale(setup), setup)
        case = conversion_case(f"{size} px, uint8", images, setup)
        case.axis = "image_size"
        yield case


def patches(setup: Setup) -> Iterator[Case]:
    """CPC's 7 x 7 half-overlapping patches of images of 32 to 512 px; a call reads as many pixels at every size."""
    for size in (32, 64, 128, 256, 512):
        count = FEWER_PIXELS // size**2 * _scale(setup)
        case = regular_case(setup, grids.cpc(size), count, gradient=True)
        case.settings["image_size"] = size
        case.axis = "image_size"
        yield case


def _scale(setup: Setup) -> int:
    return 64 if setup.device == "cuda" else 1
