"""Split-brain autoencoders: targets, the loss written plainly, groups of channels, pictures, and learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from sslfast import ops
from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError
from sslfast.methods import build
from sslfast.methods.split_brain import SplitBrain
from sslfast.models import GroupedBackbone


def split_brain(**options: Any) -> SplitBrain:
    method = build("split_brain", **{"backbone": "resnet10_narrow", **options})
    assert isinstance(method, SplitBrain)
    return method


def bins(values: np.ndarray, count: int, rescaled: bool) -> np.ndarray:
    """(B, h, w) in [0, 1] -> bins of equal width, image by image, value by value."""
    result = np.zeros(values.shape, dtype=np.int64)
    for image, row in zip(values, result, strict=True):
        low, high = (image.min(), image.max()) if rescaled else (0.0, 1.0)
        for place, value in np.ndenumerate(image):
            row[place] = min(count - 1, int((value - low) / (high - low) * count))
    return result


@pytest.fixture(scope="module")
def depth() -> ImageBatch:
    """Six channels: colour and depth."""
    generator = torch.Generator().manual_seed(1)
    return ImageBatch.from_dense(torch.randint(0, 256, (4, 32, 32, 6), dtype=torch.uint8, generator=generator))


@pytest.mark.parametrize("quantization", ["grid", "rescaled"])
@pytest.mark.parametrize("color_space", ["lab", "rgb"])
def test_targets_of_colour_images_are_those_of_the_op(color_space: str, quantization: str, blobs: ImageBatch) -> None:
    """And those of the rule for any channels, but for a mean on an edge."""
    method = split_brain(color_space=color_space, quantization=quantization)
    images = method.views(blobs).tensors[0]
    targets = method.targets(images)
    expected = ops.lab_quantize(images, (8, 8), quantization, color_space)
    assert all(torch.equal(a.squeeze(1), b) for a, b in zip(targets, expected, strict=True))
    cells = functional.adaptive_avg_pool2d(method.backbone.planes(images), 8).double().numpy()
    first, second, third = (
        bins(cells[:, c], count, quantization == "rescaled") for c, count in enumerate((100, 10, 10))
    )
    assert (targets[0][:, 0].numpy() != first).mean() < 0.02
    assert (targets[1][:, 0].numpy() != 10 * second + third).mean() < 0.02


@pytest.mark.parametrize("quantization", ["grid", "rescaled"])
@pytest.mark.parametrize(
    ("groups", "counts"), [(None, (3, 3)), ([[5], [0, 3]], (1, 1)), ([[4, 1], [2, 3, 0, 5]], (1, 4))]
)
def test_targets_of_other_channels(
    quantization: str, groups: list[list[int]] | None, counts: tuple[int, int], depth: ImageBatch
) -> None:
    """A channel by itself in 100 bins, a pair in 10 x 10, each channel of a larger group in 100."""
    method = split_brain(in_channels=6, quantization=quantization, channel_groups=groups)
    images = method.views(depth).tensors[0]
    means = images.double().numpy().reshape(4, 6, 8, 4, 8, 4).mean(axis=(3, 5))
    for group, target, count in zip(groups or [[0, 1, 2], [3, 4, 5]], method.targets(images), counts, strict=True):
        rescaled = quantization == "rescaled"
        if len(group) == 2:
            a, b = (bins(means[:, channel], 10, rescaled) for channel in group)
            expected = (10 * a + b)[:, None]
        else:
            expected = np.stack([bins(means[:, channel], 100, rescaled) for channel in group], axis=1)
        assert target.shape == expected.shape == (4, count, 8, 8)
        assert target.dtype == torch.int64
        assert (target.numpy() != expected).mean() < 0.01  # a mean on an edge, in float32


def test_a_flat_channel_is_in_one_bin() -> None:
    flat = ImageBatch.from_dense(torch.full((2, 32, 32, 4), 77, dtype=torch.uint8))
    method = split_brain(in_channels=4)
    assert all(not target.any() for target in method.targets(method.views(flat).tensors[0]))


@pytest.mark.parametrize(
    ("options", "groups", "space"),
    [
        ({}, ((0,), (1, 2)), "lab"),
        ({"color_space": "rgb"}, ((0,), (1, 2)), "rgb"),
        ({"in_channels": 2}, ((0,), (1,)), "rgb"),
        ({"in_channels": 4}, ((0, 1, 2), (3,)), "rgb"),
        ({"in_channels": 6, "color_space": "lab"}, ((0, 1, 2), (3, 4, 5)), "lab"),
        ({"in_channels": 5, "channel_groups": [[0, 1], [4]]}, ((0, 1), (4,)), "rgb"),
    ],
)
def test_the_backbone_is_two_halves(options: dict, groups: tuple, space: str) -> None:
    """Half-width encoders of the groups' channels, with features one after the other and no channel in common."""
    method = split_brain(**options)
    backbone = method.backbone
    assert isinstance(backbone, GroupedBackbone)
    assert (backbone.groups, backbone.color_space) == (groups, space)
    assert backbone.in_channels == options.get("in_channels", 3)
    assert backbone.num_features == backbone.map_channels == 256
    assert [(half.num_features, half.in_channels) for half in backbone.encoders] == [(128, len(g)) for g in groups]
    backbone.eval()
    images = torch.rand(2, backbone.in_channels, 32, 32)
    with torch.no_grad():
        features = backbone(images)
        assert features.shape == (2, 256)
        assert backbone.feature_map(images).shape == (2, 256, 2, 2)
        planes = (backbone.planes(images) - backbone.mean) / backbone.deviation
        first, second = (half(planes[:, list(g)]) for half, g in zip(backbone.encoders, groups, strict=True))
    torch.testing.assert_close(features, torch.cat([first, second], dim=1))


