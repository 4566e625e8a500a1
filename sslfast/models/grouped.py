"""GroupedBackbone: encoders that each see some of an image's channels, in RGB or in Lab, as one backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sslfast import ops
from sslfast.errors import UserError
from sslfast.models.backbone import Backbone
from sslfast.ops.lab_quantize import COLOR_SPACES
from sslfast.ops.reference import lab as lab_formulas
from sslfast.registry import nearest

# Lightness is in [0, 100], a and b are in [-128, 127].
LAB_LOW, LAB_RANGE = (0.0, -128.0, -128.0), (100.0, 255.0, 255.0)
# Rounded from the photographs of ImageNet and CIFAR-10 (L 49 and 26; a 0 and 12; b 7 and 17).
LAB_MEAN, LAB_STD = (50.0, 0.0, 0.0), (25.0, 15.0, 15.0)


class GroupedBackbone(Backbone):
    """One encoder for each group of channels; their features and feature maps are concatenated, group by group.

    It takes the images as they are, in [0, 1], and converts them itself, so that evaluation and export treat it as any
    other backbone. Images carry no gradient through the conversion to Lab.

    Args:
        encoders: one a group, for images of as many channels as the group has.
        groups: channels of each group, counted from 0, after the conversion.
        color_space: "lab" makes the first three channels, which are red, green and blue, into L, a and b; "rgb" leaves
            all channels as they are.
        in_channels: channels of the images.

    Attributes:
        encoders, groups, color_space: as given.
    """

    low: Tensor
    scale: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(
        self, encoders: Sequence[Backbone], groups: Sequence[Sequence[int]], color_space: str, in_channels: int = 3
    ) -> None:
        super().__init__(encoders[0].image_size, in_channels)
        if color_space not in COLOR_SPACES:
            raise UserError(f"unknown color space {color_space!r}; {nearest(color_space, list(COLOR_SPACES))}")
        if color_space == "lab" and in_channels < 3:
            raise UserError(f"Lab needs red, green and blue, and the images have {in_channels} channels; use rgb")
        self.encoders = nn.ModuleList(encoders)
        self.groups = tuple(tuple(group) for group in groups)
        self.color_space = color_space
        self.num_features = sum(encoder.num_features for encoder in encoders)
        self.map_channels = sum(encoder.map_channels for encoder in encoders)
        for name, values in self._constants().items():
            self.register_buffer(name, values, persistent=False)
        self.register_load_state_dict_post_hook(_restore_constants)

    def _constants(self, device: torch.device | None = None) -> dict[str, Tensor]:
        """What the channels are scaled and normalised by, (in_channels, 1, 1) each."""
        low, scale = torch.zeros(self.in_channels, device=device), torch.ones(self.in_channels, device=device)
        mean, deviation = torch.full_like(low, 0.5), torch.full_like(low, 0.25)
        if self.color_space == "lab":
            lab = torch.tensor((LAB_LOW, LAB_RANGE, LAB_MEAN, LAB_STD), device=device)
            low[:3], scale[:3] = lab[0], lab[1]
            mean[:3], deviation[:3] = (lab[2] - lab[0]) / lab[1], lab[3] / lab[1]
        constants = {"low": low, "scale": scale, "mean": mean, "deviation": deviation}
        return {name: values.view(-1, 1, 1) for name, values in constants.items()}

    def planes(self, images: Tensor) -> Tensor:
        """The channels that are split: (B, in_channels, H, W) images in [0, 1] -> the same shape, float32 in [0, 1].

        Of Lab, L / 100 and (a + 128) / 255, and b like a.
        """
        images = images.float()
        if self.color_space == "lab":
            images = torch.cat([_rgb_to_lab(images[:, :3]), images[:, 3:]], dim=1)
        return (images - self.low) / self.scale

    def images(self, planes: Tensor) -> Tensor:
        """The inverse of `planes`; colours outside of sRGB are cut to it."""
        images = planes * self.scale + self.low
        if self.color_space == "lab":
            images = torch.cat([ops.lab_to_rgb(images[:, :3].float()), images[:, 3:]], dim=1)
        return images

    def group_maps(self, images: Tensor) -> list[Tensor]:
        """The feature map of each group's encoder, (B, its map_channels, h, w)."""
        return [encoder.feature_map(part) for encoder, part in self._parts(images)]

    def feature_map(self, images: Tensor) -> Tensor:
        return torch.cat(self.group_maps(images), dim=1)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([encoder(part) for encoder, part in self._parts(images)], dim=1)

    def _parts(self, images: Tensor) -> list[tuple[Any, Tensor]]:
        """Each encoder with its normalised channels."""
        planes = ((self.planes(images) - self.mean) / self.deviation).to(images.dtype)
        return [(encoder, planes[:, list(group)]) for encoder, group in zip(self.encoders, self.groups, strict=True)]


def _restore_constants(backbone: nn.Module, _: Any) -> None:
    """No state dictionary holds the constants: a backbone made on the meta device has them when it has its weights."""
    assert isinstance(backbone, GroupedBackbone)
    device = next((parameter.device for parameter in backbone.parameters()), backbone.low.device)
    for name, values in backbone._constants(device).items():
        setattr(backbone, name, values.to(getattr(backbone, name).dtype))


def _rgb_to_lab(images: Tensor) -> Tensor:
    """(B, 3, H, W) float32 in [0, 1] to Lab; where the network is exported, in operations that other runtimes have."""
    if torch.compiler.is_exporting():
        return lab_formulas.rgb_to_lab(images).to(images.dtype)
    return ops.rgb_to_lab(images)
