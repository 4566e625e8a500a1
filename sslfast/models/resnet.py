"""ResNets (He et al. 2016) on timm's implementation, with the CIFAR stem for small images."""

from __future__ import annotations

from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from sslfast.augment.presets import SMALL_IMAGE
from sslfast.models.backbone import TimmBackbone, cifar_stem, scaled

CHANNELS = (64, 128, 256, 512)
STEM_CHANNELS = 64


def resnet18(image_size: int = 32, in_channels: int = 3, width: float = 1.0) -> TimmBackbone:
    """ResNet-18, 512 features times `width`; up to 64 px with the CIFAR stem (see `cifar_stem`)."""
    return _plain(BasicBlock, (2, 2, 2, 2), image_size, in_channels, width)


def resnet50(image_size: int = 32, in_channels: int = 3, width: float = 1.0) -> TimmBackbone:
    """ResNet-50, 2048 features times `width`; up to 64 px with the CIFAR stem (see `cifar_stem`)."""
    return _plain(Bottleneck, (3, 4, 6, 3), image_size, in_channels, width)


def resnet10_narrow(image_size: int = 32, in_channels: int = 3, width: float = 1.0) -> TimmBackbone:
    """A ResNet for runs without a GPU: one basic block a stage, 32 to 256 channels times `width`; 256 features.

    Up to 64 px it has the CIFAR stem at stride 2: 16 x 16 pixels at 32 px, a quarter of the work.
    """
    # timm fixes a plain stem at 64 channels; a deep stem is twice `stem_width` wide.
    network = ResNet(
        BasicBlock,
        (1, 1, 1, 1),
        channels=tuple(scaled(channels, width / 2) for channels in CHANNELS),
        stem_type="deep",
        stem_width=scaled(16, width),
        num_classes=0,
        in_chans=in_channels,
    )
    return _backbone(network, image_size, in_channels, stem_stride=2)


def _plain(
    block: type[nn.Module], layers: tuple[int, ...], image_size: int, in_channels: int, width: float
) -> TimmBackbone:
    if width == 1.0:
        network = ResNet(block, layers, num_classes=0, in_chans=in_channels)
        return _backbone(network, image_size, in_channels)
    network = ResNet(
        block,
        layers,
        channels=tuple(scaled(channels, width) for channels in CHANNELS),
        stem_type="deep",  # it only makes room for a plain stem of that width
        stem_width=scaled(STEM_CHANNELS // 2, width),
        num_classes=0,
        in_chans=in_channels,
    )
    network.conv1 = nn.Conv2d(in_channels, network.bn1.num_features, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    return _backbone(network, image_size, in_channels)


def _backbone(network: ResNet, image_size: int, in_channels: int, stem_stride: int = 1) -> TimmBackbone:
    if image_size <= SMALL_IMAGE:
        cifar_stem(network, stem_stride)
    return TimmBackbone(network, image_size, in_channels)
