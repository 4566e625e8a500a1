"""The negatives within a batch, of one rank or of all."""

from __future__ import annotations

import torch
from torch import Tensor

from sslfast.losses.distributed import gather_rows, rank
from sslfast.ops.nt_xent import ContrastMetrics, negatives_and_metrics


def own_columns(rows: Tensor, gather_distributed: bool) -> Tensor:
    """(N,) int64: where this rank's N rows stand among its keys, which are those of all ranks if gathered."""
    own = torch.arange(len(rows), device=rows.device)
    return own + rank() * len(rows) if gather_distributed else own


def pair_negatives(
    unit: Tensor, positives: Tensor, temperature: float, gather_distributed: bool, metrics: bool = False
) -> tuple[Tensor, ContrastMetrics | None]:
    """`negatives_and_metrics` of two stacked views (2B, d) of length 1: all embeddings but the row and its other view.

    Returns:
        (2B,), -inf for a single pair; and the metrics where asked for.
    """
    keys = gather_rows(unit) if gather_distributed else unit
    own = own_columns(unit, gather_distributed)
    excluded = torch.stack([own, own.roll(len(unit) // 2)], dim=1)
    # A batch that is its own keys computes each pair once.
    return negatives_and_metrics(unit, None if keys is unit else keys, excluded, positives, temperature, metrics)
