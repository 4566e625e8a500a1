"""Backbones: shapes, stems, the paper's layers, and names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sslfast.errors import UserError
from sslfast.models import Backbone, Conv9, build_backbone


@pytest.mark.parametrize(
    ("name", "size", "features", "map_shape"),
    [
        ("resnet18", 32, 512, (512, 4, 4)),
        ("resnet18", 224, 512, (512, 7, 7)),
        ("resnet50", 32, 2048, (2048, 4, 4)),
        ("resnet10_narrow", 32, 256, (256, 2, 2)),
        ("resnet10_narrow", 64, 256, (256, 4, 4)),
        ("resnet10_narrow", 96, 256, (256, 3, 3)),
        ("conv9", 32, 160, (10, 8, 8)),
        ("conv9", 33, 160, (10, 9, 9)),
        ("conv9", 8, 160, (10, 2, 2)),
        ("nin", 32, 192, (192, 8, 8)),
        ("nin", 21, 192, (192, 6, 6)),
        ("simplenet", 32, 256, (256, 8, 8)),
        ("simplenet", 96, 256, (256, 12, 12)),
        ("simplenet", 224, 256, (256, 28, 28)),
        ("resnet34", 32, 512, (512, 4, 4)),  # timm's, with the CIFAR stem
        ("resnet50_gn", 32, 2048, (2048, 4, 4)),  # group norm behind the CIFAR stem
        ("resnet10t", 64, 512, (512, 2, 2)),  # timm's, with timm's own stem
        ("vit_tiny_patch16_224", 64, 192, (192, 4, 4)),  # tokens become a map
        ("swin_tiny_patch4_window7_224", 64, 768, (768, 2, 2)),  # channels last inside
        ("mobilenetv3_small_050", 64, 1024, (288, 2, 2)),  # pooled features are longer than the map's channels
    ],
)
def test_shapes(name: str, size: int, features: int, map_shape: tuple[int, int, int]) -> None:
    backbone = build_backbone(name, size).eval()
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        assert backbone(images).shape == (2, features)
        assert backbone.feature_map(images).shape == (2, *map_shape)
    assert (backbone.num_features, backbone.map_channels) == (features, map_shape[0])


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet10_narrow", "nin", "simplenet"])
def test_pooled_features_are_the_mean_of_the_map(name: str) -> None:
    backbone = build_backbone(name).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), backbone.feature_map(images).mean(dim=(2, 3)))


def test_cifar_stem_up_to_64_pixels() -> None:
    small, large = (build_backbone("resnet18", size).network for size in (64, 65))
    assert (small.conv1.kernel_size, small.conv1.stride, small.conv1.padding) == ((3, 3), (1, 1), (1, 1))
    assert small.conv1.bias is None
    assert not any(isinstance(module, nn.MaxPool2d) for module in small.modules())
    assert (large.conv1.kernel_size, large.conv1.stride) == ((7, 7), (2, 2))
    assert isinstance(large.maxpool, nn.MaxPool2d)


def test_large_resnet_is_torchvision_s() -> None:
    """The same parameters, name by name, as torchvision's ResNet-18 without its classifier."""
    torchvision = pytest.importorskip("torchvision")
    expected = {n: p.shape for n, p in torchvision.models.resnet18().state_dict().items() if not n.startswith("fc.")}
    assert {n: p.shape for n, p in build_backbone("resnet18", 224).network.state_dict().items()} == expected


def test_conv9_is_the_list_of_the_report() -> None:
    """Kernel, channels and stride of each layer, each with batch norm and ReLU."""
    expected = [
        (3, 96, 1),
        (3, 96, 1),
        (3, 96, 2),
        (3, 192, 1),
        (3, 192, 1),
        (3, 192, 2),
        (3, 192, 1),
        (1, 192, 1),
        (1, 10, 1),
    ]
    layers = list(build_backbone("conv9").layers)
    found = []
    for convolution, norm, activation in layers:
        assert (
            isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and isinstance(activation, nn.ReLU)
        )
        assert convolution.padding == ((1, 1) if convolution.kernel_size == (3, 3) else (0, 0))
        found.append((convolution.kernel_size[0], convolution.out_channels, convolution.stride[0]))
    assert found == expected


