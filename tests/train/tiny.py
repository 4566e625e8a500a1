"""A small user's method, backbone and data source, named in configurations as "train.tiny:Name"."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
from torch import Tensor, nn

from sslfast.augment import MultiView, Views, presets
from sslfast.data import ImageBatch
from sslfast.methods import Method
from sslfast.models import Backbone


class TinyBackbone(Backbone):
    """One convolution, batch norm and dropout: the smallest network with a weight, a bias, a buffer and a draw."""

    num_features = 4
    map_channels = 4

    def __init__(self, image_size: int = 8, in_channels: int = 3) -> None:
        super().__init__(image_size, in_channels)
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2)
        )

    def feature_map(self, images: Tensor) -> Tensor:
        return self.layers(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images).mean(dim=(2, 3))


class PlainBackbone(TinyBackbone):
    """The convolution alone: nothing couples the images of a batch, and nothing is drawn."""

    def __init__(self, image_size: int = 8, in_channels: int = 3) -> None:
        super().__init__(image_size, in_channels)
        self.layers = nn.Sequential(nn.Conv2d(in_channels, 4, 3, padding=1), nn.ReLU())


class Brightness(Method):
    """Regresses the mean of each channel from a flipped view; draws noise, so that a resume needs the generators."""

    recipe = {"optimizer": "sgd", "learning_rate": 0.1, "batch_size": 8, "epochs": 3, "schedule": "cosine"}

    def __init__(self, backbone: Backbone, image_size: int = 8, seed: int = 0, noise: float = 0.01) -> None:
        super().__init__(backbone, [presets.plain(image_size)[0].replace(hflip=0.5)], seed)
        self.head = nn.Linear(backbone.num_features, backbone.in_channels)
        self.noise = noise
        self.steps: list[tuple[int, int]] = []

    def forward(self, views: Views) -> dict[str, Tensor]:
        images = views.tensors[0]
        target = images.mean(dim=(2, 3)) + self.noise * torch.randn(images.shape[:2], device=images.device)
        loss = nn.functional.mse_loss(self.head(self.backbone(images)), target)
        return {"loss": loss, "target": target.mean()}

    def after_step(self, step: int, steps: int) -> None:
        self.steps.append((step, steps))

    @torch.no_grad()
    def pictures(self, views: Views) -> dict[str, Tensor]:
        return {"gray": views.tensors[0].mean(dim=1, keepdim=True).clamp(0, 1)}


class Diverging(Brightness):
    """Gives a loss that is not a number at its step `at`."""

    def __init__(self, backbone: Backbone, image_size: int = 8, seed: int = 0, at: int = 2) -> None:
        super().__init__(backbone, image_size, seed)
        self.at = at

    def forward(self, views: Views) -> dict[str, Tensor]:
        output = super().forward(views)
        return {**output, "loss": output["loss"] * (float("nan") if len(self.steps) + 1 == self.at else 1.0)}


class Recording(Brightness):
    """Writes what its rank has seen, and its weights, into `folder` after every step.

    After step TINY_STOP_AT of the environment it stops the process that started the ranks, or only the rank TINY_STOPS.
    """

    def __init__(
        self, backbone: Backbone, image_size: int = 8, seed: int = 0, noise: float = 0.01, folder: str = "."
    ) -> None:
        super().__init__(backbone, image_size, seed, noise)
        self.folder = Path(folder)
        self.seen: list[list[int]] = []

    def views(self, batch: ImageBatch, epoch: int = 0) -> Views:
        self.seen.append(batch.index.tolist())
        return super().views(batch, epoch)

    def after_step(self, step: int, steps: int) -> None:
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        stops = int(os.environ.get("TINY_STOPS", -1))
        if rank == max(stops, 0) and step == int(os.environ.get("TINY_STOP_AT", 0)):
            os.kill(os.getppid() if stops < 0 else os.getpid(), signal.SIGTERM)
        torch.save({"seen": self.seen, "weights": dict(self.named_parameters())}, self.folder / f"{rank}-{step}.pt")


class Adversarial(Brightness):
    """Two players, each with an optimiser of its own."""

    def players(self) -> dict:
        return {"encoder": self.backbone.parameters(), "head": self.head.parameters()}


class Clustering(Brightness):
    """Remembers how many features it was given before the last epoch, and their mean."""

    def __init__(self, backbone: Backbone, image_size: int = 8, seed: int = 0) -> None:
        super().__init__(backbone, image_size, seed)
        self.register_buffer("seen", torch.zeros(2))

    def before_epoch(self, features: Tensor | None) -> None:
        assert features is not None
        self.seen.copy_(torch.stack([torch.tensor(float(len(features))), features.mean()]))


class Grouping(Brightness):
    """Makes pseudo-labels before an epoch, as clustering methods do: the nearest of three features drawn at random."""

    def __init__(self, backbone: Backbone, image_size: int = 8, seed: int = 0) -> None:
        super().__init__(backbone, image_size, seed)
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))

    def before_epoch(self, features: Tensor | None) -> None:
        assert features is not None
        self.labels = torch.cdist(features, features[torch.randperm(len(features))[:3]]).argmin(dim=1)

    def forward(self, views: Views) -> dict[str, Tensor]:
        logits = self.head(self.backbone(views.tensors[0]))
        return {"loss": nn.functional.cross_entropy(logits, self.labels[views.index])}


class MultiCrop(Brightness):
    """A second view, of half the size."""

    def __init__(self, backbone: Backbone, image_size: int = 8, seed: int = 0) -> None:
        super().__init__(backbone, image_size, seed)
        specs = self.multi_view.specs
        self.multi_view = MultiView([*specs, specs[0].replace(size=image_size // 2)], seed)


class Narrowing(TinyBackbone):
    """Averages over positions before batch norm, which then sees one value an image and channel."""

    def feature_map(self, images: Tensor) -> Tensor:
        return self.layers[1](self.layers[0](images).mean(dim=(2, 3), keepdim=True))


class Dots:
    """`count` images of 8 x 8 random pixels."""

    classes = None

    def __init__(
        self, root: str | None = None, split: str = "train", *, limit: int = 0, count: int = 44, channels: int = 3
    ) -> None:
        self.count, self.channels = min(limit or count, count), channels

    def __len__(self) -> int:
        return self.count

    def read(self) -> ImageBatch:
        generator = torch.Generator().manual_seed(1)
        return ImageBatch.from_dense(
            torch.randint(0, 256, (self.count, 8, 8, self.channels), dtype=torch.uint8, generator=generator)
        )
