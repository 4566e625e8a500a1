"""DCLLoss and DCLWLoss: contrastive loss without the positive in its denominator."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from sslfast.errors import UserError
from sslfast.losses.distributed import world_size
from sslfast.losses.inputs import check_gather, check_positive
from sslfast.losses.negatives import pair_negatives
from sslfast.ops.checks import check_embeddings, check_temperature, tempered
from sslfast.ops.nt_xent import ContrastMetrics, contrast_of_views, pair_similarities, with_metrics
from sslfast.ops.nt_xent_contrast import unit_rows


class DCLLoss(nn.Module):
    """Decoupled contrastive loss; drop-in for lightly's class of this name, without the N x N matrix.

    With u the 2B embeddings scaled to length 1, s(i, j) = u_i . u_j / temperature and p(i) the other view of i,

        loss = mean over i of ( -w_i s(i, p(i)) + log of the sum over j not in {i, p(i)} of exp s(i, j) )

    With `gather_distributed` the negatives are those of all ranks; values and gradients are shared among ranks as in
    `NTXentLoss`.

    Args:
        temperature: divides the similarities; above 0; a tensor is learnt, as in `NTXentLoss`.
        weight_fn: takes both views, (B, d) of length 1, and returns the weights w of the first view's positives, (B,);
            called a second time with the views swapped. None for w = 1.
        gather_distributed: contrast with the embeddings of all ranks.

    Raises:
        UserError: a temperature that is not above 0.

    Source: Yeh et al. 2022 (Decoupled Contrastive Learning), equation 6.
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        weight_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
        gather_distributed: bool = False,
    ):
        super().__init__()
        check_temperature(temperature)
        check_gather(gather_distributed)
        self.temperature = temperature
        self.weight_fn = weight_fn
        self.gather_distributed = gather_distributed

    def forward(self, out0: Tensor, out1: Tensor, metrics: bool = False) -> Tensor | tuple[Tensor, ContrastMetrics]:
        """The loss of one batch.

        Args:
            out0: (B, d) float32, float64, float16 or bfloat16, projections of the first view, of any length.
            out1: (B, d) same dtype, projections of the second view.
            metrics: also return how well the contrastive task is solved, by this rank's rows.

        Returns:
            Scalar, float32 (float64 for float64 projections); and `ContrastMetrics` where asked for.

        Raises:
            UserError: projections that cannot be paired, a single pair (it has no negatives), or weights of another
                shape than (B,).
        """
        check_embeddings("DCLLoss", {"out0": out0, "out1": out1})
        if len(out0) * (world_size() if self.gather_distributed else 1) == 1:
            raise UserError("DCLLoss: a single pair has no negatives; give a batch of at least two")
        temperature = check_temperature(self.temperature)
        if self.gather_distributed and world_size() > 1:
            unit = tempered(unit_rows(torch.cat([out0, out1])), self.temperature, both_sides=True)
            positives = pair_similarities(unit)
            negatives, found = pair_negatives(unit, positives, temperature, True, metrics)
        else:
            positives, negatives, found = contrast_of_views(out0, out1, self.temperature, temperature, metrics)
        if self.weight_fn is not None:
            positives = positives * self._weights(unit_rows(out0), unit_rows(out1))
        return with_metrics(torch.sub(negatives, positives, alpha=1 / temperature).mean(), found)

    def _weights(self, unit0: Tensor, unit1: Tensor) -> Tensor:
        assert self.weight_fn is not None
        weights = self.weight_fn(unit0, unit1), self.weight_fn(unit1, unit0)
        for weight in weights:
            if weight.shape != unit0.shape[:1]:
                raise UserError(
                    f"DCLLoss: weight_fn returned shape {tuple(weight.shape)}; it must return one weight for each of "
                    f"the {len(unit0)} rows"
                )
        return torch.cat(weights)


class DCLWLoss(DCLLoss):
    """Decoupled contrastive loss that weights hard positives more; drop-in for lightly's class of this name.

    `DCLLoss` with w_i = 2 - exp(u_i . u_p(i) / sigma) / (mean of the same over the rank's batch), without gradient.

    Args:
        temperature: divides the similarities; above 0; a tensor is learnt, as in `NTXentLoss`.
        sigma: divides the similarities in the weights; above 0.
        gather_distributed: contrast with the embeddings of all ranks.

    Raises:
        UserError: a temperature or a sigma that is not above 0.

    Source: Yeh et al. 2022 (Decoupled Contrastive Learning), section 3.3.
    """

    def __init__(self, temperature: float | Tensor = 0.1, sigma: float = 0.5, gather_distributed: bool = False):
        check_positive("DCLWLoss", sigma=sigma)
        super().__init__(temperature, partial(negative_mises_fisher_weights, sigma=sigma), gather_distributed)


def negative_mises_fisher_weights(out0: Tensor, out1: Tensor, sigma: float = 0.5) -> Tensor:
    """(B,) weights of the positives of two views (B, d) of length 1, without gradient; they are 1 on average."""
    similarities = (out0.detach() * out1.detach()).sum(1)
    return 2 - len(out0) * torch.softmax(similarities / sigma, dim=0)
