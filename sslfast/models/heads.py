"""Heads: small networks on top of a backbone's pooled features."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from sslfast.errors import UserError


class Projector(nn.Module):
    """Multi-layer perceptron g(h) into the space of a contrastive loss (SimCLR, section 2.1).

    Every layer but the last is linear, batch norm, ReLU; the last one is linear and batch norm, as in the authors'
    code (the paper writes g(h) = W2 relu(W1 h)).

    Args:
        in_features: length of the pooled features.
        hidden_features: width of the hidden layers.
        out_features: length of the projection.
        num_layers: linear layers.
    """

    def __init__(self, in_features: int, hidden_features: int, out_features: int = 128, num_layers: int = 2) -> None:
        super().__init__()
        for name, value in (("out_features", out_features), ("num_layers", num_layers)):
            if value < 1:
                raise UserError(f"{name} of the projector is {value}; it must be at least 1")
        widths = [in_features, *[hidden_features] * (num_layers - 1), out_features]
        modules: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            # No bias: the batch norm behind it subtracts any.
            modules += [nn.Linear(width, next_width, bias=False), nn.BatchNorm1d(next_width), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*modules[:-1])

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_features) -> (B, out_features), not normalised. In training mode B must be at least 2."""
        return self.layers(features)


class Classifier(nn.Linear):
    """Linear classifier: (B, in_features) -> (B, num_classes) logits, initialised with weights N(0, 0.01) and no bias.

    Args:
        in_features: length of the pooled features.
        num_classes: classes, at least 2.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        if num_classes < 2:
            raise UserError(f"a classifier of {num_classes} classes; it needs at least 2")
        super().__init__(in_features, num_classes)
        # Small weights: the first predictions are nearly uniform, whatever the scale of the features.
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)
