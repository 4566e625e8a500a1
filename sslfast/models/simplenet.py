"""SimpleNet: a shallow network of five convolutions."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from sslfast.augment.presets import SMALL_IMAGE
from sslfast.models.backbone import Backbone, scaled

CHANNELS = (64, 128, 192, 256, 256)
STRIDES = (2, 1, 2, 1, 2)


class SimpleNet(Backbone):
    """Five 3x3 convolutions, each with batch norm and ReLU; the first, third and fifth have stride 2.

    The map is an eighth of the image, 12 x 12 at 96 px. Up to 64 px the first stride is 1: 8 x 8 at 32 px. `forward`
    averages the map to 256 features times `width`. Two halves of width 0.5 that predict 100 classes at each position
    have 0.7 million weights together, as many as the five-layer network of the student report on split-brain
    autoencoders.

    Args:
        image_size: side in pixels of the images it is meant for.
        in_channels: channels of the images.
        width: channels of every layer as a multiple of the usual ones.
    """

    def __init__(self, image_size: int = 32, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__(image_size, in_channels)
        widths = [in_channels, *(scaled(channels, width) for channels in CHANNELS)]
        strides = (1, *STRIDES[1:]) if image_size <= SMALL_IMAGE else STRIDES
        self.layers = nn.Sequential(
            *(
                Conv2dNormActivation(channels, next_channels, 3, stride)
                for (channels, next_channels), stride in zip(pairwise(widths), strides, strict=True)
            )
        )
        self.num_features = self.map_channels = widths[-1]

    def feature_map(self, images: Tensor) -> Tensor:
        return self.layers(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images).mean(dim=(2, 3))
