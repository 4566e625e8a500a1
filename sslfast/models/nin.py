"""NIN: network in network (Lin et al. 2014), as RotNet trains it on CIFAR-10."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sslfast.models.backbone import Backbone

# Kernel's side and output channels of each block's three convolutions (Gidaris et al. 2018, section 4.1).
FIRST = ((5, 192), (1, 160), (1, 96))
SECOND = ((5, 192), (1, 192), (1, 192))
LATER = ((3, 192), (1, 192), (1, 192))


class NIN(Backbone):
    """Four blocks of three convolutions, each with batch norm and ReLU; the first two blocks halve the image.

    The feature map is (B, 192, H/4, W/4), and the features are its average, 192. The second block's output, the layer
    "blocks.1", is the one whose features RotNet finds best.

    Args:
        image_size: side in pixels of the images it is meant for.
        in_channels: channels of the images.

    Source: Gidaris et al. 2018, section 4.1 (four blocks).
    """

    def __init__(self, image_size: int = 32, in_channels: int = 3) -> None:
        super().__init__(image_size, in_channels)
        self.map_channels = self.num_features = LATER[-1][1]
        blocks, channels = [], in_channels
        for layers, pool in ((FIRST, nn.MaxPool2d), (SECOND, nn.AvgPool2d), (LATER, None), (LATER, None)):
            modules: list[nn.Module] = []
            for kernel, width in layers:
                # No bias: the batch norm behind it subtracts any.
                convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
                nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
                modules += [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                channels = width
            if pool is not None:
                modules.append(pool(3, stride=2, padding=1))
            blocks.append(nn.Sequential(*modules))
        self.blocks = nn.Sequential(*blocks)

    def feature_map(self, images: Tensor) -> Tensor:
        return self.blocks(images)

    def forward(self, images: Tensor) -> Tensor:
        return torch.mean(self.feature_map(images), dim=(2, 3))
