"""Jigsaw: labels, the loss written plainly, what the normalisation of patches hides, pictures and learning."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sslfast.augment import grids
from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError
from sslfast.methods import build
from sslfast.methods.jigsaw import Jigsaw


def jigsaw(**options: object) -> Jigsaw:
    method = build("jigsaw", backbone="resnet10_narrow", **options)
    assert isinstance(method, Jigsaw)
    return method


def cells(count: int) -> ImageBatch:
    """Images whose nine cells of 10 px are gray, each brighter than the one before."""
    image = torch.zeros(32, 32, dtype=torch.uint8)
    image[:30, :30] = (20 * torch.arange(1, 10)).view(3, 3).repeat_interleave(10, 0).repeat_interleave(10, 1)
    return ImageBatch.from_dense(image.expand(count, 32, 32)[..., None].repeat(1, 1, 1, 3))


@pytest.mark.parametrize("channel_jitter", [0, 1])
def test_labels_name_the_order_of_the_patches(channel_jitter: int) -> None:
    method = jigsaw(permutations=64, channel_jitter=channel_jitter)
    views = method.views(cells(200))
    assert views.patches.shape == (200, 9, 3, 8, 8)
    brightness = views.patches.mean((3, 4), keepdim=True)
    torch.testing.assert_close(views.patches, brightness.expand_as(views.patches))
    shown = (
        brightness[:, :, 0, 0, 0].argsort(dim=1).argsort(dim=1)
    )  # rank of a patch's brightness: the cell that it came from
    assert shown.tolist() == [list(method.grid.arrangements[label]) for label in views.drawn.arrangement]
    assert len(views.drawn.arrangement.unique()) > 50


def test_loss_is_the_cross_entropy_of_the_permutation(blobs: ImageBatch) -> None:
    method = jigsaw()
    views = method.views(blobs)
    with torch.no_grad():
        result = method(views)
        patches = views.patches.double()
        mean, variance = patches.mean((3, 4), keepdim=True), patches.var((3, 4), correction=0, keepdim=True)
        patches = ((patches - mean) / (variance + 1e-5).sqrt()).float()
        features = torch.stack(list(method.backbone(patches.flatten(0, 1)).split(9)))  # (B, 9, D)
        joined = method.embedding(features.flatten(0, 1)).split(9)
        logits = method.solver(torch.stack([torch.cat(list(nine)) for nine in joined])).double()
    expected = right = 0.0
    for scores, label in zip(logits, views.drawn.arrangement.tolist(), strict=True):
        expected -= float(scores[label] - scores.exp().sum().log()) / len(logits)
        right += (int(scores.argmax()) == label) / len(logits)
    assert float(result["loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(result["accuracy"]) == pytest.approx(right)


def test_brightness_and_contrast_of_a_patch_tell_nothing(blobs: ImageBatch) -> None:
    """Each patch is normalised by itself; noise keeps the deviations far above the rounding."""
    torch.manual_seed(0)
    method = jigsaw().eval()
    patches = method.views(blobs).patches + torch.randn(8, 9, 3, 8, 8)
    scale, shift = 0.5 + torch.rand(8, 9, 3, 1, 1), torch.randn(8, 9, 3, 1, 1)
    torch.testing.assert_close(method.solve(patches * scale + shift), method.solve(patches), rtol=1e-3, atol=1e-4)


def test_order_matters(blobs: ImageBatch) -> None:
    method = jigsaw().eval()
    patches = method.views(blobs).patches
    assert not torch.allclose(method.solve(patches.flip(1)), method.solve(patches))


def test_pictures_put_the_patches_back(blobs: ImageBatch) -> None:
    method = jigsaw()
    views = method.views(blobs)
    right = nn.functional.one_hot(views.drawn.arrangement, 100).float()

    class Knows(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return right

    method.solver = Knows()
    pictures = method.pictures(views)
    assert method.training
    original = torch.stack(
        [patches[order.argsort()] for patches, order in zip(views.patches, views.drawn.order, strict=True)]
    )
    assert torch.equal(pictures["solved"], method.picture(original))
    assert torch.equal(pictures["puzzle"], method.picture(views.patches))
    assert not torch.equal(pictures["solved"], pictures["puzzle"])
    assert pictures["puzzle"].shape == (8, 3, 27, 27) and pictures["puzzle"].amin() >= 0


@pytest.mark.parametrize(("size", "permutations", "jitter", "hidden"), [(32, 100, 0, 1024), (96, 1000, 2, 4096)])
def test_defaults_follow_the_size(size: int, permutations: int, jitter: int, hidden: int) -> None:
    method = jigsaw(image_size=size)
    assert method.grid == grids.jigsaw(size, permutations)
    assert method.multi_view.channel_jitter == jitter
    assert (method.solver[2].in_features, method.solver[2].out_features) == (hidden, permutations)


def test_a_third_of_the_images_is_gray(blobs: ImageBatch) -> None:
    method = jigsaw()
    gray = torch.cat([method.views(blobs, epoch).column(0, "grayscale") for epoch in range(100)])
    assert float(gray.mean()) == pytest.approx(0.3, abs=0.05)


def test_a_few_steps_lower_the_loss(blobs: ImageBatch, learn: Callable[..., list[float]]) -> None:
    method = jigsaw(permutations=64)
    losses = learn(method, method.views(blobs), steps=8)
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"permutations": 0}, "jigsaw with 0 permutations"),
        ({"permutations": 1}, "a classifier of 1 classes"),
        ({"grayscale": 1.5}, "grayscale is 1.5"),
        ({"channel_jitter": -1}, "channel_jitter is -1"),
        ({"patch_features": 0}, "hidden_features of the projector is 0|out_features of the projector is 0"),
        ({"image_size": 5}, "6 px or more"),
        ({"backbone": "vit_tiny_patch16_224"}, "cannot take patches of 8 px .* choose a fully convolutional"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build("jigsaw", **{"backbone": "resnet10_narrow", **options})
