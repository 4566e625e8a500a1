"""SimpleNet: its layers, and that two halves have the report's number of weights."""

from __future__ import annotations

import pytest
from torch import nn

from sslfast.models import build_backbone, build_dense_head


@pytest.mark.parametrize(("size", "first_stride"), [(32, 1), (64, 1), (65, 2), (224, 2)])
def test_five_convolutions_with_batch_norm_and_relu(size: int, first_stride: int) -> None:
    found = []
    for convolution, norm, activation in build_backbone("simplenet", size, in_channels=2).layers:
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert isinstance(activation, nn.ReLU) and convolution.kernel_size == (3, 3) and convolution.bias is None
        found.append((convolution.in_channels, convolution.out_channels, convolution.stride[0]))
    assert found == [(2, 64, first_stride), (64, 128, 1), (128, 192, 2), (192, 256, 1), (256, 256, 2)]


def test_two_halves_have_700_thousand_weights() -> None:
    weights = 0
    for channels in (1, 2):
        half = build_backbone("simplenet", 96, channels, width=0.5)
        weights += sum(p.numel() for module in (half, build_dense_head(half, 100, 12)) for p in module.parameters())
    assert 0.68e6 < weights < 0.72e6
