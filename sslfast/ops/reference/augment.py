"""augment with torchvision, image by image."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from sslfast.ops.augment_params import AUGMENT_COLUMNS
from sslfast.ops.reference.philox import pixel_noise

CUTOUT = ("top", "left", "height", "width")
JITTER_ORDERS = list(itertools.permutations(("brightness", "contrast", "saturation", "hue")))


def augment(
    storage: Tensor,
    offsets: Tensor,
    sizes: Tensor,
    params: Tensor,
    noise_key: Tensor,
    size: tuple[int, int],
    channels: int = 3,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> Tensor:
    """Same arguments and result as `sslfast.ops.augment`; one or three channels, as torchvision has them."""
    views = []
    for b in range(offsets.shape[0]):
        height, width = sizes[b].tolist()
        begin = int(offsets[b])
        pixels = storage[begin : begin + height * width * channels].view(height, width, channels)
        row = dict(zip(AUGMENT_COLUMNS, params[b].tolist(), strict=True))
        views.append(augment_image(pixels.permute(2, 0, 1).float() / 255, row, int(noise_key[b]), size))
    stacked = torch.stack(views) if views else torch.empty(0, channels, *size)
    shape = (1, -1, 1, 1)
    out = (stacked - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    for b, row in enumerate(params.tolist()):
        top, left, height, width = (int(row[AUGMENT_COLUMNS.index(f"cutout_{n}")]) for n in CUTOUT)
        out[b] = F.erase(out[b], top, left, height, width, torch.zeros(()))
    return out.to(dtype, memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def augment_image(image: Tensor, row: dict[str, float], noise_key: int, size: tuple[int, int]) -> Tensor:
    """One (C, H, W) float image in [0, 1] to its view before normalisation, by one row of the table."""
    crop = (int(row["crop_top"]), int(row["crop_left"]), int(row["crop_height"]), int(row["crop_width"]))
    mode = InterpolationMode.BICUBIC if row["bicubic"] else InterpolationMode.BILINEAR
    view = resized_crop(image, crop, size, mode).clamp(0, 1)
    if row["hflip"]:
        view = F.horizontal_flip(view)
    if row["vflip"]:
        view = F.vertical_flip(view)
    if row["rotation"] or row["rotation_zoom"] != 1:
        view = F.affine(
            view, -row["rotation"], [0.0, 0.0], row["rotation_zoom"], [0.0, 0.0], InterpolationMode.BILINEAR
        )
    for step in JITTER_ORDERS[int(row["jitter_order"])]:
        if row[step] != (0 if step == "hue" else 1):
            view = getattr(F, f"adjust_{step}")(view, row[step])
    if row["grayscale"]:
        view = F.rgb_to_grayscale(view, num_output_channels=view.shape[0])
    if row["blur_sigma"]:
        view = blur(view, int(row["blur_kernel"]), row["blur_sigma"])
    if row["sobel"]:
        view = sobel(view)
    view = torch.where(view >= row["solarize_threshold"], 1 - view, view)
    view = pixel_noise(view, noise_key, row["noise_gaussian"], row["noise_salt_pepper"], row["noise_masking"])
    dropped = [int(row["channel_drop"]) >> c & 1 for c in range(view.shape[0])]
    return view * (1 - torch.tensor(dropped)).view(-1, 1, 1)


def sobel(view: Tensor) -> Tensor:
    """Magnitude of the gradient of each channel by Sobel's kernels over 8, with repeated edges."""
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    padded = torch.nn.functional.pad(view[:, None], (1, 1, 1, 1), mode="replicate")
    gradients = torch.nn.functional.conv2d(padded, torch.stack([kernel, kernel.T])[:, None])
    return gradients.square().sum(1).sqrt()


def resized_crop(
    image: Tensor, crop: tuple[int, int, int, int], size: tuple[int, int], mode: InterpolationMode
) -> Tensor:
    """torchvision's crop and resize; a view one pixel wide is made on its side, because torch 2.11 gets those wrong."""
    top, left, height, width = crop
    if size[0] > 1 and size[1] == 1:
        return resized_crop(image.mT, (left, top, width, height), (1, size[0]), mode).mT
    return F.resized_crop(image, *crop, list(size), mode, antialias=True)


def blur(view: Tensor, kernel: int, sigma: float) -> Tensor:
    """torchvision's gaussian blur; windows wider than the view are reflected more than once, by padding in steps."""
    half = kernel // 2
    if half < min(view.shape[-2:]):
        return F.gaussian_blur(view, [kernel, kernel], [sigma, sigma])
    offsets = torch.arange(-half, half + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = (weights / weights.sum()).float()
    for axis in (-2, -1):
        n = view.shape[axis]
        positions = (torch.arange(n)[:, None] + torch.arange(-half, half + 1)).remainder(max(2 * (n - 1), 1))
        positions = torch.where(positions >= n, 2 * (n - 1) - positions, positions)
        view = (view.movedim(axis, -1)[..., positions] * weights).sum(-1).movedim(-1, axis)
    return view
