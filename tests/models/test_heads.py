"""Heads: their layers, written plainly, and bad sizes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sslfast.errors import UserError
from sslfast.models import Classifier, Predictor, Projector


def _standardised(x: Tensor) -> Tensor:
    return (x - x.mean(dim=0)) / (x.var(dim=0, unbiased=False) + 1e-5).sqrt()


def test_projector_is_two_linear_layers_with_batch_norm() -> None:
    projector = Projector(6, 5, 4).double()
    first, second = (module.weight for module in projector.layers if isinstance(module, nn.Linear))
    h = torch.randn(7, 6, dtype=torch.float64)
    expected = _standardised(_standardised(h @ first.T).relu() @ second.T)
    torch.testing.assert_close(projector(h), expected)


@pytest.mark.parametrize("widths", [[(6, 4)], [(6, 5), (5, 4)], [(6, 5), (5, 5), (5, 4)]])
def test_projector_depth(widths: list[tuple[int, int]]) -> None:
    projector = Projector(6, 5, 4, num_layers=len(widths))
    linear = [module for module in projector.layers if isinstance(module, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == widths
    assert isinstance(projector.layers[-1], nn.BatchNorm1d)
    assert projector(torch.randn(3, 6)).shape == (3, 4)


def test_projector_without_batch_norm_is_a_plain_perceptron() -> None:
    projector = Projector(6, 5, 4, hidden_norm=False, output_norm=False).double()
    first, second = (module for module in projector.layers if isinstance(module, nn.Linear))
    h = torch.randn(7, 6, dtype=torch.float64)
    expected = (h @ first.weight.T + first.bias).relu() @ second.weight.T + second.bias
    torch.testing.assert_close(projector(h), expected)
    linear = Projector(6, 5, 4, num_layers=1, output_norm=False).double()
    torch.testing.assert_close(linear(h), h @ linear.layers[0].weight.T + linear.layers[0].bias)


def test_the_last_batch_norm_may_have_no_parameters() -> None:
    norms = [layer for layer in Projector(6, 5, 4, 3, output_affine=False).layers if isinstance(layer, nn.BatchNorm1d)]
    assert [norm.affine for norm in norms] == [True, True, False]
    assert [norm.affine for norm in Projector(6, 5, 4, 3).layers[1::3]] == [True, True, True]


def test_predictor_keeps_the_length_and_normalises_its_hidden_layer() -> None:
    predictor = Predictor(6, 3).double()
    first, second = (module for module in predictor.layers if isinstance(module, nn.Linear))
    assert first.bias is None
    z = torch.randn(7, 6, dtype=torch.float64)
    expected = _standardised(z @ first.weight.T).relu() @ second.weight.T + second.bias
    torch.testing.assert_close(predictor(z), expected)


def test_classifier_starts_nearly_uniform() -> None:
    torch.manual_seed(0)
    classifier = Classifier(512, 4)
    assert not classifier.bias.any()
    probabilities = classifier(torch.randn(100, 512)).softmax(dim=1)
    assert (probabilities - 0.25).abs().max() < 0.2


def test_bad_sizes() -> None:
    with pytest.raises(UserError, match="out_features of the projector is 0"):
        Projector(6, 5, 0)
    with pytest.raises(UserError, match="hidden_features of the predictor is 0"):
        Predictor(6, 0)
    with pytest.raises(UserError, match="num_layers of the projector is 0"):
        Projector(6, 5, 4, num_layers=0)
    with pytest.raises(UserError, match="1 classes"):
        Classifier(6, 1)
