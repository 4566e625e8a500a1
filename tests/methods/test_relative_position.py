"""Relative position: labels, the loss written plainly, dropped colours, pictures and learning."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError
from sslfast.methods import build
from sslfast.methods.relative_position import RelativePosition


def relative_position(**options: object) -> RelativePosition:
    method = build("relative_position", backbone="resnet10_narrow", **options)
    assert isinstance(method, RelativePosition)
    return method


class FirstPixel(nn.Module):
    """Stands in for the backbone: the number that a patch is filled with."""

    def forward(self, patches: Tensor) -> Tensor:
        return patches[:, :1, 0, 0]


class Sees(nn.Module):
    """Stands in for a trained network: tells, of the numbers of two patches, where the second lies."""

    def forward(self, pairs: Tensor) -> Tensor:
        assert (pairs[:, 0] == 4).all(), "the first patch is the central one"
        row, column = pairs[:, 1] // 3 - 1, pairs[:, 1] % 3 - 1
        compass = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
        return torch.stack([((row == y) & (column == x)).float() for y, x in compass], dim=1)


def test_labels_name_the_side(blobs: ImageBatch) -> None:
    """What sees the position gets everything right, so the classes are the eight sides, row by row."""
    method = relative_position()
    views = method.views(blobs)
    views.patches = torch.arange(9.0).view(1, 9, 1, 1, 1).expand(8, 9, 3, 8, 8)
    method.backbone, method.embedding, method.fusion = FirstPixel(), nn.Identity(), Sees()
    assert float(method(views)["accuracy"]) == 1.0


def test_patches_lie_where_the_grid_says(blobs: ImageBatch) -> None:
    method = relative_position(channel_drop=0.0)
    views = method.views(blobs)
    assert views.patches.shape == (8, 9, 3, 8, 8)
    image, offsets = views.tensors[0], views.drawn.offsets
    assert offsets.min() == 0 and offsets.max() == 2
    for b in range(8):
        for k in range(9):
            top, left = k // 3 * 11 + int(offsets[b, k, 0]), k % 3 * 11 + int(offsets[b, k, 1])
            assert torch.equal(views.patches[b, k], image[b, :, top : top + 8, left : left + 8])


def test_loss_is_the_cross_entropy_of_eight_positions(blobs: ImageBatch) -> None:
    method = relative_position()
    views = method.views(blobs)
    with torch.no_grad():
        result = method(views)
        features = method.embedding(method.backbone(views.patches.flatten(0, 1))).unflatten(0, (8, 9))
        pairs = [torch.cat([nine[4], nine[k]]) for nine in features for k in (0, 1, 2, 3, 5, 6, 7, 8)]
        logits = method.fusion(torch.stack(pairs)).double()
    expected = right = 0.0
    for pair, scores in enumerate(logits):
        label = pair % 8
        expected -= float(scores[label] - scores.exp().sum().log()) / 64
        right += (int(scores.argmax()) == label) / 64
    assert float(result["loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(result["accuracy"]) == pytest.approx(right)


@pytest.mark.parametrize(("probability", "coloured"), [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
def test_patches_keep_one_colour(blobs: ImageBatch, probability: float, coloured: float) -> None:
    method = relative_position(channel_drop=probability)
    patches = torch.cat([method.views(blobs, epoch).patches for epoch in range(4)]).flatten(0, 1)
    left = patches.abs().amax((2, 3)).ne(0).sum(1)
    assert set(left.tolist()) <= {1, 3}
    assert float((left == 3).float().mean()) == pytest.approx(coloured, abs=0.12)


def test_pictures_show_what_is_placed_where(blobs: ImageBatch) -> None:
    """A network that takes every neighbour for the next one moves them all by a place."""
    method = relative_position()
    views = method.views(blobs)

    class Next(nn.Module):
        def forward(self, pairs: Tensor) -> Tensor:
            return torch.eye(8).roll(1, dims=1).repeat(8, 1)

    method.fusion = Next()
    pictures = method.pictures(views)
    assert method.training
    expected = views.patches[:, [8, 0, 1, 2, 4, 3, 5, 6, 7]]
    assert torch.equal(pictures["placed"], method.picture(expected))
    assert torch.equal(pictures["patches"], method.picture(views.patches))
    assert pictures["patches"].shape == (8, 3, 27, 27)


def test_a_few_steps_lower_the_loss(blobs: ImageBatch, learn: Callable[..., list[float]]) -> None:
    method = relative_position()
    losses = learn(method, method.views(blobs), steps=8)
    assert losses[-1] < 0.7 * losses[0]


def test_size_of_the_paper() -> None:
    method = relative_position(image_size=398, patch_features=8, hidden_features=8)
    assert method.grid.channel_drop == 1.0 and relative_position().grid.channel_drop == 0.0
    assert (method.grid.patch, method.grid.stride, method.grid.jitter, method.grid.count) == (96, 144, 14, 9)
    large = relative_position(image_size=96)
    assert [large.embedding[0].layers[0].out_features, large.fusion[2].in_features] == [4096, 4096]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel_drop": 1.5}, "channel_drop is 1.5"),
        ({"hidden_features": 0}, "hidden_features of the projector is 0"),
        ({"image_size": 19}, "20 px or more"),
        ({"backbone": "swin_tiny_patch4_window7_224", "image_size": 64}, "cannot take patches of 15 px"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build("relative_position", **{"backbone": "resnet10_narrow", **options})
