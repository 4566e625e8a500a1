"""Images of a run's data and what its backbone makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from sslfast.data import ImageBatch, ImageFiles, Source
from sslfast.data.dali import decodable
from sslfast.errors import DataError, UserError
from sslfast.evaluate.features import apply, evaluating
from sslfast.train import Run, TrainConfig
from sslfast.train.config import find_device
from sslfast.train.run import find_source

LEAST = 5  # images: of fewer there is nothing to see
LIMIT = 1000  # images: enough to see the classes, few enough for t-SNE to take seconds


@dataclass(frozen=True)
class Encoded:
    """Images and their features.

    Attributes:
        images: N images, in memory or in files.
        features: (N, D) float32, rows of length 1.
        labels: (N,) int64 classes, -1 where unknown, or None for unlabelled data.
        classes: names of the classes, or None.
        split: the part of the data set they come from.
    """

    images: ImageBatch | ImageFiles
    features: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    classes: list[str] | None
    split: str

    @property
    def longest_side(self) -> int:
        """Pixels of the longest side of all images; of the first one where they are in files."""
        return (
            max(self.images.image(0).shape[:2]) if isinstance(self.images, ImageFiles) else int(self.images.sizes.max())
        )


def encode(run: Run, limit: int = LIMIT) -> Encoded:
    """The first `limit` images of the run's data, through its backbone: test images, or others where there are none.

    Raises:
        UserError: the data or the backbone cannot be read, or the features show nothing.
    """
    source, split = _source(run.config, limit)
    images: ImageBatch | ImageFiles
    images = decodable(source) if run.config.loader == "dali" and isinstance(source, ImageFiles) else source.read()
    method = run.method()
    device = find_device("auto")
    method.backbone.to(device)
    with evaluating(method.backbone):
        features = apply(method.backbone, images, method.evaluation_view, device)
    unit = functional.normalize(features, dim=1).cpu().numpy()
    _check(unit)
    labels = None if images.label is None or not (images.label >= 0).any() else images.label.numpy()
    return Encoded(images, unit, labels, source.classes, split)


def _source(config: TrainConfig, limit: int) -> tuple[Source, str]:
    try:
        return find_source(config, "test", limit), "test"
    except DataError as error:
        try:
            return find_source(
                config, config.split, limit
            ), config.split  # a folder of unlabelled images has no test split
        except DataError:
            raise error from None


def _check(features: NDArray[np.float32]) -> None:
    """Raises a UserError for features from which nothing can be seen."""
    if len(features) < LEAST:
        raise UserError(f"{len(features)} images are too few to draw; {LEAST} or more are needed")
    if not np.isfinite(features).all():
        raise UserError("the encoder gives features that are not finite; look at the loss and lower the learning rate")
    if np.ptp(features, axis=0).max() < 1e-6:
        raise UserError("the encoder gives every image the same features: it has collapsed")
