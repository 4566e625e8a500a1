"""pytorch-metric-learning's contrastive losses: its call `(embeddings, labels)` and its results (version 2.9).

Similarities are cosines and the losses of pairs are averaged as by default there; other distances, reducers and
regularisers, given pairs and reference embeddings are refused. With several ranks a loss sees the embeddings of its own
only; `sslfast.losses.SupConLoss(gather_distributed=True)` sees all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sslfast import losses
from sslfast.compat.groups import positive_similarities
from sslfast.errors import UserError
from sslfast.losses.inputs import check_labels
from sslfast.ops.checks import check_embeddings, check_temperature, tempered
from sslfast.ops.nt_xent import negatives_logsumexp, unit_rows

__all__ = ["NTXentLoss", "SupConLoss"]


class NTXentLoss(nn.Module):
    """Every pair of equal labels against the negatives of its first embedding; memory grows with the largest class.

    With u the embeddings scaled to length 1, s(i, j) = u_i . u_j / temperature, and n the embeddings of other labels
    than i's,

        loss = mean over the pairs (i, p) of -log( exp s(i, p) / (exp s(i, p) + sum over n of exp s(i, n)) )

    The other positives are in no denominator. A batch without pairs, or without negatives, has loss 0. It holds
    arrays of N E numbers, with E the size of the largest class, and no N x N matrix.

    Args:
        temperature: above 0; a tensor is learnt, as in `sslfast.losses.NTXentLoss`.
        options: the library's others, such as reducer and distance; None only.

    Raises:
        UserError: a temperature that is not above 0, or an option that is not None.
    """

    def __init__(self, temperature: float | Tensor = 0.07, **options: Any) -> None:
        super().__init__()
        _refuse("NTXentLoss", **options)
        check_temperature(temperature)
        self.temperature = temperature

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: None = None,
        ref_emb: None = None,
        ref_labels: None = None,
    ) -> Tensor:
        """The loss of one batch.

        Args:
            embeddings: (N, d) float32, float64, float16 or bfloat16, of any length.
            labels: (N,) whole numbers.
            indices_tuple, ref_emb, ref_labels: None only.

        Returns:
            Scalar, float32 (float64 for float64 embeddings).

        Raises:
            UserError: embeddings or labels of another shape or type, or another argument that is not None.
        """
        _refuse("NTXentLoss", indices_tuple=indices_tuple, ref_emb=ref_emb, ref_labels=ref_labels)
        check_embeddings("NTXentLoss", {"embeddings": embeddings})
        check_labels("NTXentLoss", labels, embeddings)
        temperature = check_temperature(self.temperature)
        unit = tempered(unit_rows(embeddings), self.temperature, both_sides=True)
        similarities, positive, members = positive_similarities(unit, labels)
        negatives = negatives_logsumexp(unit, None, members, temperature)[:, None]
        terms = torch.logaddexp(negatives - similarities / temperature, torch.zeros_like(similarities))
        return torch.where(positive, terms, 0).sum() / positive.sum().clamp_min(1)


class SupConLoss(losses.SupConLoss):
    """`sslfast.losses.SupConLoss`, averaged over the embeddings that are not the only ones of their label.

    Args:
        temperature: above 0; a tensor is learnt, as in `sslfast.losses.NTXentLoss`.
        options: the library's others, such as reducer and distance; None only.

    Raises:
        UserError: a temperature that is not above 0, or an option that is not None.
    """

    def __init__(self, temperature: float | Tensor = 0.1, **options: Any) -> None:
        _refuse("SupConLoss", **options)
        super().__init__(temperature)

    def forward(  # type: ignore[override]
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: None = None,
        ref_emb: None = None,
        ref_labels: None = None,
    ) -> Tensor:
        """The loss of one batch; arguments, result and errors are those of `NTXentLoss`.

        A batch whose labels are all different, or all equal, has loss 0.
        """
        _refuse("SupConLoss", indices_tuple=indices_tuple, ref_emb=ref_emb, ref_labels=ref_labels)
        check_embeddings("SupConLoss", {"embeddings": embeddings})
        check_labels("SupConLoss", labels, embeddings)
        loss = super().forward(embeddings, labels)
        _, classes, sizes = labels.unique(return_inverse=True, return_counts=True)
        with_negatives = float(len(sizes) > 1)
        return with_negatives * loss * len(labels) / (sizes > 1)[classes].sum().clamp_min(1)


def _refuse(loss: str, **arguments: object) -> None:
    """Raises UserError for the library's arguments that are not taken here."""
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise UserError(
            f"{loss}: {', '.join(given)} is not supported here, cosines of one batch averaged as by default are; leave "
            "it out, or take the loss from pytorch_metric_learning"
        )
