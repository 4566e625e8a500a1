"""Colorization: lightness alone is seen, both losses written plainly, rebalancing, pictures, and learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sslfast import ops
from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError
from sslfast.losses import count_ab_bins, rebalancing_weights
from sslfast.methods import build
from sslfast.methods.colorization import Colorization


def colorization(**options: Any) -> Colorization:
    method = build("colorization", **{"backbone": "resnet10_narrow", **options})
    assert isinstance(method, Colorization)
    return method


def mean_color(images: Tensor, size: int) -> np.ndarray:
    """scikit-image's a and b, averaged over cells: (B, 2, size, size) float64."""
    lab = pytest.importorskip("skimage.color").rgb2lab(images.permute(0, 2, 3, 1).double().numpy())
    b, h, w, _ = lab.shape
    return lab[..., 1:].reshape(b, size, h // size, size, w // size, 2).mean(axis=(2, 4)).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("objective", ["classification", "regression"])
def test_lightness_alone_is_seen(objective: str, blobs: ImageBatch) -> None:
    """A gray image of the same lightness gives the same features and the same colours."""
    method = colorization(objective=objective).eval()
    views = method.views(blobs)
    gray = method.pictures(views)["gray"]
    assert not torch.allclose(gray, views.tensors[0], atol=0.1)
    assert float((gray.amax(dim=1) - gray.amin(dim=1)).max()) < 0.01
    with torch.no_grad():
        # Lightness of the rounded gray differs in the third decimal.
        torch.testing.assert_close(method.predict(gray), method.predict(views.tensors[0]), atol=2e-2, rtol=2e-2)
        torch.testing.assert_close(method.backbone(gray), method.backbone(views.tensors[0]), atol=2e-2, rtol=2e-2)
    assert [encoder.in_channels for encoder in method.backbone.encoders] == [1]
    assert method.backbone.in_channels == 3 and method.backbone.num_features == 256


def test_regression_is_half_the_squared_distance(blobs: ImageBatch) -> None:
    method = colorization(objective="regression").eval()
    views = method.views(blobs)
    with torch.no_grad():
        prediction = 15 * method.predict(views.tensors[0]).double().numpy()
        loss = float(method(views)["loss"])
    distance = ((prediction - mean_color(views.tensors[0], 16)) ** 2).sum(axis=1)
    assert loss == pytest.approx(distance.mean() / 2 / 15**2, rel=1e-4)


def test_classification_is_the_weighted_cross_entropy_with_soft_targets(blobs: ImageBatch) -> None:
    """Equations 2 and 3 written densely: 10 nearest bins, Gaussian with deviation 5, weighted by the likeliest bin."""
    method = colorization().eval()
    weights = torch.rand(313, generator=torch.Generator().manual_seed(0)) + 0.5
    assert method.classification.class_weights is not None
    method.classification.class_weights.copy_(weights)
    views = method.views(blobs)
    with torch.no_grad():
        log_p = method.predict(views.tensors[0]).double().log_softmax(dim=1).numpy()
        loss = float(method(views)["loss"])
    bins = ops.ab_bins().double().numpy()
    distance = ((mean_color(views.tensors[0], 16)[:, None] - bins[None, :, :, None, None]) ** 2).sum(axis=2)
    tenth = np.partition(distance, 9, axis=1)[:, 9:10]
    target = np.where(distance <= tenth, np.exp(-distance / (2 * 5**2)), 0)
    target /= target.sum(axis=1, keepdims=True)
    value = weights.double().numpy()[target.argmax(axis=1)]
    expected = -(value * (target * log_p).sum(axis=1)).mean()
    assert loss == pytest.approx(expected, rel=1e-3)


def test_rare_colours_are_weighed_by_what_was_seen(blobs: ImageBatch) -> None:
    """Counted in training mode alone; the weights follow at steps 1, 2, 4, 8, ..."""
    method = colorization()
    views = method.views(blobs)
    weights = method.classification.class_weights
    assert weights is not None and torch.equal(weights, torch.ones(313))
    counts = count_ab_bins(views.tensors, (16, 16))
    seen = []
    for step in range(1, 9):
        method(views)
        method.eval()(views)
        method.train()
        method.after_step(step, 8)
        seen.append(torch.equal(method.counts, step * counts))
        # Counts of the same images in other multiples have the same distribution.
        torch.testing.assert_close(weights, rebalancing_weights(counts))
        if step == 2:
            method.counts[150] += 10**6
            method.after_step(3, 8)
            torch.testing.assert_close(weights, rebalancing_weights(counts))
            method.after_step(4, 8)
            assert float(weights[150]) == pytest.approx(float(weights.min()))
            method.counts[150] -= 10**6
            method.after_step(4, 8)
    assert all(seen)
    common, rare = counts.argmax(), counts.argmin()
    assert weights[common] < weights[rare]


def test_weights_of_another_share_and_none_for_regression(blobs: ImageBatch) -> None:
    method = colorization(uniform=1.0)
    method(method.views(blobs))
    method.after_step(1, 1)
    assert method.classification.class_weights is not None
    torch.testing.assert_close(method.classification.class_weights, torch.ones(313))
    regression = colorization(objective="regression")
    regression(regression.views(blobs))
    regression.after_step(1, 1)
    assert not regression.counts.any()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("objective", ["classification", "regression"])
def test_pictures(objective: str, training: bool, blobs: ImageBatch) -> None:
    method = colorization(objective=objective).train(training)
    views = method.views(blobs)
    state = {name: value.clone() for name, value in method.state_dict().items()}
    pictures = method.pictures(views)
    assert list(pictures) == ["gray", "predicted", "truth"]
    for picture in pictures.values():
        assert picture.shape == (8, 3, 32, 32) and not picture.requires_grad
        assert 0.0 <= float(picture.min()) <= float(picture.max()) <= 1.0
    assert torch.equal(pictures["truth"], views.tensors[0])
    assert method.training is training
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())


