"""Heads: small networks on top of a backbone's pooled features."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from sslfast.errors import UserError


class Projector(nn.Module):
    """Multi-layer perceptron g(h) into the space of a loss (SimCLR, section 2.1).

    Every layer but the last is linear, batch norm, ReLU; the last one is linear and batch norm, as in the authors'
    code (the paper writes g(h) = W2 relu(W1 h)), whose last batch norm scales and does not shift; this one does both.
    Other methods leave out some of the batch norms: MoCo v2 all of them, BYOL the last one. SimSiam's last one neither
    scales nor shifts.

    Args:
        in_features: length of the pooled features.
        hidden_features: width of the hidden layers.
        out_features: length of the projection.
        num_layers: linear layers.
        hidden_norm: batch norm behind every hidden linear layer.
        output_norm: batch norm behind the last linear layer.
        output_affine: whether that one scales and shifts.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        out_features: int = 128,
        num_layers: int = 2,
        hidden_norm: bool = True,
        output_norm: bool = True,
        output_affine: bool = True,
    ) -> None:
        super().__init__()
        sizes = {"hidden_features": hidden_features, "out_features": out_features, "num_layers": num_layers}
        for name, value in sizes.items():
            if value < 1:
                raise UserError(f"{name} of the {type(self).__name__.lower()} is {value}; it must be at least 1")
        widths = [in_features, *[hidden_features] * (num_layers - 1), out_features]
        modules: list[nn.Module] = []
        for layer, (width, next_width) in enumerate(pairwise(widths), start=1):
            norm = hidden_norm if layer < num_layers else output_norm
            # No bias in front of batch norm, which subtracts any.
            modules.append(nn.Linear(width, next_width, bias=not norm))
            if norm:
                modules.append(nn.BatchNorm1d(next_width, affine=layer < num_layers or output_affine))
            if layer < num_layers:
                modules.append(nn.ReLU(inplace=True))
        self.layers = nn.Sequential(*modules)

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_features) -> (B, out_features), not normalised. Batch norm needs B of 2 or more in training mode."""
        return self.layers(features)


class Predictor(Projector):
    """Two-layer perceptron q(z) from the projection of one view to that of another (BYOL, section 3.1).

    Linear, batch norm, ReLU, linear.

    Args:
        features: length of the projection and of its prediction.
        hidden_features: width of the hidden layer.
    """

    def __init__(self, features: int, hidden_features: int) -> None:
        super().__init__(features, hidden_features, features, output_norm=False)


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
