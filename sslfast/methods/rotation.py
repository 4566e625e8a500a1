"""Rotation prediction, RotNet (Gidaris et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from sslfast.augment import Views, presets
from sslfast.methods.base import Method
from sslfast.models import Backbone, Classifier


class Rotation(Method):
    """Says by which angle an image is rotated; every image of the batch is seen at all angles (section 3.1).

    The recipe is the CIFAR-10 one of section 4.1, with a cosine instead of the paper's steps of the learning rate; the
    authors' code trains 200 epochs, with Nesterov's momentum. For
    ImageNet section 4.2 has batches of 192, learning rate 0.01 and 30 epochs.

    Args:
        backbone: the encoder.
        image_size: side of the views in pixels.
        seed: names the random streams of the views.
        angles: 2 (0 and 180 degrees), 4 (steps of 90) or 8 (steps of 45), or the degrees themselves, as [90, 270].
    """

    recipe = {
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "batch_size": 128,
        "epochs": 100,
        "schedule": "cosine",
        "warmup_epochs": 0,
    }

    def __init__(
        self, backbone: Backbone, image_size: int = 32, seed: int = 0, angles: int | Sequence[float] = 4
    ) -> None:
        views = presets.rotation(image_size, angles)
        super().__init__(backbone, views, seed)
        self.classifier = Classifier(backbone.num_features, len(views))

    def forward(self, views: Views) -> dict[str, Tensor]:
        images = torch.cat(views.tensors)
        # View k is the image rotated by the k-th angle.
        angle = torch.arange(len(views.tensors), device=images.device).repeat_interleave(len(views.index))
        logits = self.classifier(self.backbone(images))
        accuracy = (logits.detach().argmax(dim=1) == angle).float().mean()
        return {"loss": functional.cross_entropy(logits, angle), "accuracy": accuracy}
