"""What the losses check besides their embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from sslfast.errors import UserError


def check_labels(loss: str, labels: Tensor, embeddings: Tensor) -> None:
    """Raises UserError unless `labels` holds one whole number for each row of `embeddings`."""
    if labels.shape != embeddings.shape[:1]:
        raise UserError(
            f"{loss}: labels have shape {tuple(labels.shape)} and the embeddings {tuple(embeddings.shape)}; "
            f"give one label a row, shape ({len(embeddings)},)"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise UserError(f"{loss}: labels must be whole numbers, got {labels.dtype}; convert them with .long()")
    if labels.device != embeddings.device:
        raise UserError(f"{loss}: labels are on {labels.device}; move them with .to('{embeddings.device}')")


def check_gather(gather_distributed: bool) -> None:
    """Raises UserError where ranks shall be gathered by a torch that knows none."""
    if gather_distributed and not torch.distributed.is_available():
        raise UserError(
            "gather_distributed=True needs a torch built with distributed support; install one or set it to False"
        )


def check_positive(loss: str, **numbers: float) -> None:
    """Raises UserError unless every number is finite and above 0."""
    for name, number in numbers.items():
        if not 0 < number < float("inf"):
            raise UserError(f"{loss}: {name} is {number!r}; it must be a number above 0")