@pytest.mark.parametrize("options", [{}, {"color_space": "rgb", "quantization": "grid"}, {"in_channels": 6}])
def test_loss_is_the_cross_entropy_of_each_other_s_channels(
    options: dict, blobs: ImageBatch, depth: ImageBatch
) -> None:
    """Written plainly: the half that sees the second group scores the classes of the first, and the other way round."""
    method = split_brain(**options).eval()
    images = method.views(depth if options.get("in_channels") == 6 else blobs).tensors[0]
    with torch.no_grad():
        result = method(method.views(depth if options.get("in_channels") == 6 else blobs))
        maps = method.backbone.group_maps(images)
        expected = []
        for sees, target in zip((1, 0), method.targets(images), strict=True):
            scores = method.predictors[sees](maps[sees], (8, 8)).double()  # (B, 100 k, 8, 8), class by class
            predictions = target.shape[1]
            total = 0.0
            for k in range(predictions):
                part = scores[:, k::predictions]
                picked = part.gather(1, target[:, k : k + 1]).squeeze(1)
                total += float((part.exp().sum(dim=1).log() - picked).mean())
            expected.append(total / predictions)
    assert float(result["loss_first_group"]) == pytest.approx(expected[0], rel=1e-5)
    assert float(result["loss_second_group"]) == pytest.approx(expected[1], rel=1e-5)
    assert float(result["loss"]) == pytest.approx(sum(expected), rel=1e-5)


def test_no_half_sees_what_it_predicts(blobs: ImageBatch) -> None:
    """The gradient of the first group's scores comes from the second group's channels alone."""
    method = split_brain(color_space="rgb").eval()
    images = method.views(blobs).tensors[0].requires_grad_(True)
    for position, channels in enumerate(([1, 2], [0])):
        (gradient,) = torch.autograd.grad(method.logits(images)[position].square().sum(), images)
        assert [c for c in range(3) if gradient[:, c].any()] == channels


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("quantization", ["grid", "rescaled"])
@pytest.mark.parametrize("color_space", ["lab", "rgb"])
def test_pictures(color_space: str, quantization: str, training: bool, blobs: ImageBatch) -> None:
    """Colours of the targets are near the cells' colours: by half a bin, which for the grid of ab is 13."""
    method = split_brain(color_space=color_space, quantization=quantization).train(training)
    views = method.views(blobs)
    pictures = method.pictures(views)
    assert method.training is training
    assert list(pictures) == ["targets", "prediction"]
    for picture in pictures.values():
        assert picture.shape == (8, 3, 32, 32) and not picture.requires_grad
        assert 0.0 <= float(picture.min()) <= float(picture.max()) <= 1.0
        assert torch.equal(picture[:, :, ::4, ::4], picture[:, :, 3::4, 3::4])  # one colour a cell
    cells = functional.interpolate(functional.adaptive_avg_pool2d(views.tensors[0], 8), scale_factor=4)
    bound = 0.06 if quantization == "rescaled" else 0.12
    assert float((pictures["targets"] - cells).abs().mean()) < bound
    assert not torch.equal(pictures["targets"], pictures["prediction"])


