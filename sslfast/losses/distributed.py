"""Embeddings of all ranks, with gradients that flow back to the rank they came from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def world_size() -> int:
    """Number of ranks; 1 without an initialised process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Number of this rank; 0 without an initialised process group."""
    return distributed.get_rank() if world_size() > 1 else 0


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        gathered = [torch.empty_like(rows) for _ in range(world_size())]
        distributed.all_gather(gathered, rows)
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(grad)
        return grad.chunk(world_size())[rank()]


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all ranks, in the ranks' order.

    The gradient of a rank's rows is the sum of the gradients that all ranks' losses send to them. Every rank must give
    the same shape, and all ranks must run the backward pass together.

    Args:
        rows: (B, d) any dtype.

    Returns:
        (world size * B, d); `rows` itself where there is one rank.
    """
    return rows if world_size() == 1 else _GatherRows.apply(rows.contiguous())
