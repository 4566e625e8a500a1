"""A whole pretraining step by method, from uint8 images in memory to the optimiser's step: images a second, and where
the time goes.

Both sides train the same networks with the same optimiser and batch. The peer is the usual script: PIL images through
lightly's transform in DataLoader workers, and lightly's loss.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.run import Case, Setup
from sslfast import methods
from sslfast.augment import Views
from sslfast.data import ImageBatch, MemoryLoader, build_source

BATCH = 256
SIZE = 32

Loss = Callable[[list[Tensor]], Tensor]
Epoch = Callable[[], dict[str, float]]


def simclr(setup: Setup) -> Iterator[Case]:
    """SimCLR with NT-Xent."""
    options = {"input_size": SIZE, "cj_strength": 0.5, "gaussian_blur": 0.0}
    return _cases("simclr", "SimCLRTransform", options, _simclr_loss, setup)


def moco(setup: Setup) -> Iterator[Case]:
    """MoCo v2 with a queue of 4096 keys."""
    return _cases("moco", "MoCoV2Transform", {"input_size": SIZE, "gaussian_blur": 0.0}, _moco_loss, setup)


def byol(setup: Setup) -> Iterator[Case]:
    """BYOL with its momentum encoder and predictor; of lightly's transforms SimCLR's is nearest to BYOL's at 32 px."""
    return _cases("byol", "SimCLRTransform", {"input_size": SIZE, "gaussian_blur": 0.0}, _similarity_loss, setup)


def simsiam(setup: Setup) -> Iterator[Case]:
    """SimSiam with its predictor."""
    return _cases("simsiam", "SimSiamTransform", {"input_size": SIZE, "gaussian_blur": 0.0}, _similarity_loss, setup)


def _cases(
    name: str, transform: str, options: dict[str, Any], loss: Callable[[Any], Loss], setup: Setup
) -> Iterator[Case]:
    """CIFAR-sized images; a small network shows what the views cost, ResNet-18 what a usual run gains.

    On a CPU ResNet-18 takes all the time there is, whatever the method: one method and two small batches show it.
    """
    if setup.device == "cuda":
        sizes = [("resnet10_narrow", BATCH, 32), ("resnet18", BATCH, 32)]
    else:
        sizes = [("resnet10_narrow", BATCH, 4), *([("resnet18", BATCH // 4, 2)] if name == "simclr" else [])]
    for backbone, batch, steps in sizes:
        images = build_source("shapes", size=SIZE, limit=batch * steps).read()

        def ours(images: ImageBatch = images, backbone: str = backbone, batch: int = batch) -> Epoch:
            return _Ours(name, images, backbone, batch, setup)

        def theirs(images: ImageBatch = images, backbone: str = backbone, batch: int = batch) -> Epoch:
            import lightly.transforms

            make = getattr(lightly.transforms, transform)
            return _Theirs(name, images, backbone, batch, make(**options), loss, setup)

        yield Case(
            op=name,
            name=f"training step, {backbone}, {SIZE} px, batch {batch}, an epoch of {len(images)} images",
            unit="images",
            count=len(images),
            contenders={"sslfast": ours, f"lightly, {setup.threads} workers": theirs},
            settings={"batch": batch, "images": len(images), "backbone": backbone},
        )


class _Trained(ABC):
    """A method with its optimiser; a call trains one epoch and returns the seconds of its parts.

    On a GPU every part waits for the device, on both sides alike: otherwise the time of one would show in another.
    """

    def __init__(self, name: str, backbone: str, setup: Setup) -> None:
        self.device = setup.device
        self.method: Any = methods.build(name, backbone=backbone, image_size=SIZE)
        self.method.to(setup.device, memory_format=torch.channels_last)
        self.method.multi_view.channels_last = True
        self.optimizer = torch.optim.SGD(self.method.parameters(), lr=0.01, momentum=0.9)
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time of what runs inside to a part's."""
        begin = time.perf_counter()
        yield
        machine.synchronise(self.device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

    @abstractmethod
    def batches(self) -> Iterable[Any]:
        """What the loader gives in an epoch."""

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """From a batch of the loader to the loss."""

    def __call__(self) -> dict[str, float]:
        self.seconds = {}
        batches = iter(self.batches())
        while True:
            with self.part("waiting for data"):
                batch = next(batches, None)
            if batch is None:
                return self.seconds
            loss = self.loss(batch)
            with self.part("backward"):
                self.optimizer.zero_grad()
                loss.backward()
            with self.part("optimiser"):
                self.optimizer.step()
                self.method.after_step(1, 1000)


class _Ours(_Trained):
    def __init__(self, name: str, images: ImageBatch, backbone: str, batch: int, setup: Setup) -> None:
        super().__init__(name, backbone, setup)
        self.loader = MemoryLoader(images, batch, device=setup.device)

    def batches(self) -> Iterable[Any]:
        return self.loader.epoch(0)

    def loss(self, batch: ImageBatch) -> Tensor:
        with self.part("views"):
            views = self.method.views(batch)
        with self.part("forward"):
            return self.method(views)["loss"]


class _Theirs(_Trained):
    """Views are made in the workers: what they cost shows as waiting for data, or not at all."""

    def __init__(
        self,
        name: str,
        images: ImageBatch,
        backbone: str,
        batch: int,
        transform: Callable[[Any], list[Tensor]],
        loss: Callable[[Any], Loss],
        setup: Setup,
    ) -> None:
        from PIL import Image

        super().__init__(name, backbone, setup)
        pictures = [Image.fromarray(images.image(i).numpy()) for i in range(len(images))]
        self.loader = torch.utils.data.DataLoader(
            _Transformed(pictures, transform),
            batch,
            shuffle=True,
            num_workers=setup.threads,
            persistent_workers=True,
            drop_last=True,
        )
        self.of_views = loss(self.method)

    def batches(self) -> Iterable[Any]:
        return self.loader

    def loss(self, batch: list[Tensor]) -> Tensor:
        with self.part("views"):  # only their way to the device
            views = [view.to(self.device, memory_format=torch.channels_last, non_blocking=True) for view in batch]
        with self.part("forward"):
            return self.of_views(views)


class _Transformed(torch.utils.data.Dataset):
    def __init__(self, images: list[Any], transform: Callable[[Any], list[Tensor]]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> list[Tensor]:
        return self.transform(self.images[position])


def _simclr_loss(method: Any) -> Loss:
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(temperature=0.5)
    return lambda views: loss(*method.projector(method.backbone(torch.cat(views))).chunk(2))


def _moco_loss(method: Any) -> Loss:
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(temperature=0.1, memory_bank_size=(4096, 128)).to(next(method.parameters()).device)

    def of_views(views: list[Tensor]) -> Tensor:
        query, key = method.projector(method.backbone(views[0])), method.key_encoder(views[1])
        return loss(query, key)

    return of_views


def _similarity_loss(method: Any) -> Loss:
    from lightly.loss import NegativeCosineSimilarity

    method.similarity = NegativeCosineSimilarity()
    nothing = torch.empty(0)
    return lambda views: method(Views(views, [], nothing))["loss"]
