"""Rotation: views and labels against torch.rot90, the loss written plainly, and learning."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError
from sslfast.methods import build
from sslfast.methods.rotation import Rotation


@pytest.fixture(scope="module")
def batch() -> ImageBatch:
    """Images that are bright at the top, so that the rotation can be seen."""
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(1, 0, 32).view(1, 32, 1, 1)
    images = (0.7 * ramp + 0.3 * torch.rand(6, 32, 32, 3, generator=generator)).clamp(0, 1)
    return ImageBatch.from_dense((images * 255).byte())


@pytest.mark.parametrize("angles", [2, 4])
def test_views_are_the_rotations_of_the_first(batch: ImageBatch, angles: int) -> None:
    """View k is view 0 turned counter-clockwise by k steps; both share crop and flip."""
    views = build("rotation", backbone="resnet10_narrow", angles=angles).views(batch)
    assert len(views.tensors) == angles
    for k, view in enumerate(views.tensors):
        torch.testing.assert_close(view, torch.rot90(views.tensors[0], k * 4 // angles, dims=(2, 3)))
        assert views.column(k, "rotation").tolist() == pytest.approx([360 / angles * k] * len(batch))


def test_the_degrees_themselves_can_be_given(batch: ImageBatch) -> None:
    four = build("rotation", backbone="resnet10_narrow", angles=4).views(batch)
    method = build("rotation", backbone="resnet10_narrow", angles=[90, 270])
    views = method.views(batch)
    for view, angle in zip(views.tensors, (1, 3), strict=True):
        torch.testing.assert_close(view, four.tensors[angle], rtol=0, atol=0)
    assert method.classifier(torch.zeros(1, method.backbone.num_features)).shape == (1, 2)
    tilted = build("rotation", backbone="resnet10_narrow", angles=[0, 30])
    assert tilted.multi_view.specs[0].rotation_zoom == pytest.approx(2**0.5)
    for angles in ([90], [0, 360], [], 3):
        with pytest.raises(UserError, match="give"):
            build("rotation", backbone="resnet10_narrow", angles=angles)


def test_eight_angles_leave_no_black_corners() -> None:
    white = ImageBatch.from_dense(torch.full((2, 32, 32, 3), 255, dtype=torch.uint8))
    views = build("rotation", backbone="resnet10_narrow", angles=8).views(white)
    assert len(views.tensors) == 8
    for view in views.tensors:
        torch.testing.assert_close(view, views.tensors[0])


class Sees(nn.Module):
    """Stands in for a trained network: one-hot of the side at which a view is brightest."""

    def forward(self, images: Tensor) -> Tensor:
        top, bottom = images[:, :, :8].mean((1, 2, 3)), images[:, :, -8:].mean((1, 2, 3))
        left, right = images[..., :8].mean((1, 2, 3)), images[..., -8:].mean((1, 2, 3))
        return torch.stack([top, left, bottom, right], dim=1)  # 0, 90, 180, 270 degrees counter-clockwise


def test_labels_name_the_angle(batch: ImageBatch) -> None:
    """What sees the rotation gets everything right, so label k belongs to the rotation by k x 90 degrees."""
    method = build("rotation", backbone="resnet10_narrow")
    assert isinstance(method, Rotation)
    method.backbone, method.classifier = Sees(), nn.Identity()
    assert float(method(method.views(batch))["accuracy"]) == 1.0


@pytest.mark.parametrize("angles", [2, 4, 8])
def test_loss_is_the_cross_entropy_of_the_angles(batch: ImageBatch, angles: int) -> None:
    method = build("rotation", backbone="resnet10_narrow", angles=angles)
    views = method.views(batch)
    with torch.no_grad():
        result = method(views)
        logits = method.classifier(method.backbone(torch.cat(views.tensors))).double()
    expected, right = 0.0, 0
    for row, scores in enumerate(logits):
        label = row // len(batch)
        expected -= float(scores[label] - scores.exp().sum().log()) / len(logits)
        right += int(scores.argmax()) == label
    assert float(result["loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(result["accuracy"]) == pytest.approx(right / len(logits))


def test_a_few_steps_lower_the_loss(batch: ImageBatch) -> None:
    method = build("rotation", backbone="resnet10_narrow")
    optimizer = torch.optim.SGD(method.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for epoch in range(12):
        loss = method(method.views(batch, epoch))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
