"""AlexNet (Krizhevsky et al. 2012) as a fully convolutional network."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from sslfast.augment.presets import SMALL_IMAGE
from sslfast.models.backbone import Backbone, scaled

MEDIUM_IMAGE = 2 * SMALL_IMAGE


class AlexNetFCN(Backbone):
    """AlexNet whose fully connected layers are convolutions, as in split-brain autoencoders (Zhang et al. 2017).

    Five convolutions, then fc6 as a 6x6 one, dilated by 2 since the last pooling has stride 1, and fc7 as a 1x1 one;
    every one with batch norm and ReLU. The first convolution, whose stride is 4, has stride 2 up to 128 px and 1 up to
    64 px, so that the map keeps 8 to 16 positions a side: 14 x 14 at 224 px, 12 x 12 at 96 px, 8 x 8 at 32 px.
    `forward` averages the map to 4096 features times `width`. About 58 million weights at width 1, 38 of them in fc6.

    Args:
        image_size: side in pixels of the images it is meant for.
        in_channels: channels of the images.
        width: channels of every layer as a multiple of the usual ones.
    """

    def __init__(self, image_size: int = 32, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__(image_size, in_channels)
        first, second, third, fourth, fifth, full = (
            scaled(channels, width) for channels in (96, 256, 384, 384, 256, 4096)
        )
        stride = 1 if image_size <= SMALL_IMAGE else 2 if image_size <= MEDIUM_IMAGE else 4
        # Padding keeps sides that strides divide; torchvision's default is half of the dilated kernel.
        self.layers = nn.Sequential(
            Conv2dNormActivation(in_channels, first, 11, stride),
            nn.MaxPool2d(3, stride=2, padding=1),
            Conv2dNormActivation(first, second, 5),
            nn.MaxPool2d(3, stride=2, padding=1),
            Conv2dNormActivation(second, third, 3),
            Conv2dNormActivation(third, fourth, 3),
            Conv2dNormActivation(fourth, fifth, 3),
            nn.MaxPool2d(3, stride=1, padding=1),
            Conv2dNormActivation(fifth, full, 6, padding=5, dilation=2),
            Conv2dNormActivation(full, full, 1),
        )
        self.num_features = self.map_channels = full

    def feature_map(self, images: Tensor) -> Tensor:
        return self.layers(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images).mean(dim=(2, 3))
