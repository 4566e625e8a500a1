"""BYOL: the loss against equation 2 in float64 numpy, the target network, the views, and learning."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from sslfast.augment import Views
from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError
from sslfast.methods import Method, build


def byol(**options: object) -> Method:
    return build("byol", backbone="resnet10_narrow", **{"hidden_dim": 64, "projection_dim": 16, **options})


def _distance(predictions: Tensor, targets: Tensor) -> float:
    """Equation 2: mean squared distance of unit vectors."""
    q, z = (values.numpy().astype(np.float64) for values in (predictions, targets))
    q, z = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (q, z))
    return float(((q - z) ** 2).sum(axis=1).mean())


def test_loss_is_the_paper_s(blobs: ImageBatch) -> None:
    method = byol()
    torch.nn.init.normal_(next(method.target.parameters()))  # the target differs from the online network
    views = method.views(blobs)
    with torch.no_grad():
        loss = float(method(views)["loss"])
        online = [method.predictor(method.projector(method.backbone(view))) for view in views.tensors]
        target = [method.target(view) for view in views.tensors]
    assert loss == pytest.approx(_distance(online[0], target[1]) + _distance(online[1], target[0]), rel=1e-5)
    assert 0 <= loss <= 8


def test_loss_is_symmetric_in_the_views(blobs: ImageBatch) -> None:
    method = byol()
    views = method.views(blobs)
    swapped = Views(views.tensors[::-1], views.params[::-1], views.index)
    torch.testing.assert_close(method(views)["loss"], method(swapped)["loss"])


def test_the_second_view_alone_is_solarized() -> None:
    batch = ImageBatch.from_dense(torch.randint(0, 256, (200, 40, 40, 3), dtype=torch.uint8))
    views = byol(image_size=32).views(batch)
    solarized = [float((views.column(view, "solarize_threshold") < 1).float().mean()) for view in (0, 1)]
    assert solarized[0] == 0 and 0.1 < solarized[1] < 0.3


def test_the_heads_are_the_paper_s() -> None:
    method = build("byol", backbone="resnet10_narrow")
    layers = ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert [type(layer).__name__ for layer in method.projector.layers] == layers
    assert [type(layer).__name__ for layer in method.predictor.layers] == layers
    widths = [
        (head.layers[0].out_features, head.layers[3].out_features) for head in (method.projector, method.predictor)
    ]
    assert widths == [(4096, 256), (4096, 256)]


def test_the_target_learns_by_momentum_alone(blobs: ImageBatch) -> None:
    """Three steps of three: the momentum is that of section 3.3, and no gradient reaches the target."""
    method = byol(momentum=0.9)
    expected = [parameter.double().clone() for parameter in method.target.parameters()]
    optimizer = torch.optim.SGD(method.parameters(), lr=0.5)
    for k in range(3):
        method(method.views(blobs, k))["loss"].backward()
        assert all(parameter.grad is None for parameter in method.target.parameters())
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(k + 1, 3)
        momentum = 1 - 0.1 * (math.cos(math.pi * k / 3) + 1) / 2
        online = [*method.backbone.parameters(), *method.projector.parameters()]
        expected = [
            momentum * old + (1 - momentum) * new.detach().double() for old, new in zip(expected, online, strict=True)
        ]
    for parameter, value in zip(method.target.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.double(), value, rtol=1e-5, atol=1e-6)


def test_a_few_steps_lower_the_loss(blobs: ImageBatch, learn: Callable[..., list[float]]) -> None:
    method = byol()
    losses = learn(method, method.views(blobs))
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": -0.1}, r"momentum of the momentum encoder is -0.1"),
        ({"hidden_dim": 0}, "hidden_features of the projector is 0"),
        ({"projection_dim": 0}, "out_features of the projector is 0"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        byol(**options)
