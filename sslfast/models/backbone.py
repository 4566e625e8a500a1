"""Backbone: the encoder interface that methods train and evaluation keeps."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg_value
from timm.models.resnet import ResNet
from torch import Tensor, nn

from sslfast import registry
from sslfast.augment.presets import SMALL_IMAGE
from sslfast.data.batch import MAX_CHANNELS
from sslfast.errors import UserError


class Backbone(nn.Module):
    """An encoder from images to features; a subclass writes `feature_map` and `forward`.

    Autoencoders and colorization call `feature_map`, and split-brain `group_maps`, instead of the module. Where the
    backbone is sharded by itself, FSDP has to be told:
    `torch.distributed.fsdp.register_fsdp_forward_method(method.backbone, "feature_map")`.

    Attributes:
        num_features: length of the pooled features.
        map_channels: channels of the feature map.
        in_channels: channels of the images.
        image_size: side in pixels of the images it is meant for.
        name: what `build_backbone` was given; None for a backbone that was made otherwise.
    """

    num_features: int
    map_channels: int
    name: str | None = None

    def __init__(self, image_size: int, in_channels: int = 3) -> None:
        super().__init__()
        self.image_size = image_size
        self.in_channels = in_channels

    def feature_map(self, images: Tensor) -> Tensor:
        """The last layer's output before pooling.

        Args:
            images: (B, in_channels, H, W) floating point, normalised.

        Returns:
            (B, map_channels, h, w).
        """
        raise TypeError(f"{type(self).__name__} must define feature_map(images) -> (B, map_channels, h, w)")

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features.

        Args:
            images: (B, in_channels, H, W) floating point, normalised.

        Returns:
            (B, num_features).
        """
        raise TypeError(f"{type(self).__name__} must define forward(images) -> (B, num_features)")

    def rebuilt(self, in_channels: int, width: float = 1.0) -> Backbone:
        """Another backbone of this name and image size, with weights of its own; arguments as in `build_backbone`.

        Raises:
            UserError: this one has no name, or does not come in that width.
        """
        if self.name is None:
            raise UserError(
                f"this {type(self).__name__} cannot be built again for other channels; give the method the backbone's "
                "name instead"
            )
        return build_backbone(self.name, self.image_size, in_channels, width)


class TimmBackbone(Backbone):
    """A timm network without its classifier.

    Args:
        network: built with `num_classes=0`, so that calling it gives pooled features.
        image_size: side in pixels of the images it is meant for.
        in_channels: channels of the images.

    Raises:
        UserError: the network has no feature map, or cannot take images of this size.
    """

    network: Any  # timm's networks share their methods, but no class

    def __init__(self, network: nn.Module, image_size: int, in_channels: int = 3) -> None:
        super().__init__(image_size, in_channels)
        self.network = network
        name = type(network).__name__
        if not hasattr(network, "forward_intermediates"):
            raise UserError(f"timm's {name} gives no feature map; choose another backbone, for example resnet18")
        # timm's attributes name these lengths differently from family to family; one image tells them all.
        network.eval()
        probe = torch.zeros(1, in_channels, image_size, image_size)
        try:
            with torch.no_grad():
                self.num_features = self(probe).shape[1]
                self.map_channels = self.feature_map(probe).shape[1]
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UserError(
                f"timm's {name} cannot take images of {image_size} px with {in_channels} channels ({error}); "
                "choose a larger image size or another backbone, for example resnet18"
            ) from error
        network.train()

    def feature_map(self, images: Tensor) -> Tensor:
        return self.network.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)[0]

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


