"""Lab conversion of image batches, and the colour classes of split-brain autoencoders and colorization, from memory.

Every library starts from the same images in its own layout, and may convert the whole batch at once. OpenCV's float
conversion errs by up to 0.47, scikit-image's works in float32 for float32 input. One case sets the classes of a batch
beside what else a training step does: how long the step takes in units of the conversion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.run import Case, Setup
from sslfast.data import build_source
from sslfast.losses import SoftCrossEntropyLoss
from sslfast.ops import ab_bins, lab_quantize, lab_soft_encode, rgb_to_lab

Call = Callable[[], object]


def cases(setup: Setup) -> Iterator[Case]:
    """Bytes and floats at 224 px, and classes; the counts keep a call of the slowest library below a few seconds."""
    scale = 16 if setup.device == "cuda" else 1
    large = images_of(224, 32 * scale, setup)
    yield conversion_case("224 px, uint8", large, setup)
    yield conversion_case("224 px, float32", large / 255, setup)
    small = images_of(96, 64 * scale, setup)
    yield _classes(small, 12, setup)
    yield _soft_classes(small, 12, setup)
    yield _step(small, 12, setup)
    yield _soft_cross_entropy(setup, 8 * scale)


def images_of(size: int, count: int, setup: Setup) -> Tensor:
    """(count, 3, size, size) uint8, embedded shapes with noise, so that all colours occur."""
    batch = build_source("shapes", size=size, limit=min(count, 16)).read()
    pictures = torch.stack([batch.image(i) for i in range(min(count, 16))]).permute(0, 3, 1, 2)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(-25, 26, (count, 3, size, size), generator=generator, dtype=torch.int16)
    images = pictures[torch.arange(count) % len(pictures)].short() + noise
    return images.clamp(0, 255).byte().contiguous().to(setup.device)


def conversion_case(name: str, images: Tensor, setup: Setup) -> Case:
    contenders: dict[str, Callable[[], Call]] = {
        "sslfast": lambda: lambda: rgb_to_lab(images),
        "kornia": lambda: _kornia(images),
    }
    if setup.device == "cpu":
        contenders |= {"opencv": lambda: _opencv(images, setup), "scikit-image": lambda: _scikit_image(images)}
    else:
        contenders["cv-cuda"] = lambda: _cv_cuda(images)
    return Case(
        op="rgb_to_lab",
        name=name,
        unit="images",
        count=len(images),
        contenders=contenders,
        least_bytes=images.numel() * (images.element_size() + 4),
        settings={"images": len(images), "image_size": images.shape[-1], "dtype": str(images.dtype)},
    )


def _classes(images: Tensor, size: int, setup: Setup) -> Case:
    contenders: dict[str, Callable[[], Call]] = {
        "sslfast": lambda: lambda: lab_quantize(images, (size, size)),
        "kornia": lambda: _classes_of(_kornia(images), size),
    }
    if setup.device == "cpu":
        contenders["scikit-image"] = lambda: _classes_of(_scikit_image(images), size)
    return Case(
        op="lab_quantize",
        name=f"{images.shape[-1]} -> {size} px, uint8, grid",
        unit="images",
        count=len(images),
        contenders=contenders,
        least_bytes=images.numel() + len(images) * size * size * 2 * 8,
        settings={"images": len(images), "image_size": images.shape[-1], "target_size": size},
    )


def _soft_classes(images: Tensor, size: int, setup: Setup) -> Case:
    contenders: dict[str, Callable[[], Call]] = {
        "sslfast": lambda: lambda: lab_soft_encode(images, (size, size)),
        "kornia": lambda: _soft_classes_of(_kornia(images), size),
    }
    if setup.device == "cpu":
        contenders["scikit-image"] = lambda: _soft_classes_of(_scikit_image(images), size)
    return Case(
        op="lab_soft_encode",
        name=f"{images.shape[-1]} -> {size} px, uint8, 10 neighbours",
        unit="images",
        count=len(images),
        contenders=contenders,
        least_bytes=images.numel() + len(images) * size * size * 10 * 12,
        settings={"images": len(images), "image_size": images.shape[-1], "target_size": size, "neighbours": 10},
    )


def _step(images: Tensor, size: int, setup: Setup) -> Case:
    """Classes of a batch beside the JPEG decoding of its images, and beside the step of the smallest network."""
    contenders: dict[str, Callable[[], Call]] = {"sslfast": lambda: lambda: lab_quantize(images, (size, size))}
    if setup.device == "cpu":
        contenders["torchvision, decoding the batch"] = lambda: _decoding(images)
    contenders["pytorch, step of five layers"] = lambda: _training(images, size)
    return Case(
        op="lab_quantize",
        name=f"share of a training step, {len(images)} images of {images.shape[-1]} px",
        unit="images",
        count=len(images),
        contenders=contenders,
        least_bytes=images.numel() + len(images) * size * size * 2 * 8,
        settings={"images": len(images), "image_size": images.shape[-1], "target_size": size},
    )


def _decoding(images: Tensor) -> Call:
    from torchvision.io import decode_jpeg, encode_jpeg

    files = [encode_jpeg(image) for image in images]
    return lambda: [decode_jpeg(file) for file in files]


def _training(images: Tensor, size: int) -> Call:
    """Forward and backward of a network that is far smaller than any in use: five layers, down to the target's size."""
    widths, strides = (1, 32, 64, 64, 64, 100), (2, 2, 2, 1, 1)
    layers: list[nn.Module] = []
    for inputs, outputs, stride in zip(widths[:-1], widths[1:], strides, strict=True):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU()]
    network = nn.Sequential(*layers[:-1]).to(images.device)
    lightness = rgb_to_lab(images)[:, :1] / 100
    _, color = lab_quantize(images, (size, size))

    def step() -> object:
        loss = functional.cross_entropy(network(lightness), color)
        return torch.autograd.grad(loss, list(network.parameters()))

    return step


