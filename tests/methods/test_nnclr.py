"""NNCLR: the loss against the formula written plainly, the support set, what has a gradient, and learning."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sslfast.augment import Views
from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError
from sslfast.methods import Method, build


def nnclr(**options: object) -> Method:
    small = {"queue_size": 24, "projection_dim": 16, "hidden_dim": 32, "prediction_hidden_dim": 24}
    return build("nnclr", backbone="resnet10_narrow", **{**small, **options})


def _one_way(support: Tensor, projections: Tensor, predictions: Tensor, temperature: float) -> Tensor:
    """Equation 2: every neighbour against all predictions from the other view, in float64."""
    projections, predictions = (functional.normalize(z.double(), dim=1) for z in (projections, predictions))
    neighbours = torch.stack([max(support.double(), key=lambda entry, z=z: float(entry @ z)) for z in projections])
    return functional.cross_entropy(neighbours @ predictions.T / temperature, torch.arange(len(projections)))


@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_loss_is_the_paper_s(blobs: ImageBatch, temperature: float) -> None:
    method = nnclr(temperature=temperature)
    views = method.views(blobs)
    support = method.support_set.bank.clone()
    with torch.no_grad():
        first, second = (method.projector(method.backbone(view)) for view in views.tensors)
        expected = _one_way(support, first, method.predictor(second), temperature)
        expected = (expected + _one_way(support, second, method.predictor(first), temperature)) / 2
        output = method(views)
    assert float(output["loss"]) == pytest.approx(float(expected), rel=1e-5)
    assert 0 <= float(output["accuracy"]) <= 1 and -1 <= float(output["negative_similarity"]) <= 1


def test_the_support_set_holds_the_first_views(blobs: ImageBatch) -> None:
    """Three batches of eight fill it; the fourth replaces the first. Evaluation leaves it alone."""
    method = nnclr()
    expected = method.support_set.bank.clone()
    for epoch in range(4):
        views = method.views(blobs, epoch)
        place = epoch % 3 * 8
        with torch.no_grad():
            projections = method.projector(method.backbone(views.tensors[0]))
        expected[place : place + 8] = functional.normalize(projections, dim=1)
        method(views)
        torch.testing.assert_close(method.support_set.bank, expected)
    method.eval()(views)
    torch.testing.assert_close(method.support_set.bank, expected)


def test_neighbours_are_constants(blobs: ImageBatch) -> None:
    """The gradient flows through the predictions alone."""
    method = nnclr().double()
    method.support_set.float()
    views = method.views(blobs)
    views = Views([view.double() for view in views.tensors], views.params, views.index)
    support = method.support_set.bank.clone()
    first, second = (method.projector(method.backbone(view)) for view in views.tensors)
    expected = _one_way(support, first.detach(), method.predictor(second), 0.1)
    expected = (expected + _one_way(support, second.detach(), method.predictor(first), 0.1)) / 2
    parameters = list(method.parameters())
    wanted = torch.autograd.grad(expected, parameters)
    for got, want in zip(torch.autograd.grad(method(views)["loss"], parameters), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_mixed_precision(blobs: ImageBatch) -> None:
    method = nnclr()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method(method.views(blobs))["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(parameter.grad.isfinite().all() for parameter in method.parameters())


def test_the_heads_are_the_paper_s() -> None:
    method = build("nnclr", backbone="resnet10_narrow")
    names = [type(layer).__name__ for layer in method.projector.layers]
    assert names == (["Linear", "BatchNorm1d", "ReLU"] * 3)[:-1]
    assert [layer.out_features for layer in method.projector.layers[::3]] == [2048, 2048, 256]
    assert [layer.out_features for layer in method.predictor.layers[::3]] == [4096, 256]
    assert method.support_set.size == (16384, 256)
    assert build("nnclr", backbone="resnet10_narrow", image_size=96).support_set.size == (98304, 256)


def test_a_few_steps_lower_the_loss(blobs: ImageBatch, learn: Callable[..., list[float]]) -> None:
    method = nnclr(queue_size=8, temperature=0.5)
    losses = learn(method, method.views(blobs), steps=15, learning_rate=3e-3)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queue_size": 0}, "queue_size is 0"),
        ({"temperature": 0.0}, "temperature"),
        ({"projection_dim": 0}, "out_features of the projector is 0"),
        ({"prediction_hidden_dim": 0}, "hidden_features of the predictor is 0"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        nnclr(**options)
