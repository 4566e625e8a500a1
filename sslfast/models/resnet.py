"""ResNets (He et al. 2016) on timm's implementation, with the CIFAR stem for small images."""

from __future__ import annotations

from timm.models.resnet import BasicBlock, Bottleneck, ResNet

from sslfast.augment.presets import SMALL_IMAGE
from sslfast.models.backbone import TimmBackbone, cifar_stem


def resnet18(image_size: int = 32, in_channels: int = 3) -> TimmBackbone:
    """ResNet-18, 512 features; up to 64 px with the CIFAR stem (see `cifar_stem`)."""
    network = ResNet(BasicBlock, (2, 2, 2, 2), num_classes=0, in_chans=in_channels)
    return _backbone(network, image_size, in_channels)


def resnet50(image_size: int = 32, in_channels: int = 3) -> TimmBackbone:
    """ResNet-50, 2048 features; up to 64 px with the CIFAR stem (see `cifar_stem`)."""
    network = ResNet(Bottleneck, (3, 4, 6, 3), num_classes=0, in_chans=in_channels)
    return _backbone(network, image_size, in_channels)


def resnet10_narrow(image_size: int = 32, in_channels: int = 3) -> TimmBackbone:
    """A ResNet for runs without a GPU: one basic block a stage, 32 to 256 channels; 256 features.

    Up to 64 px it has the CIFAR stem at stride 2: 16 x 16 pixels at 32 px, a quarter of the work.
    """
    # timm fixes a plain stem at 64 channels; a deep stem is twice `stem_width` wide.
    network = ResNet(
        BasicBlock,
        (1, 1, 1, 1),
        channels=(32, 64, 128, 256),
        stem_type="deep",
        stem_width=16,
        num_classes=0,
        in_chans=in_channels,
    )
    return _backbone(network, image_size, in_channels, stem_stride=2)


def _backbone(network: ResNet, image_size: int, in_channels: int, stem_stride: int = 1) -> TimmBackbone:
    if image_size <= SMALL_IMAGE:
        cifar_stem(network, stem_stride)
    return TimmBackbone(network, image_size, in_channels)