def _soft_cross_entropy(setup: Setup, count: int, size: int = 56) -> Case:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, 313, size, size, generator=generator).to(setup.device).requires_grad_()
    indices, weights = lab_soft_encode(images_of(size, count, setup), (size, size))

    def dense() -> object:
        labels = torch.zeros_like(logits).scatter_(1, indices, weights)
        return torch.autograd.grad(functional.cross_entropy(logits, labels), logits)

    loss = SoftCrossEntropyLoss()
    return Case(
        op="soft_cross_entropy",
        name=f"313 classes, {count} images of {size} px, forward and backward",
        unit="images",
        count=count,
        contenders={
            "sslfast": lambda: lambda: torch.autograd.grad(loss(logits, indices, weights), logits),
            "pytorch, dense labels": lambda: dense,
        },
        least_bytes=3 * 4 * logits.numel(),
        settings={"images": count, "size": size, "neighbours": 10},
    )


def _kornia(images: Tensor) -> Callable[[], Tensor]:
    from kornia.color import rgb_to_lab as convert

    return lambda: convert(images.float() / 255 if images.dtype == torch.uint8 else images)


def _cv_cuda(images: Tensor) -> Call:
    from benchmarks.peers.cv_cuda import rgb_to_lab as convert

    return convert(images)


def _opencv(images: Tensor, setup: Setup) -> Call:
    """The batch as one tall image of interleaved float32 channels."""
    import cv2
    import numpy as np

    cv2.setNumThreads(setup.threads)
    tall = images.permute(0, 2, 3, 1).reshape(-1, images.shape[-1], 3).contiguous().numpy()
    if images.dtype == torch.uint8:
        return lambda: cv2.cvtColor(np.multiply(tall, np.float32(1 / 255)), cv2.COLOR_RGB2Lab)
    return lambda: cv2.cvtColor(tall, cv2.COLOR_RGB2Lab)


def _scikit_image(images: Tensor) -> Callable[[], Tensor]:
    from skimage.color import rgb2lab

    interleaved = images.permute(0, 2, 3, 1).contiguous().numpy()
    return lambda: torch.from_numpy(rgb2lab(interleaved)).permute(0, 3, 1, 2)


def _classes_of(convert: Callable[[], Tensor], size: int) -> Call:
    """Cells and bins of a library's Lab images, in plain PyTorch."""

    def call() -> object:
        lightness, a, b = functional.adaptive_avg_pool2d(convert(), size).unbind(1)
        columns = [((channel + 128) / 25.5).long().clamp(0, 9) for channel in (a, b)]
        return lightness.long().clamp(0, 99), 10 * columns[0] + columns[1]

    return call


def _soft_classes_of(convert: Callable[[], Tensor], size: int) -> Call:
    """Cells of a library's Lab images and their nearest bins, in plain PyTorch."""

    def call() -> object:
        ab = functional.adaptive_avg_pool2d(convert(), size)[:, 1:].permute(0, 2, 3, 1).reshape(-1, 2)
        distances, indices = torch.cdist(ab, ab_bins(ab.device).to(ab.dtype)).topk(10, largest=False)
        return indices, (distances.square() / -50).softmax(-1)

    return call
