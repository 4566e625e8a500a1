"""Frozen features: what they are, that they are extracted once, and that the backbone stays as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sslfast.augment import MultiView, ViewSpec
from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError
from sslfast.evaluate import Encoder, features
from sslfast.evaluate.features import evaluating


def test_are_the_backbone_in_eval_mode_on_the_test_view(encoder: Encoder):
    encoder.backbone.train()
    train, test = encoder.pooled
    assert encoder.backbone.training
    with torch.no_grad(), evaluating(encoder.backbone):
        expected = encoder.backbone(MultiView([encoder.view])(encoder.train).tensors[0])
    torch.testing.assert_close(train, expected)
    assert (train.shape, test.shape) == ((80, 12), (40, 12))
    assert train.dtype == torch.float32
    assert not train.requires_grad


def test_leave_the_backbone_untouched(encoder: Encoder):
    encoder.backbone.train()
    encoder.backbone.layers[1].eval()  # a part that its method keeps frozen
    before = {name: value.clone() for name, value in encoder.backbone.state_dict().items()}
    _ = encoder.pooled, encoder.map_means
    for name, value in encoder.backbone.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert encoder.backbone.training
    assert encoder.backbone.layers[0].training
    assert not encoder.backbone.layers[1].training


def test_modes_come_back_after_an_error(encoder: Encoder):
    encoder.backbone.train()
    with pytest.raises(RuntimeError, match="stop"), evaluating(encoder.backbone):
        raise RuntimeError("stop")
    assert encoder.backbone.layers[1].training


def test_are_extracted_once_in_batches_of_bounded_size(encoder: Encoder, monkeypatch):
    expected = encoder.pooled[0]
    sizes = []
    encoder.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    monkeypatch.setattr(features, "VIEW_PIXELS", 8 * 8 * 30)
    again = Encoder(encoder.backbone, encoder.view, encoder.train, encoder.test, classes=4)
    for _ in range(3):
        torch.testing.assert_close(again.pooled[0], expected)
    assert sizes == [30, 30, 20, 30, 10]


def test_a_view_larger_than_the_bound_is_taken_image_by_image(encoder: Encoder, monkeypatch):
    monkeypatch.setattr(features, "VIEW_PIXELS", 1)
    sizes = []
    encoder.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    assert len(encoder.pooled[1]) == 40
    assert set(sizes) == {1}


def test_images_of_mixed_sizes(encoder: Encoder):
    images = [torch.full((height, 9, 3), 100, dtype=torch.uint8) for height in (8, 11, 30)]
    mixed = ImageBatch.from_list(images, label=torch.tensor([0, 1, 2]))
    train, _ = Encoder(encoder.backbone, encoder.view, mixed, encoder.test, classes=4).pooled
    torch.testing.assert_close(train, train[:1].expand(3, -1))  # one gray is the same gray at any size


def test_low_precision_backbones_give_float32(encoder: Encoder):
    class Half(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3)).bfloat16()

    train, _ = Encoder(Half(), encoder.view, encoder.train, encoder.test, classes=4).pooled
    assert train.dtype == torch.float32


def test_a_backbone_that_keeps_positions_is_refused(encoder: Encoder):
    with pytest.raises(UserError, match=r"must be \(B, D\).*\(80, 3, 8, 8\)"):
        _ = Encoder(nn.Identity(), encoder.view, encoder.train, encoder.test, classes=4).pooled


def test_features_that_are_not_finite_name_the_cause(encoder: Encoder):
    with torch.no_grad():
        encoder.backbone.layers[3].bias[0] = float("nan")
    with pytest.raises(UserError, match=r"not finite.*diverged"):
        _ = encoder.pooled


def test_any_number_of_channels(encoder: Encoder):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (6, 8, 8, 5), dtype=torch.uint8, generator=generator)
    images = ImageBatch.from_dense(pixels, label=torch.arange(6) % 2)
    view = ViewSpec(size=8, mean=(0.5,), std=(0.25,))
    backbone = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    train, _ = Encoder(backbone, view, images, images, classes=2).pooled
    expected = (pixels.float().mean(dim=(1, 2)) / 255 - 0.5) / 0.25
    torch.testing.assert_close(train, expected, rtol=1e-4, atol=1e-4)
