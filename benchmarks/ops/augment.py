"""SimCLR's views from uint8 images in memory: 32 px, and 256 -> 224 px with blur.

Every library starts from the same uint8 images and ends with normalised float32 views. torchvision and albumentations
work image by image, in this process and (often their best setting) in as many DataLoader workers as threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.run import Case, Setup
from sslfast.augment import MultiView, ViewSpec, presets
from sslfast.data import build_source
from sslfast.data.batch import ImageBatch

Transform = Callable[[Any], Any]


def cases(setup: Setup) -> Iterator[Case]:
    """Both sizes; the counts keep a call of the slowest library below a few seconds."""
    scale = 64 if setup.device == "cuda" else 1
    yield augment_case(setup, "simclr 32 px", size=32, view=32, count=512 * scale)
    yield augment_case(setup, "simclr 256 -> 224 px with blur", size=256, view=224, count=64 * scale)


def augment_case(setup: Setup, name: str, size: int, view: int, count: int) -> Case:
    images = _images(setup.images, size, count)
    spec = presets.simclr(view)[0]
    contenders: dict[str, Callable[[], Callable[[], object]]] = {
        "sslfast": lambda: _sslfast(images, spec, setup),
        "kornia": lambda: _kornia(images, spec, setup),
    }
    if setup.device == "cpu":
        for library, make, dense in (
            ("albumentations", _albumentations, images.numpy()),
            ("torchvision", _torchvision, images.permute(0, 3, 1, 2).contiguous()),
        ):
            contenders[library] = lambda make=make, dense=dense: _one_by_one(make(spec), dense)
            contenders[f"{library}, {setup.threads} workers"] = lambda make=make, dense=dense: _workers(
                make(spec), dense, setup.threads
            )
    return Case(
        op="augment",
        name=name,
        unit="views",
        count=count,
        contenders=contenders,
        least_bytes=count * (size * size * 3 + view * view * 3 * 4),
        settings={"images": count, "image_size": size, "view_size": view, "blur": spec.blur},
    )


def _images(folder: Path | None, size: int, count: int) -> Tensor:
    """(count, size, size, 3) uint8: pictures of `folder`, repeated as needed, or the embedded shapes."""
    if folder is None:
        batch = build_source("shapes", size=size, limit=count).read()
        return torch.stack([batch.image(i) for i in range(count)])
    batch = build_source("folder", root=folder).read()
    square = MultiView([ViewSpec(size=size, mean=(0.0,), std=(1.0,))])(batch).tensors[0]
    pictures = (square * 255).round().byte().permute(0, 2, 3, 1)
    return pictures[torch.arange(count) % len(pictures)].contiguous()


def _sslfast(images: Tensor, spec: ViewSpec, setup: Setup) -> Callable[[], object]:
    views = MultiView([spec])
    batch = ImageBatch.from_dense(images.to(setup.device))
    return lambda: views(batch)


def _one_by_one(transform: Transform, images: Any) -> Callable[[], object]:
    def call() -> object:
        return torch.stack([transform(image) for image in images])

    return call


class _Views(torch.utils.data.Dataset):
    def __init__(self, transform: Transform, images: Any) -> None:
        self.transform, self.images = transform, images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Any:
        return self.transform(self.images[position])


def _workers(transform: Transform, images: Any, workers: int) -> Callable[[], object]:
    """All views through persistent DataLoader workers; each call is one epoch."""
    batch_size = -(-len(images) // (4 * workers))
    loader = torch.utils.data.DataLoader(
        _Views(transform, images), batch_size=batch_size, num_workers=workers, persistent_workers=True
    )
    return lambda: list(loader)


def _kornia(images: Tensor, spec: ViewSpec, setup: Setup) -> Callable[[], object]:
    import kornia.augmentation as K

    blur = [K.RandomGaussianBlur((spec.blur_kernel,) * 2, spec.blur_sigma, p=spec.blur)] if spec.blur else []
    pipeline = K.ImageSequential(
        K.RandomResizedCrop(spec.shape, scale=spec.crop_scale, ratio=spec.crop_ratio),
        K.RandomHorizontalFlip(p=spec.hflip),
        K.ColorJitter(spec.brightness, spec.contrast, spec.saturation, spec.hue, p=spec.jitter),
        K.RandomGrayscale(p=spec.grayscale),
        *blur,
        K.Normalize(torch.tensor(spec.mean), torch.tensor(spec.std)),
    ).to(setup.device)
    dense = images.permute(0, 3, 1, 2).contiguous().to(setup.device)
    return lambda: pipeline(dense.float() / 255)


def _torchvision(spec: ViewSpec) -> Transform:
    from torchvision.transforms import v2

    blur = [v2.RandomApply([v2.GaussianBlur(spec.blur_kernel, spec.blur_sigma)], p=spec.blur)] if spec.blur else []
    return v2.Compose(
        [
            v2.RandomResizedCrop(spec.shape, scale=spec.crop_scale, ratio=spec.crop_ratio, antialias=True),
            v2.RandomHorizontalFlip(p=spec.hflip),
            v2.RandomApply(
                [v2.ColorJitter(spec.brightness, spec.contrast, spec.saturation, spec.hue)],
                p=spec.jitter,
            ),
            v2.RandomGrayscale(p=spec.grayscale),
            *blur,
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(spec.mean, spec.std),
        ]
    )


def _albumentations(spec: ViewSpec) -> Transform:
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