@contextmanager
def explained_batch_norm() -> Iterator[None]:
    """Raises a UserError with the cure where batch norm is trained on a single value a channel, which has no deviation.

    That is a batch of one image whose feature map has shrunk to one position.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"batch norm got a single value a channel ({error}); set a batch size of 2 or more images on each device, "
            "or a larger image size"
        ) from error


def cifar_stem(network: ResNet, stride: int = 1) -> None:
    """Replaces the stem by one 3x3 convolution without max-pooling (SimCLR, appendix B.9; there at stride 1)."""
    channels = network.bn1.weight.numel()  # of any kind of normalisation
    network.conv1 = nn.Conv2d(network.in_chans, channels, kernel_size=3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()


def build_backbone(name: str, image_size: int = 32, in_channels: int = 3, width: float = 1.0) -> Backbone:
    """Builds a randomly initialised backbone by its name.

    Args:
        name: one of `sslfast.registry.BACKBONES`, a user's own "package.module:Name" that is called with
            (image_size, in_channels), or any name in `timm.list_models()`.
        image_size: side of the images in pixels; up to 64 px a ResNet gets the CIFAR stem, timm's others too where
            their stem is the plain 7x7 one.
        in_channels: channels of the images, 1 to 16.
        width: channels of every layer as a multiple of the usual ones, for backbones that take this argument.

    Raises:
        UserError: an unknown name (the message gives the nearest ones), channels outside 1 to 16, a width the backbone
            does not come in, or a size the network cannot take.
    """
    if not isinstance(in_channels, int) or not 1 <= in_channels <= MAX_CHANNELS:
        raise UserError(f"in_channels is {in_channels!r}; choose 1 to {MAX_CHANNELS}")
    if not isinstance(image_size, int) or image_size < 1:
        raise UserError(f"image_size is {image_size!r}; choose the side of the views in pixels, a number of at least 1")
    if not width > 0.0:
        raise UserError(f"width is {width:g}; choose a number above 0 (0.5 halves the channels of every layer)")
    if name in registry.BACKBONES or ":" in name:
        backbone = _registered(name, image_size, in_channels, width)
    else:
        backbone = _timm(name, image_size, in_channels, width)
    backbone.name = name
    return backbone


def _registered(name: str, image_size: int, in_channels: int, width: float) -> Backbone:
    build = registry.resolve("backbones", name)
    options = {}
    if width != 1.0:
        if not _has_widths(build):
            raise UserError(_one_width(name))
        options["width"] = width
    try:
        backbone = build(image_size=image_size, in_channels=in_channels, **options)
    except TypeError as error:
        if name in registry.BACKBONES:
            raise
        raise UserError(f"{name!r} gives no backbone: {error}; {registry.NEEDED['backbones']}") from error
    if not isinstance(backbone, Backbone):
        raise UserError(f"{name!r} gives a {type(backbone).__name__}; {registry.NEEDED['backbones']}")
    return backbone


def _timm(name: str, image_size: int, in_channels: int, width: float) -> TimmBackbone:
    check_backbone_name(name)
    if width != 1.0:
        raise UserError(_one_width(name))
    # Only networks with tokens or windows of fixed places take the image's size as an argument.
    sized = {"img_size": image_size} if get_pretrained_cfg_value(name, "fixed_input_size") else {}
    try:
        network = timm.create_model(name, pretrained=False, num_classes=0, in_chans=in_channels, **sized)
    except (TypeError, AssertionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"timm cannot build {name!r} for images of {image_size} px with {in_channels} channels ({error}); "
            "choose another backbone, for example resnet18"
        ) from error
    if isinstance(network, ResNet) and isinstance(network.conv1, nn.Conv2d) and image_size <= SMALL_IMAGE:
        cifar_stem(network)
    return TimmBackbone(network, image_size, in_channels)


def scaled(channels: int, width: float) -> int:
    """`width` times `channels`, rounded, at least 1."""
    return max(1, round(channels * width))


def _has_widths(build: Any) -> bool:
    return "width" in inspect.signature(build).parameters


def _one_width(name: str) -> str:
    several = [other for other in registry.BACKBONES if _has_widths(registry.resolve("backbones", other))]
    return f"backbone {name!r} comes in one width only; choose one of {', '.join(several)}"


def check_backbone_name(name: str) -> None:
    """Raises UserError, with the nearest names, unless `build_backbone` knows `name`."""
    if name in registry.BACKBONES or ":" in name or name in _timm_names():
        return
    hint = registry.nearest(name, sorted({*registry.BACKBONES, *_timm_names()}))
    if not hint.startswith("did you mean"):  # the names of timm would fill pages
        hint = "valid names: " + ", ".join(registry.BACKBONES) + ", or any in timm.list_models()"
    raise UserError(f"unknown backbone {name!r}; {hint}")


@cache
def _timm_names() -> frozenset[str]:
    return frozenset(timm.list_models())
