"""A whole pretraining step by method, from uint8 images in memory to the optimiser's step: images a second, and where
the time goes.

Both sides train the same networks with the same optimiser and batch. The peer is the usual script: PIL images through
transforms in DataLoader workers, and a loss that its users know (`benchmarks.peers.training`).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import machine
from benchmarks.peers.training import PEERS, Peer
from benchmarks.run import Case, Setup
from sslfast import methods
from sslfast.data import ImageBatch, MemoryLoader, build_source
from sslfast.models import Backbone

BATCH = 128
SMALLER = {"cpc": 4}  # times smaller batches: an image of CPC is 49 patches
SIZE = 32
ONE_LAYER = f"{__name__}:OneLayer"
STEPS = 1 << 20  # of the whole training, as far as schedules ask

Epoch = Callable[[], dict[str, float]]


def cases(setup: Setup, name: str) -> Iterator[Case]:
    """CIFAR-sized images; ResNet-18 shows what a usual run gains, one layer what the network's time hides.

    On a CPU ResNet-18 takes all the time there is, whatever the method: one method and two small batches show it.
    """
    usual = BATCH // SMALLER.get(name, 1)
    if setup.device == "cuda":
        sizes = [(backbone, 2 * usual, 16) for backbone in (ONE_LAYER, "resnet10_narrow", "resnet18")]
    else:
        sizes = [(ONE_LAYER, usual, 8), ("resnet10_narrow", usual, 8)]
        sizes += [("resnet18", usual // 2, 2)] if name == "simclr" else []
    for backbone, batch, steps in sizes:
        images = build_source("shapes", size=SIZE, limit=batch * steps).read()
        facts = {"name": name, "backbone": backbone, "images": images, "batch": batch, "setup": setup}
        contenders: dict[str, Callable[[], Epoch]] = {"sslfast": partial(_Ours, **facts)}
        for library, build in PEERS.get(name, {}).items():
            contenders[f"{library}, {setup.threads} workers"] = partial(_Theirs, build=build, **facts)
        network = "one layer" if backbone == ONE_LAYER else backbone
        yield Case(
            op=name,
            name=f"training step, {network}, {SIZE} px, batch {batch}, an epoch of {len(images)} images",
            unit="images",
            count=len(images),
            contenders=contenders,
            settings={"batch": batch, "images": len(images), "backbone": network},
        )


class OneLayer(Backbone):
    """A convolution over 4 x 4 pixels without overlap: a network that costs next to nothing."""

    def __init__(self, image_size: int = SIZE, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__(image_size, in_channels)
        self.num_features = self.map_channels = int(64 * width)
        self.layer = nn.Conv2d(in_channels, self.map_channels, kernel_size=4, stride=4)

    def feature_map(self, images: Tensor) -> Tensor:
        return self.layer(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images).mean(dim=(2, 3))


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
        self.step = 0
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
                self.step += 1
                self.method.after_step(self.step, STEPS)


class _Ours(_Trained):
    def __init__(self, name: str, backbone: str, images: ImageBatch, batch: int, setup: Setup) -> None:
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
        backbone: str,
        images: ImageBatch,
        batch: int,
        setup: Setup,
        build: Callable[[Any], Peer],
    ) -> None:
        from PIL import Image

        super().__init__(name, backbone, setup)
        self.peer = build(self.method)
        assert images.label is not None
        pictures = [Image.fromarray(images.image(i).numpy()) for i in range(len(images))]
        self.loader = torch.utils.data.DataLoader(
            _Samples(pictures, images.label.tolist(), self.peer.sample),
            batch,
            shuffle=True,
            num_workers=setup.threads,
            persistent_workers=True,
            pin_memory=setup.device == "cuda",
            drop_last=True,
            multiprocessing_context="fork",  # what a worker runs need not be pickled
        )

    def batches(self) -> Iterable[Any]:
        return self.loader

    def loss(self, batch: tuple[list[Tensor], Tensor]) -> Tensor:
        with self.part("views"):  # only their way to the device
            views, labels = [self._moved(view) for view in batch[0]], self._moved(batch[1])
        with self.part("forward"):
            return self.peer.loss(views, labels)

    def _moved(self, tensor: Tensor) -> Tensor:
        images = {"memory_format": torch.channels_last} if tensor.dim() == 4 else {}
        return tensor.to(self.device, non_blocking=True, **images)


class _Samples(torch.utils.data.Dataset):
    def __init__(self, pictures: list[Any], labels: list[int], sample: Callable[[Any], list[Tensor]]) -> None:
        self.pictures, self.labels, self.sample = pictures, labels, sample

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, position: int) -> tuple[list[Tensor], int]:
        return self.sample(self.pictures[position]), self.labels[position]