def test_pictures_show_what_is_predicted(blobs: ImageBatch) -> None:
    """Halves that are sure of the targets paint the picture of the targets."""
    method = split_brain()
    images = method.views(blobs).tensors[0]
    sure = [functional.one_hot(target, 100).movedim(-1, 1).float() for target in method.targets(images)]
    method.logits = lambda images: sure  # type: ignore[method-assign]
    pictures = method.pictures(method.views(blobs))
    assert torch.equal(pictures["targets"], pictures["prediction"])


@pytest.mark.parametrize(("size", "side"), [(4, 1), (32, 8), (48, 12), (96, 12)])
def test_targets_have_12_positions_a_side_from_48_px_on(size: int, side: int, blobs: ImageBatch) -> None:
    method = split_brain(backbone="simplenet", image_size=size)
    views = method.views(blobs)
    assert all(target.shape == (8, 1, side, side) for target in method.targets(views.tensors[0]))
    assert torch.isfinite(method(views)["loss"])


@pytest.mark.parametrize(
    "options", [{}, {"backbone": "simplenet", "color_space": "rgb"}, {"backbone": "resnet18", "target_size": 12}]
)
def test_a_few_steps_lower_the_loss(options: dict, blobs: ImageBatch, learn: Callable[..., list[float]]) -> None:
    method = split_brain(**options)
    losses = learn(method, method.views(blobs), steps=30, learning_rate=3e-3)
    assert losses[-1] < 0.6 * losses[0]


def test_colour_from_depth_is_learned(learn: Callable[..., list[float]]) -> None:
    """Where one group says all about the other, the loss falls far below that of guessing."""
    generator = torch.Generator().manual_seed(0)
    color = torch.randint(0, 256, (8, 8, 8, 3), dtype=torch.uint8, generator=generator).repeat_interleave(4, 1)
    images = torch.cat([color, 255 - color], dim=3).repeat_interleave(4, 2)
    method = split_brain(backbone="simplenet", in_channels=6, quantization="grid")
    losses = learn(method, method.views(ImageBatch.from_dense(images)), steps=40, learning_rate=1e-2)
    assert losses[-1] < 0.5 * 2 * np.log(100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 1}, "the images have one; give it colour images"),
        ({"color_space": "hsv"}, "unknown color space 'hsv'; valid names: lab, rgb"),
        ({"quantization": "ab313"}, "unknown quantization 'ab313'; valid names: grid, rescaled"),
        ({"in_channels": 2, "color_space": "lab"}, "Lab needs red, green and blue, and the images have 2"),
        ({"target_size": 33}, "target_size is 33; choose 1 to the image's side, 32"),
        ({"target_size": 0}, "target_size is 0"),
        ({"channel_groups": [[0], [3]]}, "each channel 0 to 2 at most once"),
        ({"channel_groups": [[0], [0, 1]]}, "each channel 0 to 2 at most once"),
        ({"channel_groups": [[0], [1], [2]]}, "give two lists of channels"),
        ({"channel_groups": [[0], []]}, "give two lists of channels"),
        ({"channel_groups": [0, 1]}, "must be a list of lists of whole numbers"),
        ({"channel_groups": [["L"], ["a"]]}, "must be a list of lists of whole numbers"),
        ({"backbone": "conv9"}, "'conv9' comes in one width only"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_brain(**options)
