"""NT-Xent of raw embeddings, forward and backward, beside lightly's loss and the formula written in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.run import Case, Setup
from sslfast.losses import NTXentLoss

TEMPERATURE = 0.5
Loss = Callable[[Tensor, Tensor], Tensor]


def cases(setup: Setup) -> Iterator[Case]:
    """Batches of a small, a usual and a large run; dimension 128, the projector's usual output."""
    for batch in (1024, 4096, 16384) if setup.device == "cuda" else (512, 4096):
        yield contrastive_case(setup, batch, dimension=128)


def contrastive_case(setup: Setup, batch: int, dimension: int) -> Case:
    generator = torch.Generator().manual_seed(0)
    z0, z1 = (torch.randn(batch, dimension, generator=generator).to(setup.device).requires_grad_() for _ in range(2))
    rows = 2 * batch
    return Case(
        op="nt_xent",
        name=f"batch {batch}, dimension {dimension}, forward and backward, float32",
        unit="losses",
        count=1,
        contenders={
            "sslfast": lambda: _step(NTXentLoss(TEMPERATURE), z0, z1),
            "lightly": lambda: _step(_lightly(), z0, z1),
            "pytorch": lambda: _step(_plain, z0, z1),
        },
        least_bytes=2 * 4 * rows * dimension,
        # Half of the symmetric similarities, and their product with the embeddings for the gradient. Storing nothing,
        # sslfast computes the similarities a second time.
        least_flops=3.0 * rows * rows * dimension,
        settings={"batch": batch, "dimension": dimension, "temperature": TEMPERATURE},
    )


def _step(loss: Loss, z0: Tensor, z1: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(loss(z0, z1), (z0, z1))


def _lightly() -> Loss:
    from lightly.loss import NTXentLoss as LightlyNTXentLoss

    return LightlyNTXentLoss(TEMPERATURE)


def _plain(z0: Tensor, z1: Tensor) -> Tensor:
    z = functional.normalize(torch.cat([z0, z1]), dim=1)
    similarity = (z @ z.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    positive = torch.arange(len(z), device=z.device).roll(len(z0))
    return functional.cross_entropy(similarity, positive)
