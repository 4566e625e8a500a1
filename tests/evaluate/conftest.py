"""A task small enough to reason about: four classes told apart by colour, and encoders to judge on it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sslfast.augment import ViewSpec
from sslfast.data.batch import ImageBatch
from sslfast.evaluate import Encoder
from sslfast.models import Backbone

COLOURS = torch.tensor([[200, 60, 60], [60, 200, 60], [60, 60, 200], [180, 180, 60]])
VIEW = ViewSpec(size=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


class ToyBackbone(Backbone):
    """Two convolutions with batch norm; 12 channels, 4x4 positions for 8 px images."""

    def __init__(self, image_size: int = 8, in_channels: int = 3) -> None:
        super().__init__(image_size, in_channels)
        self.num_features = self.map_channels = 12
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, stride=2, padding=1),
        )

    def feature_map(self, images: Tensor) -> Tensor:
        return self.layers(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images).mean(dim=(2, 3))


def coloured(count: int, seed: int, noise: float = 60.0) -> ImageBatch:
    """`count` noisy 8 px images, classes by turns."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % len(COLOURS)
    clean = COLOURS[label][:, None, None, :].float()
    images = clean + noise * torch.randn(count, 8, 8, 3, generator=generator)
    return ImageBatch.from_dense(images.clamp(0, 255).to(torch.uint8), label=label)


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(ToyBackbone(), VIEW, coloured(80, seed=1), coloured(40, seed=2), classes=4)


@pytest.fixture
def with_features() -> Callable[..., Encoder]:
    """Builds an encoder that gives these features: (features, labels) of the training and of the test images."""

    def build(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: int) -> Encoder:
        sets = []
        for features, labels in (train, test):
            assert len(features) == len(labels)
            pixels = torch.zeros(len(labels), 1, 1, 3, dtype=torch.uint8)
            sets.append(ImageBatch.from_dense(pixels, label=labels))
        result = Encoder(nn.Identity(), VIEW, *sets, classes=classes)
        vars(result)["pooled"] = vars(result)["map_means"] = (train[0], test[0])
        return result

    return build
