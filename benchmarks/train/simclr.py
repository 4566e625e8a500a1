"""A whole pretraining step of SimCLR, from uint8 images in memory to the optimiser's step: images a second.

Both sides train the same ResNet with the same projector, optimiser and batch. The peer is the usual script: PIL images
through lightly's transform in DataLoader workers, and lightly's loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.run import Case, Setup
from sslfast import methods
from sslfast.data import MemoryLoader, build_source

BATCH = 256


def cases(setup: Setup) -> Iterator[Case]:
    """CIFAR-sized images; a small network shows what the views cost, ResNet-18 what a usual run gains."""
    large = setup.device == "cuda"
    for backbone in ("resnet10_narrow", *(("resnet18",) if large else ())):
        count = BATCH * (32 if large else 4)
        images = build_source("shapes", size=32, limit=count).read()
        yield Case(
            op="simclr",
            name=f"training step, {backbone}, 32 px, batch {BATCH}, an epoch of {count} images",
            unit="images",
            count=count,
            contenders={
                "sslfast": lambda images=images, backbone=backbone: _sslfast(images, backbone, setup),
                f"lightly, {setup.threads} workers": lambda images=images, backbone=backbone: _lightly(
                    images, backbone, setup
                ),
            },
            settings={"batch": BATCH, "images": count, "backbone": backbone},
        )


def _method(backbone: str, setup: Setup) -> tuple[methods.Method, torch.optim.Optimizer]:
    method = methods.build("simclr", backbone=backbone, image_size=32)
    method = method.to(setup.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    method.multi_view.channels_last = True
    return method, torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)


def _sslfast(images: Any, backbone: str, setup: Setup) -> Callable[[], object]:
    method, optimizer = _method(backbone, setup)
    loader = MemoryLoader(images, BATCH, device=setup.device)

    def epoch() -> object:
        for batch in loader.epoch(0):
            _step(optimizer, method(method.views(batch))["loss"])
        return optimizer

    return epoch


def _lightly(images: Any, backbone: str, setup: Setup) -> Callable[[], object]:
    from lightly.loss import NTXentLoss
    from lightly.transforms import SimCLRTransform
    from PIL import Image

    method, optimizer = _method(backbone, setup)
    network = nn.Sequential(method.backbone, method.projector)
    loss = NTXentLoss(temperature=0.5)
    pictures = [Image.fromarray(images.image(i).numpy()) for i in range(len(images))]
    dataset = _Transformed(pictures, SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0.0))
    loader = torch.utils.data.DataLoader(
        dataset, BATCH, shuffle=True, num_workers=setup.threads, persistent_workers=True, drop_last=True
    )

    def epoch() -> object:
        for views in loader:
            both = torch.cat(views).to(setup.device, memory_format=torch.channels_last, non_blocking=True)
            _step(optimizer, loss(*network(both).chunk(2)))
        return optimizer

    return epoch


class _Transformed(torch.utils.data.Dataset):
    def __init__(self, images: list[Any], transform: Callable[[Any], list[Tensor]]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> list[Tensor]:
        return self.transform(self.images[position])


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
