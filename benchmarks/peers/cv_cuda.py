"""CV-CUDA, on a GPU: views of whole batches by its operators, or by torchvision's transforms image by image; and Lab.

Its operator draws crops without an antialias filter; the colours of an image change by one matrix, as DALI does
it. Buffers and their descriptions are made once, and torch's current stream is used throughout: what is wrapped says
that it needs no waiting, which CV-CUDA would otherwise do for the whole device.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.views import torchvision
from sslfast.augment import ViewSpec

GRAY = (0.299, 0.587, 0.114)
# Lightness and two axes of chroma (YIQ): a turn about the first is a change of hue that keeps the gray value.
YIQ = (GRAY, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
NO_FLIP, AROUND_Y = 2, 1  # codes of CropFlipNormalizeReformat


def views(images: Tensor, spec: ViewSpec) -> Callable[[], Tensor]:
    """Views of a whole batch, (B, C, H, W) float32.

    Args:
        images: (B, H, W, 3) uint8 on a GPU.
        spec: crop, flip, colour jitter, grayscale and blur are drawn as it says, every image for itself.
    """
    import cvcuda

    count, (height, width) = len(images), spec.shape
    first, second = (torch.empty(count, height, width, 3, dtype=torch.uint8, device=images.device) for _ in range(2))
    source, cropped, coloured = (cvcuda.as_tensor(_ready(buffer), "NHWC") for buffer in (images, first, second))
    # Operators with a parameter an image take batches of images, which lie in the same memory.
    blurred_images, coloured_images = (
        cvcuda.as_images([_ready(image) for image in buffer], cvcuda.Format.RGB8) for buffer in (first, second)
    )
    whole = torch.tensor([0, 0, width, height], dtype=torch.int32, device=images.device).expand(count, 1, 1, 4)
    rectangles = cvcuda.as_tensor(_ready(whole.contiguous()), "NHWC")
    base = cvcuda.as_tensor(_ready(_by_channel(spec.mean, images)), "NHWC")
    scale = cvcuda.as_tensor(_ready(1 / _by_channel(spec.std, images)), "NHWC")
    seeds = itertools.count()

    def call() -> Tensor:
        with cvcuda.as_stream(torch.cuda.current_stream()):
            cvcuda.random_resized_crop_into(
                cropped, source, *spec.crop_scale, *spec.crop_ratio, cvcuda.Interp.LINEAR, next(seeds)
            )
            twist = cvcuda.as_tensor(_ready(colour_matrices(count, spec, images)), "NHW")
            cvcuda.color_twist_into(coloured, cropped, twist)
            drawn = coloured_images
            if spec.blur:
                kernels, sigmas = blur_parameters(count, spec, images)
                drawn = blurred_images
                cvcuda.gaussian_into(
                    drawn,
                    coloured_images,
                    (spec.blur_kernel, spec.blur_kernel),
                    cvcuda.as_tensor(_ready(kernels), "NC"),
                    cvcuda.as_tensor(_ready(sigmas), "NC"),
                    cvcuda.Border.REFLECT101,
                )
            flipped = torch.rand(count, 1, device=images.device) < spec.hflip
            codes = torch.where(flipped, AROUND_Y, NO_FLIP).int()
            normalised = cvcuda.crop_flip_normalize_reformat(
                drawn,
                (count, 3, height, width),
                cvcuda.Type.F32,
                "NCHW",
                rectangles,
                cvcuda.as_tensor(_ready(codes), "NC"),
                base,
                scale,
            )
            return torch.as_tensor(normalised.cuda())

    return call


def one_by_one(images: Tensor, spec: ViewSpec) -> Callable[[], Tensor]:
    """torchvision's transforms on CV-CUDA, which draws for one image at a time; `images` (B, 3, H, W) uint8."""
    from cvcuda.tv import Compose

    transform = Compose([torchvision(spec)])
    return lambda: torch.stack([transform(image) for image in images])


def _ready(tensor: Tensor) -> Any:
    """The tensor as CUDA array that nobody needs to wait for; what wraps it keeps it alive."""
    interface = {**tensor.__cuda_array_interface__, "version": 3, "stream": -1}
    return SimpleNamespace(tensor=tensor, __cuda_array_interface__=interface)


def rgb_to_lab(images: Tensor) -> Callable[[], Tensor]:
    """Lab images, (B, H, W, 3) float32, of (B, 3, H, W) uint8 or float32 images."""
    import cvcuda

    source = cvcuda.as_tensor(_ready(images.permute(0, 2, 3, 1).contiguous()), "NHWC")

    def call() -> Tensor:
        with cvcuda.as_stream(torch.cuda.current_stream()):
            floats = cvcuda.convertto(source, cvcuda.Type.F32, 1 / 255) if images.dtype == torch.uint8 else source
            return torch.as_tensor(cvcuda.cvtcolor(floats, cvcuda.ColorConversion.RGB2Lab).cuda())

    return call


def colour_matrices(count: int, spec: ViewSpec, like: Tensor) -> Tensor:
    """(count, 3, 4) float32: brightness, contrast about the middle gray, saturation, hue and grayscale, as drawn."""

    def drawn(low: float, high: float) -> Tensor:
        return torch.rand(count, 1, 1, device=like.device) * (high - low) + low

    def chance(probability: float) -> Tensor:
        return (torch.rand(count, 1, 1, device=like.device) < probability).float()

    jitter = chance(spec.jitter)
    brightness, contrast, saturation = (
        1 + jitter * drawn(max(-1.0, -strength), strength)
        for strength in (spec.brightness, spec.contrast, spec.saturation)
    )
    saturation = saturation * (1 - chance(spec.grayscale))
    angle = 2 * torch.pi * jitter * drawn(-spec.hue, spec.hue)
    to_yiq = torch.tensor(YIQ, device=like.device)
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rows = [(one, zero, zero), (zero, saturation * cos, -saturation * sin), (zero, saturation * sin, saturation * cos)]
    turn = torch.cat([torch.cat(row, dim=2) for row in rows], dim=1)
    linear = brightness * contrast * (to_yiq.inverse() @ turn @ to_yiq)
    offset = (128 * brightness * (1 - contrast)).expand(count, 3, 1)
    return torch.cat([linear, offset], dim=2).contiguous()


def blur_parameters(count: int, spec: ViewSpec, like: Tensor) -> tuple[Tensor, Tensor]:
    """(count, 2) int32 widths of the window, 1 for an image that stays sharp, and (count, 2) float64 deviations."""
    low, high = spec.blur_sigma
    sigmas = torch.rand(count, 1, device=like.device, dtype=torch.float64) * (high - low) + low
    blurred = torch.rand(count, 1, device=like.device) < spec.blur
    kernels = torch.where(blurred, spec.blur_kernel, 1).int()
    return kernels.expand(count, 2).contiguous(), sigmas.expand(count, 2).contiguous()


def _by_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    """(1, 1, 1, 3) float32, in units of a byte."""
    return (255 * torch.tensor(values, device=like.device)).view(1, 1, 1, 3)
