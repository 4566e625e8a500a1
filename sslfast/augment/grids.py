"""GridSpec: how images are cut into patches, with the papers' layouts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from sslfast import _host
from sslfast.errors import UserError

CENTRE = 4  # of 3 x 3 patches


@dataclass(frozen=True)
class GridSpec:
    """How every image is cut into patches, and what each image draws for it.

    Attributes:
        grid: rows and columns of the grid.
        patch: side of a patch in pixels.
        stride: pixels from a patch to the next; below `patch` they overlap, above it they leave gaps.
        jitter: every patch is moved down and to the right by 0 to `jitter` pixels, each drawn uniformly.
        channel_drop: probability that a patch loses channels (they become 0).
        channel_drop_count: smallest and largest number of lost channels.
        reduce: probability that a patch loses resolution: it is scaled down by a factor and up again.
        reduce_factor: smallest and largest factor.
        arrangements: orders of the patches, one of which each image draws: each names, for every result, the patch of
            the grid that it shows, counted row by row from 0. They may leave patches out. Empty: all in their order.

    Raises:
        UserError: a value outside its range.
    """

    grid: tuple[int, int]
    patch: int
    stride: int
    jitter: int = 0
    channel_drop: float = 0.0
    channel_drop_count: tuple[int, int] = (1, 1)
    reduce: float = 0.0
    reduce_factor: tuple[int, int] = (2, 4)
    arrangements: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        for name in ("grid", "channel_drop_count", "reduce_factor"):
            value = getattr(self, name)
            two = isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_is_whole, value))
            _require(two, name, value, "two whole numbers such as (3, 3)")
        _require(min(self.grid) >= 1, "grid", self.grid, "1 or more rows and columns")
        for name, least in (("patch", 1), ("stride", 1), ("jitter", 0)):
            value = getattr(self, name)
            _require(_is_whole(value) and value >= least, name, value, f"a whole number of {least} or more")
        _require(0.0 <= self.channel_drop <= 1.0, "channel_drop", self.channel_drop, "a probability in [0, 1]")
        least, most = self.channel_drop_count
        _require(0 <= least <= most <= 32, "channel_drop_count", self.channel_drop_count, "0 <= least <= most <= 32")
        _require(0.0 <= self.reduce <= 1.0, "reduce", self.reduce, "a probability in [0, 1]")
        least, most = self.reduce_factor
        _require(1 <= least <= most, "reduce_factor", self.reduce_factor, "1 <= least <= most")
        patches = range(self.grid[0] * self.grid[1])
        for arrangement in self.arrangements:
            _require(len(arrangement) == self.count > 0, "arrangements", arrangement, "of one length above 0")
            _require(
                set(arrangement) <= set(patches), "arrangements", arrangement, f"numbers of {len(patches)} patches"
            )

    @property
    def count(self) -> int:
        """Patches that are cut out of an image."""
        return len(self.arrangements[0]) if self.arrangements else self.grid[0] * self.grid[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels of the images that the grid fills, wherever the jitter moves its patches."""
        rows, columns = ((n - 1) * self.stride + self.patch + self.jitter for n in self.grid)
        return rows, columns

    def replace(self, **changes: Any) -> GridSpec:
        """The same grid with some fields changed."""
        return replace(self, **changes)


def cpc(size: int = 256) -> GridSpec:
    """Contrastive Predictive Coding's 7 x 7 patches of a quarter of the image that overlap by half (van den Oord 2018).

    256 px give patches of 64 px; CIFAR's 32 px give patches of 8 px.

    Args:
        size: side of the image in pixels, a multiple of 8.
    """
    if size < 8 or size % 8 != 0:
        raise UserError(f"cpc with images of {size} px; choose a multiple of 8, such as 256 or 32")
    return GridSpec(grid=(7, 7), patch=size // 4, stride=size // 8)


@lru_cache(maxsize=16)
def jigsaw(size: int = 255, permutations: int = 1000) -> GridSpec:
    """Jigsaw's 3 x 3 cells, a patch somewhere in each, in one of a set of permutations (Noroozi and Favaro 2016).

    255 px give cells of 85 px and patches of 64 px (Goyal et al. 2019; the first paper has cells of 75 px); CIFAR's
    32 px give cells of 10 px and patches of 8 px. The permutations have large Hamming distances (`_host`).

    Args:
        size: side of the image in pixels, 6 or more; the grid fills its largest multiple of three.
        permutations: number of classes, 1 to 362,880.
    """
    _require_size("jigsaw", size, 6)
    if not 1 <= permutations <= math.factorial(9):
        raise UserError(f"jigsaw with {permutations} permutations; nine patches have 1 to {math.factorial(9)}")
    cell = size // 3
    patch = round(cell * 64 / 85)
    arrangements = tuple(map(tuple, _host.permutation_set(9, permutations)))
    return GridSpec(grid=(3, 3), patch=patch, stride=cell, jitter=cell - patch, arrangements=arrangements)


def relative_position(size: int = 398, channel_drop: float = 1.0) -> GridSpec:
    """The central patch of 3 x 3 and one of its eight neighbours, with gaps and jitter (Doersch et al. 2015).

    398 px give patches of 96 px, gaps of 48 px and offsets of 7 px to each side of the middle; CIFAR's 32 px give
    patches of 8 px, gaps of 3 px and offsets of 1 px. The arrangement's number is the neighbour, row by row.

    Args:
        size: side of the image in pixels, 20 or more.
        channel_drop: probability that a patch loses two channels; the paper does it to all, and puts noise in place.
    """
    _require_size("relative_position", size, 20)
    patch = round(size * 96 / 398)
    stride = (size - patch - round(size * 14 / 398)) // 2
    return GridSpec(
        grid=(3, 3),
        patch=patch,
        stride=stride,
        jitter=size - patch - 2 * stride,
        channel_drop=channel_drop,
        channel_drop_count=(2, 2),
        arrangements=tuple((CENTRE, neighbour) for neighbour in range(9) if neighbour != CENTRE),
    )


def _require_size(layout: str, size: int, least: int) -> None:
    if size < least:
        raise UserError(f"{layout} with images of {size} px; choose {least} px or more")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(holds: bool, field: str, value: object, need: str) -> None:
    if not holds:
        raise UserError(f"GridSpec.{field} is {value!r}; it must be {need}")
