"""SimSiam: loss and gradient against equation 4 written plainly, the stop-gradient, and learning."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sslfast.augment import Views
from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError
from sslfast.methods import Method, build


def simsiam(**options: object) -> Method:
    return build("simsiam", backbone="resnet10_narrow", **{"projection_dim": 32, "prediction_hidden_dim": 8, **options})


def _distance(predictions: Tensor, projections: Tensor) -> Tensor:
    """Equation 1: minus the cosine, image by image."""
    pairs = zip(predictions, projections, strict=True)
    return -torch.stack([p @ z / (p.square().sum().sqrt() * z.square().sum().sqrt()) for p, z in pairs]).mean()


def _plain(method: Method, views: Views, stop_gradient: bool = True) -> Tensor:
    """Equation 4, or with gradients to the targets as well, equation 2."""
    z1, z2 = (method.projector(method.backbone(view)) for view in views.tensors)
    p1, p2 = method.predictor(z1), method.predictor(z2)
    if stop_gradient:
        z1, z2 = torch.tensor(z1.tolist(), dtype=z1.dtype), torch.tensor(z2.tolist(), dtype=z2.dtype)
    return _distance(p1, z2) / 2 + _distance(p2, z1) / 2


def _gradients(method: Method, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(method.parameters())))


def test_loss_and_gradient_are_the_paper_s(blobs: ImageBatch) -> None:
    method = simsiam().double()
    views = method.views(blobs)
    views = Views([view.double() for view in views.tensors], views.params, views.index)
    loss, expected = method(views)["loss"], _plain(method, views)
    torch.testing.assert_close(loss, expected)
    gradients = _gradients(method, loss)
    for gradient, value in zip(gradients, _gradients(method, expected), strict=True):
        torch.testing.assert_close(gradient, value)
    # The stop-gradient is what makes the difference.
    through = _gradients(method, _plain(method, views, stop_gradient=False))
    assert not all(torch.allclose(gradient, other) for gradient, other in zip(gradients, through, strict=True))


def test_loss_is_symmetric_in_the_views(blobs: ImageBatch) -> None:
    method = simsiam()
    views = method.views(blobs)
    swapped = Views(views.tensors[::-1], views.params[::-1], views.index)
    torch.testing.assert_close(method(views)["loss"], method(swapped)["loss"])


def test_the_predictor_s_learning_rate_is_constant() -> None:
    method = simsiam()
    encoder, predictor = method.players()["model"]
    assert predictor["constant_learning_rate"] and "constant_learning_rate" not in encoder
    assert list(map(id, predictor["params"])) == list(map(id, method.predictor.parameters()))
    everything = {id(parameter) for group in (encoder, predictor) for parameter in group["params"]}
    assert everything == set(map(id, method.parameters()))


@pytest.mark.parametrize(("image_size", "layers"), [(32, 2), (96, 3)])
def test_the_heads_are_the_paper_s(image_size: int, layers: int) -> None:
    method = build("simsiam", backbone="resnet10_narrow", image_size=image_size)
    names = [type(layer).__name__ for layer in method.projector.layers]
    assert names == (["Linear", "BatchNorm1d", "ReLU"] * layers)[:-1]
    # As in the authors' code, the last batch norm, and it alone, has no parameters, and biases stand in the last layer.
    affine = [layer.affine for layer in method.projector.layers if hasattr(layer, "affine")]
    assert affine == [True] * (layers - 1) + [False]
    assert [name for name, _ in method.predictor.named_parameters() if "bias" in name] == [
        "layers.1.bias",
        "layers.3.bias",
    ]
    assert [type(layer).__name__ for layer in method.predictor.layers] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    widths = [(layer.in_features, layer.out_features) for layer in method.predictor.layers[::3]]
    assert widths == [(2048, 512), (512, 2048)]


def test_a_few_steps_lower_the_loss(blobs: ImageBatch, learn: Callable[..., list[float]]) -> None:
    method = build("simsiam", backbone="resnet10_narrow")
    losses = learn(method, method.views(blobs))
    assert losses[0] > -0.1 and -1 <= losses[-1] < -0.6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prediction_hidden_dim": 0}, "hidden_features of the predictor is 0"),
        ({"projection_dim": 0}, "of the projector is 0"),
        ({"projector_layers": 0}, "num_layers of the projector is 0"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        simsiam(**options)
