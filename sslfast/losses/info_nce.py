"""InfoNCELoss: each query finds its positive among given negatives, a queue, or the positives of the other queries."""

from __future__ import annotations

from torch import Tensor, nn

from sslfast.losses.distributed import gather_rows, world_size
from sslfast.losses.inputs import check_gather
from sslfast.losses.negatives import own_columns
from sslfast.ops.checks import check_embeddings, check_temperature
from sslfast.ops.info_nce import in_batch, info_nce, two_towers
from sslfast.ops.nt_xent import ContrastMetrics


class InfoNCELoss(nn.Module):
    """Contrastive cross entropy of queries and keys (`sslfast.ops.info_nce`), without the matrix of similarities.

    Without given negatives, those of query i are the positives of the other queries; with `gather_distributed` of all
    ranks, where values and gradients are shared as in `NTXentLoss`. The loss of two towers, images and texts, is the
    symmetric one. That of NNCLR has the neighbours of one view (`NNMemoryBankModule`) as queries, and the predictions
    from the other view as positives.

    Args:
        temperature: above 0; a tensor is learnt, as in `NTXentLoss`.
        gather_distributed: contrast with the positives of all ranks; given negatives are taken as they are.
        symmetric: contrast the positives with the queries as well; not with given negatives.

    Raises:
        UserError: a temperature that is not above 0.

    Source: van den Oord et al. 2018 (CPC), equation 4; He et al. 2020 (MoCo), equation 1; Radford et al. 2021 (CLIP),
        figure 3; Dwibedi et al. 2021 (NNCLR), equation 2.
    """

    def __init__(
        self, temperature: float | Tensor = 0.1, gather_distributed: bool = False, symmetric: bool = False
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        check_gather(gather_distributed)
        self.temperature = temperature
        self.gather_distributed = gather_distributed
        self.symmetric = symmetric

    def forward(
        self, queries: Tensor, positives: Tensor, negatives: Tensor | None = None, metrics: bool = False
    ) -> Tensor | tuple[Tensor, ContrastMetrics]:
        """The loss of one batch.

        Args:
            queries: (B, d) float32, float64, float16 or bfloat16, of any length.
            positives: (B, d) same dtype.
            negatives: (M, d) same dtype, shared by all queries, for example a queue.
            metrics: also return how well the contrastive task is solved, by this rank's rows.

        Returns:
            Scalar, float32 (float64 for float64 queries), differentiable by all three; and `ContrastMetrics` where
            asked for. A single query without given negatives has loss 0.

        Raises:
            UserError: queries, positives or negatives of another shape, dtype or device, or negatives for a symmetric
                loss.
        """
        if negatives is not None or not self.gather_distributed or world_size() == 1:
            return info_nce(queries, positives, negatives, self.temperature, self.symmetric, metrics=metrics)
        check_embeddings("InfoNCELoss", {"queries": queries, "positives": positives})
        temperature = check_temperature(self.temperature)
        query, positive = two_towers(queries, positives, self.temperature, self.symmetric)
        own = own_columns(query, gather_distributed=True)[:, None]
        back_keys = gather_rows(query) if self.symmetric else None
        return in_batch(query, positive, gather_rows(positive), back_keys, own, temperature, metrics)