@pytest.mark.parametrize("objective", ["classification", "regression"])
def test_pictures_show_the_colours_that_are_predicted(objective: str) -> None:
    """What is sure of an image of one colour paints it in that colour: its bin's, or its own."""
    image = torch.tensor([176, 104, 90], dtype=torch.uint8).expand(1, 32, 32, 3)
    method = colorization(objective=objective)
    views = method.views(ImageBatch.from_dense(image))
    lab = ops.rgb_to_lab(views.tensors[0])[:, :, :1, :1]
    color = lab[:, 1:]
    if objective == "classification":
        nearest = (ops.ab_bins() - color.view(1, 2)).square().sum(dim=1).argmin()
        color = ops.ab_bins()[nearest].view(1, 2, 1, 1)
        sure = 50 * functional.one_hot(nearest, 313).float().view(1, 313, 1, 1).expand(1, 313, 16, 16)
    else:
        sure = (color / 15).expand(1, 2, 16, 16)
    method.predict = lambda images: sure  # type: ignore[method-assign]
    expected = ops.lab_to_rgb(torch.cat([lab[:, :1], color], dim=1)).expand(1, 3, 32, 32)
    torch.testing.assert_close(method.pictures(views)["predicted"], expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize(("size", "side"), [(8, 8), (32, 16), (96, 24)])
def test_targets_are_a_quarter_of_the_image_and_at_least_16(size: int, side: int, blobs: ImageBatch) -> None:
    method = colorization(image_size=size)
    views = method.views(blobs)
    assert method.predict(views.tensors[0]).shape == (8, 313, side, side)
    assert torch.isfinite(method(views)["loss"])


@pytest.mark.parametrize("backbone", ["resnet10_narrow", "simplenet"])
@pytest.mark.parametrize("objective", ["classification", "regression"])
def test_a_few_steps_lower_the_loss(
    objective: str, backbone: str, blobs: ImageBatch, learn: Callable[..., list[float]]
) -> None:
    method = colorization(objective=objective, backbone=backbone, target_size=8)
    losses = learn(method, method.views(blobs), steps=25, learning_rate=3e-3)
    assert losses[-1] < 0.75 * losses[1]  # the weights are ones in the first step alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 1}, "the images have 1 channels; give it images of three channels"),
        ({"in_channels": 4}, "the images have 4 channels"),
        ({"objective": "regresion"}, "did you mean 'regression'"),
        ({"uniform": 0.0}, "uniform is 0; choose a share above 0"),
        ({"uniform": 1.5}, "uniform is 1.5"),
        ({"target_size": 33}, "target_size is 33; choose 1 to the image's side, 32"),
        ({"target_size": 0}, "target_size is 0"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        colorization(**options)
