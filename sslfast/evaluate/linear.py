"""Linear classification of frozen pooled features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sslfast.errors import UserError
from sslfast.evaluate.features import Encoder, standardised
from sslfast.evaluate.results import Scores, accuracy, ranks


def evaluate_linear(
    encoder: Encoder, subset: Tensor, inverse_regularisation: float = 1.0, max_iterations: int = 200
) -> Scores:
    """Multinomial logistic regression on the pooled features, each standardised to zero mean and unit deviation.

    The papers of the methods train the same classifier by SGD on crops and flips; this one sees each image once, as it
    is tested, and has neither learning rate nor epochs to choose.

    Args:
        encoder: gives the pooled features.
        subset: (n,) int64 positions of the training images; mean and deviation are theirs, too.
        inverse_regularisation: C of `fit_logistic_regression`.
        max_iterations: of L-BFGS.

    Raises:
        UserError: an option is not positive.
    """
    train, test = standardised(encoder.pooled[0][subset], encoder.pooled[1])
    weight, bias = fit_logistic_regression(
        train, encoder.train_labels[subset], encoder.classes, inverse_regularisation, max_iterations
    )
    return accuracy(ranks(test @ weight + bias, encoder.test_labels))


@torch.enable_grad()
def fit_logistic_regression(
    features: Tensor,
    labels: Tensor,
    classes: int,
    inverse_regularisation: float = 1.0,
    max_iterations: int = 200,
) -> tuple[Tensor, Tensor]:
    """Minimises  mean cross-entropy + ||weight||² / (2 C n)  by full-batch L-BFGS, from zero: the same fit every time.

    This is scikit-learn's `LogisticRegression(C)`, on the device of the features; the bias is not penalised.

    The features of a network are so correlated that L-BFGS would need many hundred iterations. Hence it is
    preconditioned: weight = T v, where T Tᵀ is the inverse of featuresᵀ features / (n classes) + 1 / (C n), the second
    derivative at zero up to a constant. The minimum stays where it is.

    Args:
        features: (n, D) float32.
        labels: (n,) int64 in [0, classes).
        classes: number of classes.
        inverse_regularisation: C > 0; larger fits the training data more closely.
        max_iterations: where L-BFGS stops if it has not converged.

    Returns:
        weight (D, classes) and bias (classes,), float32.

    Raises:
        UserError: C or the number of iterations is not positive.
    """
    if not inverse_regularisation > 0.0:
        raise UserError(f"inverse regularisation C = {inverse_regularisation:g}; give a number above 0 (1 by default)")
    if max_iterations < 1:
        raise UserError(f"logistic regression with {max_iterations} iterations; give 1 or more")
    count, width = features.shape
    penalty = 1.0 / (inverse_regularisation * count)
    transform = _preconditioner(features, classes, penalty)
    preconditioned = features @ transform
    v = features.new_zeros(width, classes, requires_grad=True)
    bias = features.new_zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [v, bias],
        max_iter=max_iterations,
        tolerance_grad=1e-5,
        tolerance_change=1e-9,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        weight = transform @ v
        loss = functional.cross_entropy(preconditioned @ v + bias, labels) + 0.5 * penalty * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(objective)
    return (transform @ v).detach(), bias.detach()


def _preconditioner(features: Tensor, classes: int, penalty: float) -> Tensor:
    """T of `fit_logistic_regression`, (D, D) float32: in its coordinates the objective is nearly round."""
    count, width = features.shape
    curvature = torch.zeros(width, width, dtype=torch.float64, device=features.device)
    for part in features.split(4096):
        curvature.addmm_(part.T.double(), part.double(), alpha=1.0 / (count * classes))
    # However small the penalty is, features that repeat one another leave something to invert.
    curvature.diagonal().add_(penalty + 1e-7 * curvature.diagonal().mean())
    return torch.linalg.inv(torch.linalg.cholesky(curvature)).T.to(features.dtype)
