"""AlexNet as a fully convolutional network: its layers, and the positions of its map."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sslfast.models import build_backbone
from sslfast.models.alexnet import AlexNetFCN

WIDTH = 1 / 32  # 3, 8, 12, 12, 8 and 128 channels


def small(size: int, in_channels: int = 3) -> AlexNetFCN:
    return AlexNetFCN(size, in_channels, WIDTH).eval()


@pytest.mark.parametrize(
    ("size", "side"), [(8, 2), (32, 8), (33, 9), (64, 16), (65, 9), (96, 12), (128, 16), (224, 14), (256, 16)]
)
def test_the_map_keeps_its_positions(size: int, side: int) -> None:
    backbone = small(size)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        feature_map = backbone.feature_map(images)
        assert feature_map.shape == (2, 128, side, side)
        torch.testing.assert_close(backbone(images), feature_map.mean(dim=(2, 3)))


def test_the_layers_are_alexnet_s() -> None:
    """Output channels, kernel, stride and dilation of the convolutions, with pooling in between."""
    layers = []
    for layer in AlexNetFCN(224, 3, 0.5).layers:
        if isinstance(layer, nn.MaxPool2d):
            layers.append(("pool", layer.kernel_size, layer.stride))
        else:
            convolution, norm, activation = layer
            assert isinstance(norm, nn.BatchNorm2d) and isinstance(activation, nn.ReLU)
            layers.append(
                (
                    convolution.out_channels,
                    convolution.kernel_size[0],
                    convolution.stride[0],
                    convolution.dilation[0],
                )
            )
    assert layers == [
        (48, 11, 4, 1),
        ("pool", 3, 2),
        (128, 5, 1, 1),
        ("pool", 3, 2),
        (192, 3, 1, 1),
        (192, 3, 1, 1),
        (128, 3, 1, 1),
        ("pool", 3, 1),
        (2048, 6, 1, 2),
        (2048, 1, 1, 1),
    ]


def test_as_many_weights_as_documented() -> None:
    with torch.device("meta"):
        backbone = build_backbone("alexnet_fcn")
    assert backbone.num_features == backbone.map_channels == 4096
    assert sum(parameter.numel() for parameter in backbone.parameters()) == pytest.approx(58e6, rel=0.01)
