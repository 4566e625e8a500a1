"""Batch norm whose statistics are those of all ranks."""

from __future__ import annotations

from torch import nn

from sslfast.methods import Method


def synchronise_batch_norm(method: Method, device: str, world_size: int) -> None:
    """Turns a method's batch norms into `torch.nn.SyncBatchNorm`, where the method wants it and torch has it.

    Parameters, buffers and the names of the state dictionary stay.

    Args:
        method: keeps its batch norms unless it has `synchronised_batch_norm`.
        device: kind of the ranks' devices; "cuda" alone has such batch norms.
        world_size: number of ranks; a single one keeps its batch norms.
    """
    if method.synchronised_batch_norm and device == "cuda" and world_size > 1:
        nn.SyncBatchNorm.convert_sync_batchnorm(method)
