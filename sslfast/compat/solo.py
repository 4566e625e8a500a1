"""solo-learn's loss functions: its names, signatures and results (`solo.losses`, version 1.0.6).

Embeddings are of one dtype and device; results are float32 for low precision, float64 for float64. Where there are
several ranks, the functions gather what solo-learn's gather, and gradients are shared among ranks as in
`sslfast.losses.NTXentLoss`. What cannot be computed raises `sslfast.errors.UserError` where solo-learn returns NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sslfast.compat.groups import positive_similarities
from sslfast.errors import UserError
from sslfast.losses import BarlowTwinsLoss, InfoNCELoss, NegativeCosineSimilarity, VICRegLoss
from sslfast.losses import DINOLoss as ViewsDINOLoss
from sslfast.losses.distributed import gather_rows, world_size
from sslfast.losses.inputs import check_labels, check_positive
from sslfast.losses.negatives import own_columns
from sslfast.losses.swav import swapped_prediction
from sslfast.ops.checks import at_least_float32, check_embeddings, check_temperature, tempered
from sslfast.ops.nt_xent import negatives_logsumexp, unit_rows

__all__ = [
    "DINOLoss",
    "barlow_loss_func",
    "byol_loss_func",
    "mocov2plus_loss_func",
    "mocov3_loss_func",
    "nnclr_loss_func",
    "simclr_loss_func",
    "simsiam_loss_func",
    "swav_loss_func",
    "vicreg_loss_func",
]


def simclr_loss_func(z: Tensor, indexes: Tensor, temperature: float | Tensor = 0.1) -> Tensor:
    """SimCLR's loss of any number of views; its arrays hold N E numbers, with E the size of the largest class.

    Args:
        z: (N, d) projections of all views, of any length.
        indexes: (N,) whole numbers; projections with equal ones are positives of each other: the image's number, or
            its class. Their exponentials are summed inside the logarithm.
        temperature: above 0.

    Returns:
        Scalar.

    Raises:
        UserError: projections or indexes of another shape or type, or a projection without a positive.
    """
    check_embeddings("simclr_loss_func", {"z": z})
    check_labels("simclr_loss_func", indexes, z)
    number = check_temperature(temperature)
    unit = tempered(unit_rows(z), temperature, both_sides=True)
    keys, labels = gather_rows(unit), gather_rows(indexes)
    own = own_columns(unit, gather_distributed=True)
    similarities, positive, members = (part[own] for part in positive_similarities(keys, labels))
    if not bool(positive.any(1).all()):
        alone = int(indexes[positive.any(1).logical_not()][0])
        raise UserError(f"simclr_loss_func: index {alone} occurs once; give every image at least two views")
    positives = (similarities / number).masked_fill(~positive, -torch.inf).logsumexp(1)
    negatives = negatives_logsumexp(unit, None if keys is unit else keys, members, number)
    return torch.logaddexp(negatives - positives, torch.zeros_like(negatives)).mean()


def mocov2plus_loss_func(query: Tensor, key: Tensor, queue: Tensor, temperature: float | Tensor = 0.1) -> Tensor:
    """MoCo's loss, without the matrix of similarities.

    Args:
        query: (N, d) of length 1, as solo-learn's MoCo hands them over; other lengths are scaled to it.
        key: (N, d) of length 1, the positives.
        queue: (d, K) of columns of length 1, the negatives.
        temperature: above 0.

    Returns:
        Scalar.
    """
    return InfoNCELoss(temperature)(query, key, queue.T)


def mocov3_loss_func(query: Tensor, key: Tensor, temperature: float = 0.2) -> Tensor:
    """MoCo v3's loss: InfoNCE with the keys of all ranks, without gradient to the keys, times 2 temperature.

    Args:
        query: (N, d) of any length.
        key: (N, d), the positives; those of the other queries are the negatives.
        temperature: above 0.

    Returns:
        Scalar.
    """
    return _in_all_ranks(query, key.detach(), temperature) * 2 * temperature


def nnclr_loss_func(nn: Tensor, p: Tensor, temperature: float | Tensor = 0.1) -> Tensor:
    """NNCLR's loss: InfoNCE with the predictions of all ranks.

    Args:
        nn: (N, d) nearest neighbours of the embeddings of one view, of any length.
        p: (N, d) predictions from the other view; those of the other rows are the negatives.
        temperature: above 0.

    Returns:
        Scalar.
    """
    return _in_all_ranks(nn, p, temperature)


def _in_all_ranks(queries: Tensor, positives: Tensor, temperature: float | Tensor) -> Tensor:
    return InfoNCELoss(temperature, gather_distributed=world_size() > 1)(queries, positives)


def byol_loss_func(p: Tensor, z: Tensor, simplified: bool = True) -> Tensor:
    """BYOL's loss, 2 - 2 cos(p, z), without gradient to z.

    Args:
        p: (N, d) predictions from one view.
        z: (N, d) projections of the other by the momentum encoder.
        simplified: both ways of solo-learn have one result.

    Returns:
        Scalar in [0, 4].
    """
    return 2 + 2 * simsiam_loss_func(p, z, simplified)


def simsiam_loss_func(p: Tensor, z: Tensor, simplified: bool = True) -> Tensor:
    """SimSiam's loss, -cos(p, z), without gradient to z.

    Args:
        p: (N, d) predictions from one view.
        z: (N, d) projections of the other.
        simplified: both ways of solo-learn have one result.

    Returns:
        Scalar in [-1, 1].
    """
    return NegativeCosineSimilarity()(p, z.detach())


def barlow_loss_func(z1: Tensor, z2: Tensor, lamb: float = 5e-3, scale_loss: float = 0.025) -> Tensor:
    """Barlow Twins' loss times `scale_loss`, with the cross-correlation averaged over the ranks.

    Args:
        z1: (N, d) projections of the first view, N of 2 or more.
        z2: (N, d) projections of the second view.
        lamb: weight of the redundancy reduction.
        scale_loss: factor of the loss.

    Returns:
        Scalar.
    """
    return scale_loss * BarlowTwinsLoss(lamb, gather_distributed=world_size() > 1)(z1, z2)


def vicreg_loss_func(
    z1: Tensor,
    z2: Tensor,
    sim_loss_weight: float = 25.0,
    var_loss_weight: float = 25.0,
    cov_loss_weight: float = 1.0,
) -> Tensor:
    """VICReg's loss, with variance and covariance over all ranks; the variances of both views are added, not averaged.

    Args:
        z1: (N, d) projections of the first view, N of 2 or more.
        z2: (N, d) projections of the second view.
        sim_loss_weight, var_loss_weight, cov_loss_weight: of invariance, variance and covariance.

    Returns:
        Scalar.
    """
    gather = world_size() > 1
    return VICRegLoss(sim_loss_weight, 2 * var_loss_weight, cov_loss_weight, gather_distributed=gather)(z1, z2)


def swav_loss_func(preds: Sequence[Tensor], assignments: Sequence[Tensor], temperature: float = 0.1) -> Tensor:
    """SwAV's loss of given codes.

    Args:
        preds: one (N, K) a view, scores of the prototypes; at least two views.
        assignments: one (N, K) code for each of the first views.
        temperature: above 0.

    Returns:
        Scalar.

    Raises:
        UserError: fewer than two views, no code or more codes than views, or tensors that differ in shape, dtype or
            device.
    """
    if len(preds) < 2 or not 1 <= len(assignments) <= len(preds):
        raise UserError(
            f"swav_loss_func: {len(preds)} views and {len(assignments)} assignments; give at least two views, and one "
            "to as many assignments"
        )
    check_positive("swav_loss_func", temperature=temperature)
    named = {f"preds[{i}]": view for i, view in enumerate(preds)}
    check_embeddings("swav_loss_func", named | {f"assignments[{i}]": code for i, code in enumerate(assignments)})
    return swapped_prediction(torch.stack([at_least_float32(code) for code in assignments]), preds, temperature)


class DINOLoss(nn.Module):
    """DINO's loss, with the views of each network in one tensor and the epoch as an attribute.

    Args:
        num_prototypes: length K of the outputs.
        warmup_teacher_temp: teacher temperature in epoch 0.
        teacher_temp: teacher temperature after the warm-up.
        warmup_teacher_temp_epochs: epochs of the warm-up.
        num_epochs: epochs of the training; the temperature is constant after the warm-up.
        student_temp: above 0.
        num_large_crops: views of the student.
        center_momentum: share of the old center that stays.

    Attributes:
        epoch: the trainer sets it before every epoch; 0 at first.

    Raises:
        UserError: a temperature that is not above 0.
    """

    def __init__(
        self,
        num_prototypes: int,
        warmup_teacher_temp: float,
        teacher_temp: float,
        warmup_teacher_temp_epochs: int,
        num_epochs: int,
        student_temp: float = 0.1,
        num_large_crops: int = 2,
        center_momentum: float = 0.9,
    ):
        super().__init__()
        self.epoch = 0
        self.num_large_crops = num_large_crops
        self.loss = ViewsDINOLoss(
            num_prototypes,
            warmup_teacher_temp,
            teacher_temp,
            warmup_teacher_temp_epochs,
            student_temp,
            center_momentum,
        )

    @property
    def center(self) -> Tensor:
        """(1, K), as solo-learn has it."""
        return self.loss.center[0]

    def forward(self, student_output: Tensor, teacher_output: Tensor) -> Tensor:
        """The loss of one batch; moves the center.

        Args:
            student_output: (num_large_crops * B, K), one view after the other.
            teacher_output: (2 * B, K), the first two views; no gradient goes there.

        Returns:
            Scalar.
        """
        teacher = teacher_output.detach().chunk(2)
        return self.loss(teacher, student_output.chunk(self.num_large_crops), epoch=self.epoch)
