"""Decoders: mirrored layers, and images of any size come back at their own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sslfast.models import MirroredDecoder, UpsamplingDecoder, build_backbone, build_decoder, build_dense_head


def test_mirrored_decoder_reverses_conv9() -> None:
    """Every layer turns the encoder layer's output channels into its input channels, last layer first."""
    backbone = build_backbone("conv9")
    decoder = build_decoder(backbone)
    assert isinstance(decoder, MirroredDecoder)
    encoder = [layer[0] for layer in backbone.layers]
    for convolution, mirrored in zip(encoder, decoder.convolutions, strict=True):
        assert isinstance(mirrored, nn.ConvTranspose2d)
        assert (mirrored.in_channels, mirrored.out_channels) == (convolution.out_channels, convolution.in_channels)
        assert (mirrored.kernel_size, mirrored.stride) == (convolution.kernel_size, convolution.stride)
    assert [isinstance(activation, nn.Identity) for activation in decoder.activations] == [True, *[False] * 8]


@pytest.mark.parametrize("size", [(32, 32), (33, 33), (31, 30), (5, 7), (1, 1), (4, 9)])
def test_mirrored_decoder_input_sizes_are_the_encoder_s_output_sizes(size: tuple[int, int]) -> None:
    backbone = build_backbone("conv9").eval()
    decoder = build_decoder(backbone).eval()
    outputs: list[torch.Size] = []
    inputs: list[torch.Size] = []
    for layer in backbone.layers:
        layer.register_forward_hook(lambda module, args, output: outputs.append(output.shape))
    for convolution in decoder.convolutions:
        convolution.register_forward_hook(lambda module, args, output: inputs.append(args[0].shape))
    with torch.no_grad():
        images = decoder(backbone.feature_map(torch.rand(1, 3, *size)), size)
    assert images.shape == (1, 3, *size)
    assert inputs == outputs[::-1]


@pytest.mark.parametrize("name", ["resnet18", "resnet10_narrow", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("size", [32, 48])
def test_upsampling_decoder_restores_the_size(name: str, size: int) -> None:
    backbone = build_backbone(name, size, in_channels=2).eval()
    decoder = build_decoder(backbone).eval()
    assert isinstance(decoder, UpsamplingDecoder)
    with torch.no_grad():
        assert decoder(backbone.feature_map(torch.rand(2, 2, size, size)), (size, size)).shape == (2, 2, size, size)


@pytest.mark.parametrize("size", [(33, 33), (31, 45), (96, 65)])
def test_upsampling_decoder_restores_odd_sizes(size: tuple[int, int]) -> None:
    backbone = build_backbone("resnet10_narrow", 33).eval()
    decoder = build_decoder(backbone).eval()
    with torch.no_grad():
        assert decoder(backbone.feature_map(torch.rand(2, 3, *size)), size).shape == (2, 3, *size)


def test_upsampling_decoder_doubles_stage_by_stage() -> None:
    backbone = build_backbone("resnet18", 32).eval()  # 4x4 map: three doublings
    decoder = build_decoder(backbone).eval()
    seen: list[tuple[int, ...]] = []
    for stage in decoder.stages:
        stage.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape[1:])))
    with torch.no_grad():
        decoder(backbone.feature_map(torch.rand(1, 3, 32, 32)), (32, 32))
    assert seen == [(256, 8, 8), (128, 16, 16), (64, 32, 32)]


@pytest.mark.parametrize(
    ("name", "size", "side", "stages"),
    [("resnet10_narrow", 32, 8, 2), ("resnet18", 96, 12, 2), ("simplenet", 96, 12, 0), ("simplenet", 32, 12, 1)],
)
def test_dense_head_predicts_at_the_positions_asked_for(name: str, size: int, side: int, stages: int) -> None:
    backbone = build_backbone(name, size).eval()
    head = build_dense_head(backbone, 7, side).eval()
    assert len(head.stages) == stages and head.pixels.kernel_size == (1, 1)
    with torch.no_grad():
        assert head(backbone.feature_map(torch.rand(2, 3, size, size)), (side, side)).shape == (2, 7, side, side)


def test_dense_head_averages_a_map_with_more_positions() -> None:
    backbone = build_backbone("simplenet", 32).eval()  # 8 x 8 positions
    head = build_dense_head(backbone, 5, 4)
    feature_map = torch.rand(2, 256, 8, 8)
    means = feature_map.view(2, 256, 4, 2, 4, 2).mean(dim=(3, 5))
    expected = torch.einsum("oc,bchw->bohw", head.pixels.weight[:, :, 0, 0], means) + head.pixels.bias.view(-1, 1, 1)
    torch.testing.assert_close(head(feature_map, (4, 4)), expected)


def test_building_a_decoder_leaves_the_backbone_as_it_was() -> None:
    for training in (True, False):
        backbone = build_backbone("resnet10_narrow").train(training)
        build_decoder(backbone)
        assert all(module.training is training for module in backbone.modules())
        assert not backbone.network.bn1.running_mean.any()
