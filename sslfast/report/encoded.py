"""The test images of a run and what its backbone makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from sslfast import augment
from sslfast.data import ImageBatch, build_source
from sslfast.evaluate.features import apply, evaluating
from sslfast.train import Run

LIMIT = 1000  # test images: enough to see the classes, few enough for t-SNE to take seconds


@dataclass(frozen=True)
class Encoded:
    """Images and their features.

    Attributes:
        images: N images.
        features: (N, D) float32, rows of length 1.
        labels: (N,) int64 classes, -1 where unknown, or None for unlabelled data.
        classes: names of the classes, or None.
    """

    images: ImageBatch
    features: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    classes: list[str] | None


def encode(run: Run, limit: int = LIMIT) -> Encoded:
    """The first `limit` test images of the run's data, through its backbone.

    Raises:
        UserError: the data or the backbone cannot be read.
    """
    config = run.config
    source = build_source(config.data, root=config.root, split="test", limit=limit, **config.data_options)
    images = source.read()
    backbone = run.backbone()
    with evaluating(backbone):
        features = apply(backbone, images, augment.presets.plain(config.image_size)[0], "cpu")
    labels = None if images.label is None or not (images.label >= 0).any() else images.label.numpy()
    return Encoded(images, functional.normalize(features, dim=1).cpu().numpy(), labels, source.classes)
