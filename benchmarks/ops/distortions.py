"""What methods add to views of 224 px besides SimCLR's steps: noise, rotation, edges.

Every library gets whole batches of uint8 images of the view's size and ends with normalised views. torchvision and
kornia turn all images of a call by the same angle, which is their fastest way; sslfast draws one for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.run import Case, Setup
from sslfast.augment import MultiView, ViewSpec
from sslfast.data import build_source
from sslfast.data.batch import ImageBatch

SIZE = 224
RENDERED = 64
PLAIN = ViewSpec(size=SIZE)

Step = Callable[[], Callable[[Tensor], Tensor]]


def cases(setup: Setup) -> Iterator[Case]:
    """One distortion each."""
    yield distortion_case(
        setup, "gaussian noise", PLAIN.replace(noise_gaussian=0.1), _noise_torchvision, kornia=_noise_kornia
    )
    for degrees in (30.0, 90.0):
        yield distortion_case(
            setup,
            f"rotation by {degrees:g} degrees",
            PLAIN.replace(rotation=(degrees,)),
            lambda degrees=degrees: _rotation_torchvision(degrees),
            kornia=lambda degrees=degrees: _rotation_kornia(degrees),
        )
    yield distortion_case(setup, "sobel", PLAIN.replace(sobel=True), None, kornia=_sobel_kornia)


def distortion_case(setup: Setup, name: str, spec: ViewSpec, torchvision: Step | None, kornia: Step) -> Case:
    """`torchvision` and `kornia` make the step from float images in [0, 1] to the same."""
    count = 4096 if setup.device == "cuda" else 64
    batch = build_source("shapes", size=SIZE, limit=RENDERED).read()
    images = torch.stack([batch.image(i % RENDERED) for i in range(count)]).to(setup.device)
    contenders: dict[str, Callable[[], Callable[[], object]]] = {"sslfast": lambda: _sslfast(images, spec)}
    if torchvision is not None:
        contenders["torchvision"] = lambda: _whole_batch(images, spec, torchvision())
    contenders["kornia"] = lambda: _whole_batch(images, spec, kornia())
    return Case(
        op="augment",
        name=f"{name}, {SIZE} px",
        unit="views",
        count=count,
        contenders=contenders,
        least_bytes=count * SIZE * SIZE * 3 * (1 + 4),
        settings={"images": count, "view_size": SIZE},
    )


def _sslfast(images: Tensor, spec: ViewSpec) -> Callable[[], object]:
    views, batch = MultiView([spec]), ImageBatch.from_dense(images)
    return lambda: views(batch)


def _whole_batch(images: Tensor, spec: ViewSpec, step: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
    dense = images.permute(0, 3, 1, 2).contiguous()
    mean, std = (torch.tensor(values, device=dense.device).view(3, 1, 1) for values in (spec.mean, spec.std))
    return lambda: (step(dense.float().div_(255)) - mean).div_(std)


def _noise_torchvision() -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2

    return v2.GaussianNoise(sigma=0.1)


def _noise_kornia() -> Callable[[Tensor], Tensor]:
    import kornia.augmentation as K

    return K.RandomGaussianNoise(std=0.1, p=1.0)


def _rotation_torchvision(degrees: float) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms.v2 import InterpolationMode, functional

    return lambda images: functional.rotate(images, degrees, InterpolationMode.BILINEAR)


def _rotation_kornia(degrees: float) -> Callable[[Tensor], Tensor]:
    from kornia.geometry.transform import rotate

    return lambda images: rotate(images, torch.tensor(degrees, device=images.device))


def _sobel_kornia() -> Callable[[Tensor], Tensor]:
    from kornia.filters import sobel

    def step(images: Tensor) -> Any:
        return sobel(images)

    return step
