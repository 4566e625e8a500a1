"""Embeddings of all ranks, with gradients that flow back to the rank they came from."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, distributed

from sslfast._torch import not_compiled
from sslfast.errors import UserError

NOTE_BYTES = 64  # of a shape and a dtype in words


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
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(grad)
        return grad.chunk(world_size())[rank()]


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all ranks, in the ranks' order.

    The gradient of a rank's rows is the sum of the gradients that all ranks' losses send to them; it has none itself.
    All ranks must call this, and run the backward pass, together.

    Args:
        rows: (B, ...) any dtype; the same shape and dtype on every rank.

    Returns:
        (world size * B, ...); `rows` itself where there is one rank.

    Raises:
        UserError: the ranks' shapes or dtypes differ; on every rank.
    """
    if world_size() == 1:
        return rows
    _check_same_on_every_rank(rows)
    return _GatherRows.apply(rows.contiguous())


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of the ranks' tensors of one shape, without gradient; `tensor` itself where there is one rank."""
    if world_size() > 1:
        tensor = tensor.clone()
        distributed.all_reduce(tensor)
    return tensor


@not_compiled
def _check_same_on_every_rank(rows: Tensor) -> None:
    """A collective of unequal sizes aborts, hangs or mixes up rows, so that the sizes go ahead of it.

    They go every time, because a rank whose own shape stays as it was cannot know that another's has changed; and from
    host to host, so that no GPU is waited for.
    """
    group = _host_group(distributed.group.WORLD)
    if group is None:
        return
    text = f"{tuple(rows.shape)} {rows.dtype}"
    note = torch.frombuffer(bytearray(text.encode().ljust(NOTE_BYTES)[:NOTE_BYTES]), dtype=torch.uint8)
    notes = [torch.empty_like(note) for _ in range(world_size())]
    distributed.all_gather(notes, note, group=group)
    shapes = [bytes(note.tolist()).decode().strip() for note in notes]
    if len(set(shapes)) > 1:
        found = "; ".join(
            f"{shape} on {', '.join(str(r) for r, other in enumerate(shapes) if other == shape)}"
            for shape in dict.fromkeys(shapes)
        )
        raise UserError(
            f"ranks gather tensors of different shapes (by rank: {found}); give every rank the same batch size, for "
            "example with DataLoader(drop_last=True), and the same model"
        )


@lru_cache(maxsize=1)
def _host_group(world: Any) -> Any:
    """A group of all ranks for tensors on the CPU; None where this torch has no gloo."""
    if "cpu:" in distributed.get_backend_config(world):
        return world
    return distributed.new_group(backend="gloo") if distributed.is_gloo_available() else None
