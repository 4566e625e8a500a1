"""Decoders: from a backbone's feature map back to an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sslfast.models.backbone import Backbone
from sslfast.models.conv9 import CONV9_LAYERS, Conv9, ConvLayer

SMALLEST_WIDTH = 32  # channels of the decoder's last layers


class MirroredDecoder(nn.Module):
    """The layers of an encoder in reverse, as transposed convolutions, each with batch norm and ReLU.

    The input of every layer has the size of the output of the encoder layer that it mirrors, so an image of any size,
    odd ones too, comes back at its own size. The last layer is linear: neither norm nor ReLU limits the pixels.

    Args:
        layers: the encoder's layers, first to last.
        out_channels: channels of the images.
    """

    def __init__(self, layers: Sequence[ConvLayer] = CONV9_LAYERS, out_channels: int = 3) -> None:
        super().__init__()
        self.encoder_layers = tuple(layers)
        targets = [out_channels, *(layer.channels for layer in layers[:-1])]
        convolutions = [
            nn.ConvTranspose2d(
                layer.channels, target, layer.kernel, layer.stride, padding=layer.kernel // 2, bias=position == 0
            )
            for position, (layer, target) in enumerate(zip(layers, targets, strict=True))
        ]
        # torch mistakes the output of a transposed convolution for its input and would make the pixels ten times too
        # large; behind the other layers the batch norm rescales.
        nn.init.kaiming_normal_(convolutions[0].weight, mode="fan_out", nonlinearity="linear")
        self.convolutions = nn.ModuleList(convolutions)
        self.activations = nn.ModuleList(
            nn.Identity() if position == 0 else nn.Sequential(nn.BatchNorm2d(target), nn.ReLU(inplace=True))
            for position, target in enumerate(targets)
        )

    def forward(self, feature_map: Tensor, size: tuple[int, int]) -> Tensor:
        """Decodes to an image of a given size.

        Args:
            feature_map: (B, C', h, w), the encoder's output for an image of `size`.
            size: height and width of the image.

        Returns:
            (B, out_channels, height, width), not limited to [0, 1].
        """
        sizes = [size]  # input size of every encoder layer
        for layer in self.encoder_layers[:-1]:
            sizes.append(layer.output_size(sizes[-1]))
        x = feature_map
        for convolution, activation, output_size in zip(
            reversed(self.convolutions), reversed(self.activations), reversed(sizes), strict=True
        ):
            x = activation(convolution(x, output_size=list(output_size)))
        return x


class UpsamplingDecoder(nn.Module):
    """Doubles the feature map until it has the size of the image, with a convolution after each doubling.

    A stage is nearest-neighbour upsampling, 3x3 convolution, batch norm and ReLU; upsampling first avoids the
    checkerboard of transposed convolutions (Odena et al. 2016). Each stage halves the channels, down to 32; a last
    convolution gives the pixels, without limits. Without stages, a map that is larger than the image is averaged.

    Args:
        in_channels: channels of the feature map.
        out_channels: channels of the images, or of the prediction at each position.
        stages: doublings.
        last_kernel: side of the last convolution's kernel: 3 for pixels, 1 for the scores of classes.
    """

    def __init__(self, in_channels: int, out_channels: int, stages: int, last_kernel: int = 3) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        channels = in_channels
        for _ in range(stages):
            width = min(channels, max(channels // 2, SMALLEST_WIDTH))
            convolution = nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)
            modules.append(nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)))
            channels = width
        self.stages = nn.ModuleList(modules)
        self.pixels = nn.Conv2d(channels, out_channels, last_kernel, padding=last_kernel // 2)

    def forward(self, feature_map: Tensor, size: tuple[int, int]) -> Tensor:
        """Decodes to an image of a given size; arguments and result as in `MirroredDecoder.forward`."""
        x = feature_map
        for position, stage in enumerate(self.stages):
            halvings = len(self.stages) - 1 - position
            # Sides rounded up, as strided convolutions leave them.
            stage_size = [-(-side // 2**halvings) for side in size]
            x = stage(functional.interpolate(x, size=stage_size, mode="nearest"))
        return self.pixels(x if tuple(x.shape[-2:]) == size else functional.adaptive_avg_pool2d(x, size))


def build_decoder(backbone: Backbone) -> MirroredDecoder | UpsamplingDecoder:
    """The decoder from `backbone.feature_map` to its images: mirrored for Conv9, upsampling for all others."""
    if isinstance(backbone, Conv9):
        return MirroredDecoder(CONV9_LAYERS, backbone.in_channels)
    return UpsamplingDecoder(backbone.map_channels, backbone.in_channels, _doublings(backbone, backbone.image_size))


def build_dense_head(backbone: Backbone, out_channels: int, side: int) -> UpsamplingDecoder:
    """The decoder from `backbone.feature_map` to predictions at `side` x `side` positions.

    Args:
        backbone: whose feature map is decoded, or averaged where it has more positions than that.
        out_channels: numbers predicted at each position: scores of classes, or values.
        side: positions each way; the decoder is called with (side, side).
    """
    return UpsamplingDecoder(backbone.map_channels, out_channels, _doublings(backbone, side), last_kernel=1)


def _doublings(backbone: Backbone, target: int) -> int:
    """The smallest number n with map side * 2**n >= target."""
    was_training = backbone.training
    with torch.no_grad():
        side = backbone.eval().feature_map(torch.zeros(1, backbone.in_channels, *[backbone.image_size] * 2)).shape[-1]
    backbone.train(was_training)
    return max(0, (-(-target // side) - 1).bit_length())
