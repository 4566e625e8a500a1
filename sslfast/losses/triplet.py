"""TripletLoss: an anchor is nearer to its positive than to a negative that is mined within the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sslfast.errors import UserError
from sslfast.losses.inputs import check_labels, check_positive
from sslfast.ops.checks import check_embeddings
from sslfast.ops.nt_xent_contrast import unit_rows

# Similarities held at a time: 4 MB of float32, and about ten times that with what is sorted and masked.
CHUNK = 1 << 20


class TripletLoss(nn.Module):
    """Triplet margin loss with mining within the batch, without the N x N matrix of distances.

    With u the embeddings scaled to length 1 and d(i, j) = |u_i - u_j|^2 = 2 - 2 u_i . u_j,

        loss = mean over the mined triplets (a, p, n) of max(0, d(a, p) - d(a, n) + margin)

    - "hard": one triplet an anchor, of its farthest positive and its nearest negative.
    - "semihard": one triplet for each anchor and positive, of the nearest negative that is farther than the positive;
      where none is, of the farthest negative.

    Similarities are computed a few rows at a time. The loss is piecewise linear in them, so that the pass which mines
    the triplets yields the gradient too. Triplets are mined among the embeddings that are handed over: with several
    ranks, those of one.

    Args:
        margin: above 0, at most 4.
        mining: "hard" or "semihard".

    Raises:
        UserError: a margin out of its range, or another mining.

    Source: Schroff et al. 2015 (FaceNet), equations 3 and 4; Hermans et al. 2017, equation 5 (batch hard).
    """

    def __init__(self, margin: float = 0.2, mining: str = "semihard"):
        super().__init__()
        check_positive("TripletLoss", margin=margin)
        if margin > 4:
            raise UserError(f"TripletLoss: margin is {margin}; squared distances of unit vectors are at most 4")
        if mining not in MINING:
            raise UserError(f"TripletLoss: unknown mining {mining!r}; valid: {', '.join(map(repr, MINING))}")
        self.margin = margin
        self.mining = mining

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of one batch.

        Args:
            embeddings: (N, d) float32, float64, float16 or bfloat16, of any length.
            labels: (N,) whole numbers; embeddings with equal labels are positives of each other.

        Returns:
            Scalar, float32 (float64 for float64 embeddings), differentiable once. A batch without a triplet (all labels
            equal, or all different) has loss 0 and gradient 0.

        Raises:
            UserError: embeddings or labels of another shape or type.
        """
        check_embeddings("TripletLoss", {"embeddings": embeddings})
        check_labels("TripletLoss", labels, embeddings)
        return _Triplets.apply(unit_rows(embeddings), labels, self.margin, self.mining)


class _Triplets(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, unit: Tensor, labels: Tensor, margin: float, mining: str) -> Tensor:
        _, classes, sizes = labels.unique(return_inverse=True, return_counts=True)
        # Anchors have at least one positive and one negative.
        all_anchors = ((sizes > 1) & (sizes < len(unit)))[classes].nonzero().flatten()
        chunks = all_anchors.split(max(CHUNK // len(unit), 1)) if len(all_anchors) else ()
        total, count = unit.new_zeros(()), 0
        grad = torch.zeros_like(unit)
        with torch.autocast(unit.device.type, enabled=False):
            for anchors in chunks:
                similarities = unit[anchors] @ unit.T
                same = classes[anchors, None] == classes
                positive = same.scatter(1, anchors[:, None], False)
                row, near, far = MINING[mining](similarities, positive, same)
                # Of d(a, p) - d(a, n) + margin, in similarities.
                violation = 2 * (similarities[row, far] - similarities[row, near]) + margin
                total += violation.clamp_min(0).sum()
                count += len(violation)
                # Whole numbers: exact in any order of addition.
                slope = 2 * (violation > 0).to(unit.dtype)
                slopes = torch.zeros_like(similarities)
                slopes.index_put_((row, far), slope, accumulate=True)
                slopes.index_put_((row, near), -slope, accumulate=True)
                grad[anchors] += slopes @ unit
                grad += slopes.T @ unit[anchors]
        count = max(count, 1)
        ctx.save_for_backward(grad / count)
        return total / count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad_loss * grad, None, None, None


def hard_triplets(similarities: Tensor, positive: Tensor, same: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, positives and negatives (T,) of the triplets of "hard".

    Args:
        similarities: (R, N) of R anchors to all embeddings.
        positive: (R, N) bool, the anchors' positives, at least one each.
        same: (R, N) bool, the positives and the anchor itself; all others, at least one, are negatives.
    """
    farthest = similarities.masked_fill(~positive, torch.inf).argmin(1)
    nearest = similarities.masked_fill(same, -torch.inf).argmax(1)
    return torch.arange(len(similarities), device=similarities.device), farthest, nearest


def semihard_triplets(similarities: Tensor, positive: Tensor, same: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same of "semihard"."""
    negatives, columns = similarities.masked_fill(same, torch.inf).sort(dim=1)
    most = int(positive.sum(1).amax())
    values, near = similarities.masked_fill(~positive, -torch.inf).topk(most, dim=1)
    # The number of negatives that are farther than each positive: the last of them is the nearest.
    farther = torch.searchsorted(negatives, values)
    far = columns.gather(1, (farther - 1).clamp_min(0))
    row, k = values.isneginf().logical_not().nonzero(as_tuple=True)
    return row, near[row, k], far[row, k]


MINING = {"hard": hard_triplets, "semihard": semihard_triplets}
