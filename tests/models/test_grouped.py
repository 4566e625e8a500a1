"""GroupedBackbone: each encoder sees its own channels, in RGB or in scikit-image's Lab."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from sslfast.errors import UserError
from sslfast.models import Backbone, GroupedBackbone, build_backbone


class Mean(Backbone):
    """Its feature map is the image, its features are the channels' means."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(8, in_channels)
        self.num_features = self.map_channels = in_channels

    def feature_map(self, images: Tensor) -> Tensor:
        return images

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


def grouped(groups: Sequence[Sequence[int]], color_space: str, in_channels: int = 3) -> GroupedBackbone:
    return GroupedBackbone([Mean(len(group)) for group in groups], groups, color_space, in_channels)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_lab_planes_are_those_of_scikit_image(images: Tensor) -> None:
    color = pytest.importorskip("skimage.color")
    lab = color.rgb2lab(images.permute(0, 2, 3, 1).double().numpy())
    expected = (lab - [0, -128, -128]) / [100, 255, 255]
    backbone = grouped([[0], [1, 2]], "lab")
    planes = backbone.planes(images)
    np.testing.assert_allclose(planes.permute(0, 2, 3, 1).numpy(), expected, atol=1e-4)
    torch.testing.assert_close(backbone.images(planes), images, atol=5e-3, rtol=0)
    # What the encoders see: L less 50 in units of 25, a and b in units of 15.
    normalised = (lab - [50, 0, 0]) / [25, 15, 15]
    np.testing.assert_allclose(backbone.feature_map(images).permute(0, 2, 3, 1).numpy(), normalised, atol=2e-3)


def test_each_encoder_sees_its_group(images: Tensor) -> None:
    backbone = grouped([[2, 0], [1]], "rgb")
    maps = backbone.group_maps(images)
    normalised = (images - 0.5) / 0.25
    torch.testing.assert_close(maps[0], normalised[:, [2, 0]])
    torch.testing.assert_close(maps[1], normalised[:, [1]])
    torch.testing.assert_close(backbone.feature_map(images), torch.cat(maps, dim=1))
    torch.testing.assert_close(backbone(images), torch.cat([m.mean(dim=(2, 3)) for m in maps], dim=1))
    assert backbone.num_features == backbone.map_channels == 3
    torch.testing.assert_close(backbone.images(backbone.planes(images)), images)


def test_channels_behind_lab_stay_as_they_are() -> None:
    images = torch.rand(2, 5, 8, 8)
    backbone = grouped([[0, 1, 2], [4]], "lab", in_channels=5)
    planes = backbone.planes(images)
    torch.testing.assert_close(planes[:, 3:], images[:, 3:])
    torch.testing.assert_close(planes[:, :3], grouped([[0, 1, 2]], "lab").planes(images[:, :3]))
    torch.testing.assert_close(backbone.images(planes), images, atol=5e-3, rtol=0)


def test_the_exported_network_has_operations_of_torch_alone(images: Tensor) -> None:
    encoders = [build_backbone("simplenet", 8, channels, width=0.1) for channels in (1, 2)]
    backbone = GroupedBackbone(encoders, [[0], [1, 2]], "lab").eval()
    program = torch.export.export(backbone, (images,))
    assert not [node for node in program.graph.nodes if "sslfast" in str(node.target)]
    torch.testing.assert_close(program.module()(images), backbone(images), atol=1e-3, rtol=1e-3)


def test_bad_arguments() -> None:
    with pytest.raises(UserError, match="Lab needs red, green and blue, and the images have 2 channels"):
        grouped([[0], [1]], "lab", in_channels=2)
    with pytest.raises(UserError, match="unknown color space 'lba'; did you mean 'lab'"):
        grouped([[0], [1]], "lba")
