"""SupConLoss: contrastive loss with all embeddings of the same label as positives."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor, nn

from sslfast.errors import UserError
from sslfast.losses.distributed import gather_rows
from sslfast.losses.inputs import check_gather, check_labels
from sslfast.losses.negatives import own_columns
from sslfast.ops.checks import check_embeddings, check_temperature, check_tensors, tempered
from sslfast.ops.nt_xent import ContrastMetrics, negatives_logsumexp, similarity_rounding, unit_rows
from sslfast.ops.nt_xent_classes import logsumexp_and_largest_by_class


class SupConLoss(nn.Module):
    """Supervised contrastive loss (the paper's L_out), without the N x N matrix.

    With u the embeddings scaled to length 1, s(i, j) = u_i . u_j / temperature and P(i) the others of i's label,

        loss = mean over i of ( log of the sum over j != i of exp s(i, j) - mean over p in P(i) of s(i, p) )

    An embedding that is the only one of its label adds 0 to the mean, as in the authors' code. The similarities to
    positives are summed through class sums, u_i . (sum of the class), so that all beyond the log-sum-exp costs O(N d).

    With `gather_distributed` positives and negatives are those of all ranks; values and gradients are shared among
    ranks as in `NTXentLoss`.

    Args:
        temperature: divides the similarities; above 0; a tensor is learnt, as in `NTXentLoss`.
        gather_distributed: contrast with the embeddings of all ranks.

    Raises:
        UserError: a temperature that is not above 0.

    Source: Khosla et al. 2020 (Supervised Contrastive Learning), equation 2.
    """

    def __init__(self, temperature: float | Tensor = 0.1, gather_distributed: bool = False):
        super().__init__()
        check_temperature(temperature)
        check_gather(gather_distributed)
        self.temperature = temperature
        self.gather_distributed = gather_distributed

    @overload
    def forward(self, embeddings: Tensor, labels: Tensor | None = ..., metrics: Literal[False] = ...) -> Tensor: ...

    @overload
    def forward(
        self, embeddings: Tensor, labels: Tensor | None = ..., *, metrics: bool
    ) -> Tensor | tuple[Tensor, ContrastMetrics]: ...

    def forward(
        self, embeddings: Tensor, labels: Tensor | None = None, metrics: bool = False
    ) -> Tensor | tuple[Tensor, ContrastMetrics]:
        """The loss of one batch.

        Args:
            embeddings: (N, d), or (B, V, d) for V views of B images; float32, float64, float16 or bfloat16.
            labels: (N,) or (B,) whole numbers; None, for views only, makes every image a class of its own.
            metrics: also return how well the contrastive task is solved by this rank's embeddings. Accuracy is the
                share of those with a positive whose most similar other is one; similarities are the mean over all
                pairs of an embedding and a positive, or a negative. NaN where there is no such embedding or pair.

        Returns:
            Scalar, float32 (float64 for float64 embeddings); and `ContrastMetrics` where asked for.

        Raises:
            UserError: embeddings or labels of another shape or type.
        """
        check_tensors("SupConLoss", embeddings=embeddings)
        check_embeddings("SupConLoss", {"embeddings": embeddings}, 3 if embeddings.dim() == 3 else 2)
        if labels is None:
            if embeddings.dim() == 2:
                raise UserError("SupConLoss: embeddings (N, d) need labels (N,); or give the views as (B, V, d)")
            labels = own_columns(embeddings, self.gather_distributed)
        check_labels("SupConLoss", labels, embeddings)
        if embeddings.dim() == 3:
            labels = labels.repeat_interleave(embeddings.shape[1])
            embeddings = embeddings.flatten(0, 1)
        temperature = check_temperature(self.temperature)
        unit = tempered(unit_rows(embeddings), self.temperature, both_sides=True)
        keys, all_labels = unit, labels
        if self.gather_distributed:
            keys, all_labels = gather_rows(unit), gather_rows(labels)
        excluded = own_columns(unit, self.gather_distributed)
        _, all_classes, sizes = all_labels.unique(return_inverse=True, return_counts=True)
        classes = all_classes[excluded]
        given = None if keys is unit else keys
        if metrics:
            given_classes = None if given is None else all_classes.int()
            others, largest, largest_other = logsumexp_and_largest_by_class(
                unit, given, excluded[:, None], classes.int(), given_classes, temperature
            )
        else:
            others = negatives_logsumexp(unit, given, excluded[:, None], temperature)
        # 1 / |P(i)|, by class.
        weights = torch.where(sizes > 1, 1 / (sizes - 1).clamp_min(1).to(unit.dtype), 0)
        sums = class_sums(unit, classes, len(sizes))
        all_sums = sums if given is None else class_sums(keys, all_classes, len(sizes))
        # Of all similarities within a class, those of a row to itself are no positives.
        within, own = (sums * all_sums).sum(1), unit.square().sum(1)
        positives = (within * weights).sum() - (own * weights[classes]).sum()
        attracted = sizes[classes] > 1
        loss = (torch.where(attracted, others, 0).sum() - positives / temperature) / len(unit)
        if not metrics:
            return loss
        with torch.no_grad():
            solved = (largest > largest_other + similarity_rounding(unit)).to(unit.dtype)[attracted].mean()
            positive_pairs = (sizes[classes] - 1).sum()
            negative_pairs = len(unit) * len(keys) - sizes[classes].sum()
            between = (unit.sum(0) * keys.sum(0)).sum() - within.sum()
            positive = torch.where(positive_pairs > 0, (within.sum() - own.sum()) / positive_pairs, torch.nan)
            negative = torch.where(negative_pairs > 0, between / negative_pairs, torch.nan)
        return loss, ContrastMetrics(solved, positive, negative)


def class_sums(rows: Tensor, classes: Tensor, count: int) -> Tensor:
    """(count, d) sum of the rows (N, d) of each class, for classes (N,) in [0, count).

    Each class is summed in the order of its rows, so that two runs give equal bits on every device.
    """
    order = classes.argsort(stable=True)
    sizes = torch.bincount(classes, minlength=count)
    return torch.segment_reduce(rows[order], "sum", lengths=sizes, axis=0)
