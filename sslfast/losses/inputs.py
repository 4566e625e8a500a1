"""What the losses share about their inputs: checks, precision."""

from __future__ import annotations

import torch
from torch import Tensor

from sslfast.errors import UserError
from sslfast.ops.nt_xent import FLOATING


def check_embeddings(loss: str, embeddings: dict[str, Tensor], dimensions: int | None = 2) -> None:
    """Raises UserError unless all tensors are batches of floats with one shape, dtype and device, and not empty.

    Args:
        loss: name of the loss, for the message.
        embeddings: the tensors by the names that the user knows.
        dimensions: number of dimensions, the first being the batch; any where None.
    """
    (first, reference), *_ = embeddings.items()
    for name, tensor in embeddings.items():
        if dimensions is not None and tensor.dim() != dimensions:
            raise UserError(
                f"{loss}: {name} must have {dimensions} dimensions, the batch first, got shape {tuple(tensor.shape)}; "
                "reshape it, for example with .flatten(1)"
            )
        if tensor.dtype not in FLOATING:
            raise UserError(f"{loss}: {name} must be a float tensor, got {tensor.dtype}; convert it with .float()")
        if tensor.numel() == 0:
            raise UserError(f"{loss}: {name} is empty, shape {tuple(tensor.shape)}; give at least one row")
        if tensor.shape != reference.shape:
            raise UserError(
                f"{loss}: {first} {tuple(reference.shape)} and {name} {tuple(tensor.shape)} must have the same shape: "
                "row b belongs to image b in both"
            )
        if tensor.dtype != reference.dtype:
            raise UserError(
                f"{loss}: {first} is {reference.dtype} and {name} is {tensor.dtype}; "
                f"convert one, for example {name}.to({first}.dtype)"
            )
        if tensor.device != reference.device:
            raise UserError(
                f"{loss}: {first} is on {reference.device} and {name} on {tensor.device}; move both to one with .to()"
            )


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


def at_least_float32(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 as float32, others as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
