"""Encoder: a backbone with the labelled images it is judged on, and its frozen features, extracted once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from sslfast.augment import MultiView, ViewSpec
from sslfast.data import ImageBatch, ImageFiles, build_loader
from sslfast.errors import UserError

VIEW_PIXELS = 2**22  # pixels in one batch of views: bounds the memory of the backbone's activations at any view size
LARGEST_BATCH = 512
LARGEST_DECODED_BATCH = 64  # whole photographs, of which several batches are decoded ahead


class MapMean(nn.Module):
    """The feature map of a backbone averaged over its positions: (B, C, H, W) -> (B, map_channels).

    A linear classifier of the average is the average of a 1x1 convolution: what `linear_conv` classifies with.

    Args:
        backbone: has a method `feature_map`.

    Raises:
        UserError: it has none.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        if not hasattr(backbone, "feature_map"):
            raise UserError(
                f"{type(backbone).__name__} has no feature map; give it a method feature_map(images) -> (B, C, h, w), "
                "or leave out the protocol 'linear_conv', and the head of that name"
            )
        self.backbone: Any = backbone

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone.feature_map(images).mean(dim=(2, 3))


@dataclass
class Encoder:
    """A backbone and the labelled images it is judged on; every protocol reads the same frozen features.

    Features are extracted when a protocol first asks for them, in eval mode and without gradient, and are then kept.

    Attributes:
        backbone: (B, C, H, W) float32 -> (B, num_features); it stays as it is, a protocol that trains copies it.
        view: what the backbone sees of each image, without randomness.
        train: labelled images, in memory or in files; a protocol uses those that its `subset` names.
        test: labelled images, on which the accuracy is measured.
        classes: number of classes; labels are in [0, classes).
        device: where features are computed and kept.
    """

    backbone: nn.Module
    view: ViewSpec
    train: ImageBatch | ImageFiles
    test: ImageBatch | ImageFiles
    classes: int
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        self.backbone.to(self.device)
        if isinstance(self.train, ImageBatch):
            self.train = self.train.to(self.device)
        if isinstance(self.test, ImageBatch):
            self.test = self.test.to(self.device)

    @property
    def train_labels(self) -> Tensor:
        """(N,) int64 in [0, classes), on the device."""
        return known_labels(self.train).to(self.device)

    @property
    def test_labels(self) -> Tensor:
        """(M,) int64 in [0, classes), on the device."""
        return known_labels(self.test).to(self.device)

    @cached_property
    def pooled(self) -> tuple[Tensor, Tensor]:
        """Pooled features of the training and the test images: (N, D) and (M, D) float32."""
        return self._frozen(self.backbone)

    @cached_property
    def map_means(self) -> tuple[Tensor, Tensor]:
        """Feature maps of the training and the test images averaged over their positions: (N, C) and (M, C) float32.

        Raises:
            UserError: the backbone has no feature map.
        """
        return self._frozen(MapMean(self.backbone))

    def _frozen(self, function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        with evaluating(self.backbone):
            train, test = (apply(function, images, self.view, self.device) for images in (self.train, self.test))
        if not (torch.isfinite(train).all() and torch.isfinite(test).all()):
            raise UserError(
                f"features of {type(self.backbone).__name__} are not finite, so its training has diverged; "
                "train it again with a lower learning rate"
            )
        return train, test


@torch.no_grad()
def apply(
    function: Callable[[Tensor], Tensor], images: ImageBatch | ImageFiles, view: ViewSpec, device: torch.device | str
) -> Tensor:
    """What `function` returns for the views of all images, computed in batches of bounded size.

    Files are decoded batch by batch, so a data set need not fit into memory.

    Args:
        function: (B, C, H, W) float32 views -> (B, D).
        images: any number of images, at least one; in memory, or in files that can all be decoded.
        view: what to draw.
        device: where to compute.

    Returns:
        (len(images), D) float32, on `device`.

    Raises:
        UserError: `function` returns another shape.
        DataError: a file cannot be decoded.
    """
    height, width = view.shape
    size = min(LARGEST_BATCH, max(1, VIEW_PIXELS // (height * width)))
    if isinstance(images, ImageFiles):
        size = min(size, LARGEST_DECODED_BATCH)
    draw = MultiView([view])
    results = []
    for batch in build_loader(images, size, shuffle=False, drop_last=False, device=device).epoch(0):
        result = function(draw(batch).tensors[0])
        if result.dim() != 2 or result.shape[0] != len(batch):
            raise UserError(
                f"features must be (B, D), one row an image; got shape {tuple(result.shape)} for {len(batch)} images"
            )
        results.append(result.float())
    return torch.cat(results)


def standardised(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Features ((n, D), (m, D) float32) shifted and scaled to mean 0 and deviation 1 over the training images.

    A feature that never changes there becomes 0: it carries nothing, and scaling would only magnify its rounding.
    """
    mean, deviation = train.mean(dim=0), train.std(dim=0, correction=0)
    scale = torch.where(deviation > 1e-6 * mean.abs(), 1.0 / deviation, 0.0)
    return (train - mean) * scale, (test - mean) * scale


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Puts `module` into eval mode, and afterwards each of its parts back into the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def known_labels(images: ImageBatch | ImageFiles) -> Tensor:
    """(B,) int64 classes of images that are known to have labels."""
    assert images.label is not None, "evaluate() keeps labelled images only"
    return images.label
