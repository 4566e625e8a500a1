"""InfoNCELoss: each query finds its positive among given negatives, a queue, or the positives of the other queries."""

from __future__ import annotations

from torch import Tensor, nn

from sslfast.errors import UserError
from sslfast.losses.distributed import gather_rows
from sslfast.losses.inputs import check_gather
from sslfast.losses.negatives import own_columns
from sslfast.ops.checks import check_embeddings, check_temperature
from sslfast.ops.nt_xent import contrast, negatives_logsumexp, unit_rows


class InfoNCELoss(nn.Module):
    """Contrastive cross entropy of queries and keys, without the matrix of similarities.

    With q, k and n the queries, positives and negatives scaled to length 1,

        loss = mean over i of -log( exp(q_i . k_i / t) / (exp(q_i . k_i / t) + sum over j of exp(q_i . n_j / t)) )

    Without given negatives, those of query i are the positives of the other queries; with `gather_distributed` of all
    ranks, where values and gradients are shared as in `NTXentLoss`. The symmetric loss of two towers is
    (loss(a, b) + loss(b, a)) / 2.

    Args:
        temperature: t, above 0.
        gather_distributed: contrast with the positives of all ranks; given negatives are taken as they are.

    Raises:
        UserError: a temperature that is not above 0.

    Source: van den Oord et al. 2018 (CPC), equation 4; He et al. 2020 (MoCo), equation 1.
    """

    def __init__(self, temperature: float = 0.1, gather_distributed: bool = False):
        super().__init__()
        check_temperature(temperature)
        check_gather(gather_distributed)
        self.temperature = temperature
        self.gather_distributed = gather_distributed

    def forward(self, queries: Tensor, positives: Tensor, negatives: Tensor | None = None) -> Tensor:
        """The loss of one batch.

        Args:
            queries: (B, d) float32, float64, float16 or bfloat16, of any length.
            positives: (B, d) same dtype.
            negatives: (M, d) same dtype, shared by all queries, for example a queue.

        Returns:
            Scalar, float32 (float64 for float64 queries), differentiable by all three. A single query without given
            negatives has loss 0.

        Raises:
            UserError: queries, positives or negatives of another shape, dtype or device.
        """
        check_embeddings("InfoNCELoss", {"queries": queries, "positives": positives})
        if negatives is not None:
            check_embeddings("InfoNCELoss", {"negatives": negatives})
            if negatives.shape[1] != queries.shape[1]:
                raise UserError(
                    f"InfoNCELoss: negatives {tuple(negatives.shape)} and queries {tuple(queries.shape)} must have the "
                    "same second dimension"
                )
            # Row 0 stands for all: the number of negatives is free.
            check_embeddings("InfoNCELoss", {"queries": queries[:1], "negatives": negatives[:1]})
        query, positive = unit_rows(queries), unit_rows(positives)
        own = own_columns(query, self.gather_distributed)[:, None]
        if negatives is not None:
            keys, excluded = unit_rows(negatives), own[:, :0]
        else:
            keys, excluded = gather_rows(positive) if self.gather_distributed else positive, own
        others = negatives_logsumexp(query, keys, excluded, self.temperature)
        return contrast((query * positive).sum(1), others, self.temperature)
