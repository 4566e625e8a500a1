"""NTXentLoss: SimCLR's loss, and MoCo's with a memory bank."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sslfast.losses.distributed import world_size
from sslfast.losses.inputs import check_gather
from sslfast.losses.memory_bank import MemoryBankModule
from sslfast.losses.negatives import pair_negatives
from sslfast.ops.checks import check_embeddings, check_temperature, tempered
from sslfast.ops.info_nce import against
from sslfast.ops.nt_xent import (
    ContrastMetrics,
    contrast,
    of_checked_views,
    pair_similarities,
    with_metrics,
)
from sslfast.ops.nt_xent_contrast import unit_rows


class NTXentLoss(nn.Module):
    """Contrastive cross entropy; drop-in for lightly's class of this name, without the N x N matrix.

    Without a memory bank the negatives of an embedding are all others of the batch (`sslfast.ops.nt_xent`). With one,
    `out0` are the queries, `out1` their positives, and the negatives are the bank's entries; `out1` is stored
    afterwards where `out0` requires a gradient.

    With `gather_distributed`, each rank's loss is the mean over its own 2B rows, contrasted with the embeddings of all
    ranks. The gradient that a rank's embeddings receive is the sum over the losses of all ranks: world size times the
    gradient of the mean loss. DistributedDataParallel averages gradients over ranks, so that parameters receive exactly
    the gradient of one process holding the whole batch. Every rank must give the same batch size.

    Args:
        temperature: divides the similarities; above 0. A tensor of one element is learnt: a Parameter becomes the
            loss's own; what is computed anew in every step is assigned, `loss.temperature = 1 / logit_scale.exp()`.
        memory_bank_size: (entries, dim) of the memory bank; 0 for none.
        gather_distributed: contrast with, or store in the bank, the embeddings of all ranks.
        persistent: keep the memory bank in the state dictionary, as of `MemoryBankModule`; lightly does not.

    Raises:
        UserError: a temperature that is not above 0, or a memory bank size that is neither 0 nor (entries, dim).

    Source: Chen et al. 2020 (SimCLR), equation 1; He et al. 2020 (MoCo), equation 1.
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.5,
        memory_bank_size: int | Sequence[int] = 0,
        gather_distributed: bool = False,
        persistent: bool = False,
    ):
        super().__init__()
        check_temperature(temperature)
        check_gather(gather_distributed)
        self.temperature = temperature
        self.gather_distributed = gather_distributed
        self.memory_bank = MemoryBankModule(memory_bank_size, gather_distributed, False, persistent)

    def forward(self, out0: Tensor, out1: Tensor, metrics: bool = False) -> Tensor | tuple[Tensor, ContrastMetrics]:
        """The loss of one batch.

        Args:
            out0: (B, d) float32, float64, float16 or bfloat16, projections of the first view, of any length.
            out1: (B, d) same dtype, projections of the second view.
            metrics: also return how well the contrastive task is solved, by this rank's rows.

        Returns:
            Scalar, float32 (float64 for float64 projections); and `ContrastMetrics` where asked for.

        Raises:
            UserError: projections that cannot be paired, or of another dimension than the memory bank's.
        """
        check_embeddings("NTXentLoss", {"out0": out0, "out1": out1})
        if self.memory_bank.size[0] > 0:
            return self._with_memory_bank(out0, out1, metrics)
        if not (self.gather_distributed and world_size() > 1):
            return of_checked_views(out0, out1, self.temperature, metrics)
        temperature = check_temperature(self.temperature)
        unit = tempered(unit_rows(torch.cat([out0, out1])), self.temperature, both_sides=True)
        positives = pair_similarities(unit)
        negatives, found = pair_negatives(unit, positives, temperature, gather_distributed=True, metrics=metrics)
        return with_metrics(contrast(positives, negatives, temperature), found)

    def _with_memory_bank(
        self, queries: Tensor, positives: Tensor, metrics: bool
    ) -> Tensor | tuple[Tensor, ContrastMetrics]:
        update = queries.requires_grad and torch.is_grad_enabled()
        # The bank stores rows of length 1, and takes no gradient.
        stored = unit_rows(positives.detach()) if update else positives
        _, keys = self.memory_bank(stored, update=update)
        keys = keys.to(queries.device, torch.float64 if queries.dtype == torch.float64 else torch.float32)
        return against(queries, positives, keys, self.temperature, check_temperature(self.temperature), metrics)