def test_conv9_pools_to_four_by_four() -> None:
    backbone = Conv9(32).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        feature_map = backbone.feature_map(images)
        expected = feature_map.view(2, 10, 4, 2, 4, 2).mean(dim=(3, 5)).flatten(1)
        torch.testing.assert_close(backbone(images), expected)


@pytest.mark.parametrize("channels", [1, 4, 16])
@pytest.mark.parametrize("name", ["resnet18", "resnet10_narrow", "conv9", "simplenet", "vit_tiny_patch16_224"])
def test_channels(name: str, channels: int) -> None:
    backbone = build_backbone(name, 32, in_channels=channels).eval()
    with torch.no_grad():
        assert backbone(torch.randn(1, channels, 32, 32)).shape == (1, backbone.num_features)


@pytest.mark.parametrize("size", [32, 96])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet10_narrow", "simplenet"])
def test_half_width_halves_every_layer(name: str, size: int) -> None:
    whole, half = (build_backbone(name, size, width=width) for width in (1.0, 0.5))
    assert (half.num_features, half.map_channels) == (whole.num_features // 2, whole.map_channels // 2)
    halved = {n: [s // 2 if s > 15 else s for s in p.shape] for n, p in whole.named_parameters()}
    assert {n: list(p.shape) for n, p in half.named_parameters()} == halved
    with torch.no_grad():
        assert half.eval()(torch.randn(1, 3, size, size)).shape == (1, half.num_features)


@pytest.mark.parametrize("name", ["simplenet", "resnet34"])
def test_a_backbone_is_built_again_for_other_channels(name: str) -> None:
    backbone = build_backbone(name, 40)
    again = backbone.rebuilt(in_channels=2)
    assert (type(again), again.name, again.image_size, again.in_channels) == (type(backbone), name, 40, 2)
    assert again.num_features == backbone.num_features


def test_what_cannot_be_built_again_says_why() -> None:
    with pytest.raises(UserError, match=r"this Conv9 cannot be built again.*give the method the backbone's name"):
        Conv9(32).rebuilt(in_channels=1)
    for name in ("conv9", "resnet34"):
        with pytest.raises(UserError, match=f"'{name}' comes in one width only; choose one of resnet18, .*simplenet"):
            build_backbone(name).rebuilt(in_channels=1, width=0.5)
    with pytest.raises(UserError, match="width is 0"):
        build_backbone("resnet18", width=0.0)


@pytest.mark.parametrize("name", ["resnet10_narrow", "conv9", "simplenet"])
def test_building_leaves_it_in_training_mode_with_fresh_statistics(name: str) -> None:
    backbone = build_backbone(name)
    for module in backbone.modules():
        assert module.training
        if isinstance(module, nn.BatchNorm2d):
            assert int(module.num_batches_tracked) == 0 and not module.running_mean.any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", "did you mean .*'resnet18'"),
        ("conv8", "'conv9'"),
        ("vit_tiny_patch16_24", "'vit_tiny_patch16_224'"),
        ("zzzzzz", "valid names: resnet18, .*timm.list_models"),
        ("no_such_package:Net", "cannot load"),
        ("collections:OrderedDict", "must give an sslfast.models.Backbone|cannot"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_backbone(name)


@pytest.mark.parametrize(
    ("name", "size", "channels", "message"),
    [
        ("resnet18", 32, 0, "in_channels is 0"),
        ("resnet18", 32, 17, "in_channels is 17"),
        ("conv9", 0, 3, "image_size is 0"),
        ("resnet18", -3, 3, "image_size is -3"),
        ("vit_tiny_patch16_224", 8, 3, "8 px"),
    ],
)
def test_bad_arguments(name: str, size: int, channels: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_backbone(name, size, channels)


def test_a_backbone_without_methods_says_so() -> None:
    images = torch.zeros(1, 3, 8, 8)
    for call in (Backbone(8), Backbone(8).feature_map):
        with pytest.raises(TypeError, match="Backbone must define"):
            call(images)
