"""What the losses check besides their embeddings."""

from __future__ import annotations

import math
from numbers import Integral, Real

import torch
from torch import Tensor

from sslfast.errors import UserError
from sslfast.ops.checks import check_tensors


def check_labels(loss: str, labels: Tensor, embeddings: Tensor) -> None:
    """Raises UserError unless `labels` holds one whole number for each row of `embeddings`."""
    check_tensors(loss, labels=labels)
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
        if not (isinstance(number, Real) and 0 < number < math.inf):
            raise UserError(f"{loss}: {name} is {number!r}; it must be a number above 0")


def check_between(loss: str, least: float, most: float, **numbers: float) -> None:
    """Raises UserError unless every number is finite, `least` or more and `most` or less."""
    for name, number in numbers.items():
        if not (isinstance(number, Real) and math.isfinite(number) and least <= number <= most):
            limit = f"of {least} or more" if most == math.inf else f"from {least} to {most}"
            raise UserError(f"{loss}: {name} is {number!r}; it must be a number {limit}")


def check_whole(loss: str, least: int, **numbers: int) -> None:
    """Raises UserError unless every number is whole and `least` or more."""
    for name, number in numbers.items():
        if not (isinstance(number, Integral) and number >= least):
            raise UserError(f"{loss}: {name} is {number!r}; it must be a whole number of {least} or more")
