"""SwaVLoss: predict the cluster assignment of one crop from the other crops."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sslfast.errors import UserError
from sslfast.losses.distributed import gather_rows, sum_over_ranks
from sslfast.losses.inputs import check_gather, check_positive, check_whole
from sslfast.ops.checks import at_least_float32, check_embeddings
from sslfast.ops.nt_xent_contrast import in_one_op

# Rounds of Sinkhorn-Knopp between two with logarithms. In each a factor grows at most by B K, whatever the scores are:
# three stay far from the ends of float32, and what exp() flushed to 0 stays too small to be seen.
ROUNDS = 3

# Of an image's codes, in units of those of the image that is nearest to a prototype; its square is far from the end of
# float32.
LEAST_SUM = 1e-8

# Scores that are predicted from at a time: small crops together, for fewer calls; larger ones stay in a cache.
TOGETHER = 1 << 15


class SwaVLoss(nn.Module):
    """Swapped prediction between crops; drop-in for lightly's class of this name.

    With q_i the code of full-resolution crop i (`sinkhorn`, without gradient) and p_v = softmax(scores of crop v /
    temperature), the loss is the mean over i and all crops v != i of the cross entropy -q_i . log p_v.

    It is computed in float32 at least, and returned as a scalar (lightly returns a tensor of one element).

    Args:
        temperature: divides the scores of the prediction; above 0.
        sinkhorn_iterations: rounds of Sinkhorn-Knopp, 1 or more.
        sinkhorn_epsilon: divides the scores of the codes; above 0.
        sinkhorn_gather_distributed: spread the crops of all ranks evenly over the prototypes, instead of each rank's.

    Raises:
        UserError: an option out of its range.

    Source: Caron et al. 2020 (SwAV), equations 1 to 6.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        sinkhorn_iterations: int = 3,
        sinkhorn_epsilon: float = 0.05,
        sinkhorn_gather_distributed: bool = False,
    ):
        super().__init__()
        check_positive("SwaVLoss", temperature=temperature, sinkhorn_epsilon=sinkhorn_epsilon)
        check_whole("SwaVLoss", 1, sinkhorn_iterations=sinkhorn_iterations)
        check_gather(sinkhorn_gather_distributed)
        self.temperature = temperature
        self.sinkhorn_iterations = sinkhorn_iterations
        self.sinkhorn_epsilon = sinkhorn_epsilon
        self.sinkhorn_gather_distributed = sinkhorn_gather_distributed

    def forward(
        self,
        high_resolution_outputs: Sequence[Tensor],
        low_resolution_outputs: Sequence[Tensor],
        queue_outputs: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """The loss of one batch.

        Args:
            high_resolution_outputs: one (B, K) a full-resolution crop, its similarities to the K prototypes; float32,
                float64, float16 or bfloat16.
            low_resolution_outputs: one (B, K) a small crop; may be empty.
            queue_outputs: one (M, K) a full-resolution crop, similarities of stored features; they take part in the
                codes only.

        Returns:
            Scalar, float32 (float64 for float64 scores).

        Raises:
            UserError: fewer than two crops, no full-resolution crop, or scores that differ in shape, dtype or device.
        """
        crops = [*high_resolution_outputs, *low_resolution_outputs]
        self._check(high_resolution_outputs, crops, queue_outputs)
        return swapped_prediction(self._codes(high_resolution_outputs, queue_outputs), crops, self.temperature)

    @torch.no_grad()
    def _codes(self, high: Sequence[Tensor], queue: Sequence[Tensor] | None) -> Tensor:
        """(C, B, K) codes of the full-resolution crops."""
        joined = high if queue is None else [torch.cat(pair) for pair in zip(high, queue, strict=True)]
        options = self.sinkhorn_iterations, self.sinkhorn_epsilon, self.sinkhorn_gather_distributed
        if len({len(scores) for scores in joined}) == 1:
            return sinkhorn(torch.stack(list(joined)), *options)[:, : len(high[0])]
        return torch.stack([sinkhorn(scores, *options)[: len(high[0])] for scores in joined])

    @staticmethod
    def _check(high: Sequence[Tensor], crops: Sequence[Tensor], queue: Sequence[Tensor] | None) -> None:
        if len(high) == 0 or len(crops) < 2:
            raise UserError(
                f"SwaVLoss: {len(high)} full-resolution crops of {len(crops)}; give at least one, and two crops in all"
            )
        names = [f"high_resolution_outputs[{i}]" for i in range(len(high))]
        names += [f"low_resolution_outputs[{i}]" for i in range(len(crops) - len(high))]
        check_embeddings("SwaVLoss", dict(zip(names, crops, strict=True)))
        if queue is None:
            return
        if len(queue) != len(high):
            raise UserError(
                f"SwaVLoss: {len(queue)} queue_outputs for {len(high)} high_resolution_outputs; give one for each"
            )
        for i, stored in enumerate(queue):
            check_embeddings("SwaVLoss", {names[i]: high[i], f"queue_outputs[{i}]": stored}, same_rows=False)


def swapped_prediction(codes: Tensor, scores: Sequence[Tensor], temperature: float) -> Tensor:
    """Mean cross entropy of predicting each code from the scores of every other crop (equation 2).

    Args:
        codes: (C, B, K) of the first crops; float32 or float64.
        scores: one (B, K) a crop.
        temperature: divides the scores; above 0.
    """
    batch, pairs = codes.shape[1], len(codes) * (len(scores) - 1)
    all_codes = codes.sum(0, keepdim=True)
    # Every code but that of the crop itself: one cross entropy for all of them.
    others = codes.flip(0) if len(codes) == 2 else all_codes - codes
    together = max(1, TOGETHER // all_codes.numel())
    terms = []
    with torch.autocast(codes.device.type, enabled=False):
        for first in range(0, len(scores), together):
            crops = [at_least_float32(crop) for crop in scores[first : first + together]]
            stacked = crops[0][None] if len(crops) == 1 else torch.stack(crops)
            predicted = torch.log_softmax(stacked / temperature, dim=2)
            targets = others[first : first + together]
            if len(targets) < len(crops):
                targets = torch.cat([targets, all_codes.expand(len(crops) - len(targets), -1, -1)])
            terms.append(torch.dot(targets.flatten(), predicted.flatten()))
    total = terms[0] if len(terms) == 1 else torch.stack(terms).sum()
    return total / -(batch * pairs)


@torch.no_grad()
def sinkhorn(scores: Tensor, iterations: int = 3, epsilon: float = 0.05, gather_distributed: bool = False) -> Tensor:
    """Codes of a batch: soft assignments to prototypes that use all prototypes equally (equations 3 to 5).

    Sinkhorn-Knopp of any scores and epsilon: nothing overflows, and no prototype is left empty. The first round is on
    logarithms and makes every prototype's sum 1 or more; further ones multiply two vectors instead of the matrix.

    Args:
        scores: (..., B, K) similarities to the prototypes, of batches that do not concern each other.
        iterations: rounds, 1 or more.
        epsilon: divides the scores; above 0.
        gather_distributed: use all prototypes equally over the batches of all ranks.

    Returns:
        (..., B, K) float32 (float64 for float64 scores), rows that sum to 1, without gradient.
    """
    scores = at_least_float32(scores)
    logarithms = None
    with torch.autocast(scores.device.type, enabled=False):
        for done in range(0, iterations, ROUNDS):
            started = None if gather_distributed or done > 0 else _round_of_sums(scores, epsilon)
            if started is None:
                logarithms = scores / epsilon if logarithms is None else logarithms
                started = _round_of_logarithms(logarithms, gather_distributed)
            logarithms, codes, prototypes, images = started
            for _ in range(min(ROUNDS, iterations - done) - 1):
                sums = images.mT @ codes
                prototypes = (sum_over_ranks(sums) if gather_distributed else sums).reciprocal_()
                images = (codes @ prototypes.mT).reciprocal_()
            if done + ROUNDS < iterations:
                logarithms = logarithms + prototypes.log() + images.log()
    return codes.mul_(prototypes).mul_(images)


def _round_of_logarithms(logarithms: Tensor, gather_distributed: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One round on logarithms of codes (..., B, K); they and their exponentials, with prototypes' sums of 1 or more.

    Returns:
        logarithms and codes (..., B, K), and what they are yet to be multiplied by, of each prototype (..., 1, K) and
        of each image (..., B, 1).
    """
    sums = logarithms.logsumexp(-2, keepdim=True)
    if gather_distributed:
        sums = gather_rows(sums[None]).logsumexp(0)
    logarithms = logarithms - sums
    logarithms -= logarithms.amax(-1, keepdim=True)  # 0 or less; raises the prototypes' sums from 1
    codes = logarithms.exp()
    return logarithms, codes, codes.new_ones(()).expand_as(sums), codes.sum(-1, keepdim=True).reciprocal_()


def _round_of_sums(scores: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """The same with half the exponentials; None where an image is so far from all prototypes that digits are lost.

    Only a host that has the numbers can tell: on a CPU, outside of torch.compile.
    """
    if not in_one_op(scores):
        return None
    logarithms = (scores - scores.amax(-2, keepdim=True)).mul_(1 / epsilon)
    codes = logarithms.exp()
    prototypes = codes.sum(-2, keepdim=True).reciprocal_()
    images = codes @ prototypes.mT
    return (logarithms, codes, prototypes, images.reciprocal_()) if images.min() > LEAST_SUM else None
