"""Patches of float32 images: CPC's overlapping grid, forward and with its gradient, and jigsaw's moved, permuted one.

The peers cut the regular grid with one strided view and a copy. For jigsaw, PyTorch has two ways: slices, and an index
of every pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.run import Case, Fewer, Setup
from sslfast.augment import GridSpec, grids
from sslfast.ops import patch_grid, patch_grid_params
from sslfast.ops.patch_grid_params import PatchGridParams

CHANNELS = 3
MOST_SLICED = 512  # images whose every patch is a slice of its own
Cut = Callable[[Tensor], Tensor]


def cases(setup: Setup) -> Iterator[Case]:
    """Photographs and CIFAR's images.

    On a CPU the results stay below 32 MiB. Larger ones lie in pages that are new in every call, whose clearing by the
    system takes several times as long as any library's copy.
    """
    scale = 64 if setup.device == "cuda" else 1
    for size, count in ((256, 8 * scale), (32, 512 * scale)):
        yield regular_case(setup, grids.cpc(size), count, gradient=False)
        yield regular_case(setup, grids.cpc(size), count, gradient=True)
    for size, count in ((255, 32 * scale), (32, 512 * scale)):
        yield _jigsaw(setup, grids.jigsaw(size, permutations=100), count)


def regular_case(setup: Setup, spec: GridSpec, count: int, gradient: bool) -> Case:
    images = _images(setup, spec, count).requires_grad_(gradient)

    def timed(cut: Cut) -> Callable[[], object]:
        weights = torch.ones_like(cut(images))
        return lambda: torch.autograd.grad(cut(images), images, weights) if gradient else cut(images)

    return Case(
        op="patch_grid",
        name=f"CPC's grid of {spec.image_size[0]} px{', forward and backward' if gradient else ''}",
        unit="images",
        count=count,
        contenders={
            "sslfast": lambda: timed(lambda x: patch_grid(x, spec.grid, spec.patch, spec.stride)),
            "pytorch": lambda: timed(lambda x: _unfold(x, spec)),
            "kornia": lambda: timed(_kornia(spec)),
        },
        least_bytes=(2 if gradient else 1) * _least_bytes(spec, count),
        settings=_settings(spec, count),
    )


def _jigsaw(setup: Setup, spec: GridSpec, count: int) -> Case:
    images = _images(setup, spec, count)
    params = patch_grid_params(spec, torch.arange(count, device=setup.device))
    few = min(count, MOST_SLICED)
    return Case(
        op="patch_grid",
        name=f"jigsaw of {spec.image_size[0]} px: nine patches, moved and permuted",
        unit="images",
        count=count,
        contenders={
            "sslfast": lambda: lambda: patch_grid(images, spec.grid, spec.patch, spec.stride, *params[:3]),
            "pytorch, slices": lambda: Fewer(_slices(images[:few], spec, params), few),
            "pytorch, index": lambda: _index(images, spec, params),
        },
        least_bytes=_least_bytes(spec, count),
        settings=_settings(spec, count),
    )


def _images(setup: Setup, spec: GridSpec, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, CHANNELS, *spec.image_size, generator=generator).to(setup.device)


def _least_bytes(spec: GridSpec, count: int) -> float:
    """The pixels that are shown are read once, and the patches written."""
    height, width = spec.image_size
    patches = spec.count * spec.patch**2
    return 4.0 * count * CHANNELS * (min(height * width, patches) + patches)


def _settings(spec: GridSpec, count: int) -> dict[str, object]:
    return {
        "images": count,
        "image_size": spec.image_size,
        "grid": spec.grid,
        "patch": spec.patch,
        "stride": spec.stride,
    }


def _unfold(images: Tensor, spec: GridSpec) -> Tensor:
    windows = images.unfold(2, spec.patch, spec.stride).unfold(3, spec.patch, spec.stride)
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


def _kornia(spec: GridSpec) -> Cut:
    from kornia.contrib import extract_tensor_patches

    return lambda images: extract_tensor_patches(images, window_size=spec.patch, stride=spec.stride)


def _corners(spec: GridSpec, params: PatchGridParams) -> tuple[Tensor, Tensor]:
    """(B, K) top and left pixels of the patches."""
    top, left = params.order // spec.grid[1] * spec.stride, params.order % spec.grid[1] * spec.stride
    return top + params.offsets[..., 0], left + params.offsets[..., 1]


def _slices(images: Tensor, spec: GridSpec, params: PatchGridParams) -> Callable[[], object]:
    tops, lefts = (side[: len(images)].tolist() for side in _corners(spec, params))
    corners = [(b, y, x) for b in range(len(images)) for y, x in zip(tops[b], lefts[b], strict=True)]
    p = spec.patch
    return lambda: torch.stack([images[b, :, y : y + p, x : x + p] for b, y, x in corners])


def _index(images: Tensor, spec: GridSpec, params: PatchGridParams) -> Callable[[], object]:
    pixels = torch.arange(spec.patch, device=images.device)
    top, left = _corners(spec, params)
    b = torch.arange(len(images), device=images.device)[:, None, None, None, None]
    c = torch.arange(CHANNELS, device=images.device)[:, None, None]
    ys = (top[..., None] + pixels)[:, :, None, :, None]
    xs = (left[..., None] + pixels)[:, :, None, None, :]
    return lambda: images[b, c, ys, xs]
