"""Views by the libraries that run in PyTorch or image by image: kornia, torchvision v2 and albumentations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sslfast.augment import ViewSpec

Transform = Callable[[Any], Any]


def one_by_one(transform: Transform, images: Any) -> Callable[[], Tensor]:
    """The views of `images` (one after the other, in this process), stacked."""
    return lambda: torch.stack([transform(image) for image in images])


class _Views(torch.utils.data.Dataset):
    def __init__(self, transform: Transform, images: Any) -> None:
        self.transform, self.images = transform, images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Any:
        return self.transform(self.images[position])


def workers(transform: Transform, images: Any, count: int, device: str) -> Callable[[], list[Tensor]]:
    """All views through `count` persistent DataLoader workers and to the device; each call is one epoch."""
    on_gpu = device == "cuda"
    loader = torch.utils.data.DataLoader(
        _Views(transform, images),
        batch_size=-(-len(images) // (4 * count)),
        num_workers=count,
        persistent_workers=True,
        pin_memory=on_gpu,
    )
    if on_gpu:
        return lambda: [batch.to(device, non_blocking=True) for batch in loader]
    return lambda: list(loader)


def kornia(images: Tensor, spec: ViewSpec) -> Callable[[], Tensor]:
    """(B, H, W, C) uint8, whole batches on their device."""
    import kornia.augmentation as K

    blur = [K.RandomGaussianBlur((spec.blur_kernel,) * 2, spec.blur_sigma, p=spec.blur)] if spec.blur else []
    pipeline = K.ImageSequential(
        K.RandomResizedCrop(spec.shape, scale=spec.crop_scale, ratio=spec.crop_ratio),
        K.RandomHorizontalFlip(p=spec.hflip),
        K.ColorJitter(spec.brightness, spec.contrast, spec.saturation, spec.hue, p=spec.jitter),
        K.RandomGrayscale(p=spec.grayscale),
        *blur,
        K.Normalize(torch.tensor(spec.mean), torch.tensor(spec.std)),
    ).to(images.device)
    dense = images.permute(0, 3, 1, 2).contiguous()
    return lambda: pipeline(dense.float() / 255)


def torchvision(spec: ViewSpec) -> Transform:
    """Of one (C, H, W) uint8 image, on its device; what the view does not draw is left out."""
    from torchvision.transforms import v2

    steps: list[Any] = []
    if spec.crop_scale is not None:
        crops = {"scale": spec.crop_scale, "ratio": spec.crop_ratio}
        steps.append(v2.RandomResizedCrop(spec.shape, antialias=True, **crops))
    if spec.hflip:
        steps.append(v2.RandomHorizontalFlip(p=spec.hflip))
    if spec.jitter:
        jitter = v2.ColorJitter(spec.brightness, spec.contrast, spec.saturation, spec.hue)
        steps.append(v2.RandomApply([jitter], p=spec.jitter))
    if spec.grayscale:
        steps.append(v2.RandomGrayscale(p=spec.grayscale))
    if spec.blur:
        steps.append(v2.RandomApply([v2.GaussianBlur(spec.blur_kernel, spec.blur_sigma)], p=spec.blur))
    steps.append(v2.ToDtype(torch.float32, scale=True))
    if any(spec.mean) or set(spec.std) != {1.0}:
        steps.append(v2.Normalize(spec.mean, spec.std))
    return v2.Compose(steps)


def albumentations(spec: ViewSpec) -> Transform:
    """Of one (H, W, C) uint8 image as numpy array."""
    import albumentations as A
    import cv2
    from albumentations.pytorch import ToTensorV2

    cv2.setNumThreads(torch.get_num_threads())

    def jitter_range(strength: float) -> tuple[float, float]:
        return (max(0.0, 1.0 - strength), 1.0 + strength)

    blur = []
    if spec.blur:
        blur = [A.GaussianBlur(blur_limit=spec.blur_kernel, sigma_limit=spec.blur_sigma, p=spec.blur)]
    pipeline = A.Compose(
        [
            # INTER_AREA is OpenCV's antialiased resize, as the other libraries do it.
            A.RandomResizedCrop(spec.shape, scale=spec.crop_scale, ratio=spec.crop_ratio, interpolation=cv2.INTER_AREA),
            A.HorizontalFlip(p=spec.hflip),
            A.ColorJitter(
                brightness=jitter_range(spec.brightness),
                contrast=jitter_range(spec.contrast),
                saturation=jitter_range(spec.saturation),
                hue=(-spec.hue, spec.hue),
                p=spec.jitter,
            ),
            A.ToGray(p=spec.grayscale),
            *blur,
            A.Normalize(spec.mean, spec.std),
            ToTensorV2(),
        ]
    )
    return lambda image: pipeline(image=image)["image"]
