"""Losses that are no contrastive ones, forward and backward, beside lightly's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.run import Case, Setup
from sslfast import losses

FULL = 2  # crops at full resolution


def cases(setup: Setup) -> Iterator[Case]:
    """Two full crops and six small ones, with the papers' prototypes of SwAV and a tenth of DINO's outputs."""
    scale = 4 if setup.device == "cuda" else 1
    yield _case(setup, "SwaVLoss", 256 * scale, 3000, _swav)
    yield _case(setup, "DINOLoss", 64 * scale, 6554, _dino)


def _case(setup: Setup, name: str, batch: int, dimension: int, step: Callable[[Any, list[Tensor]], Tensor]) -> Case:
    generator = torch.Generator().manual_seed(0)
    crops = [
        torch.randn(batch, dimension, generator=generator).div(4).to(setup.device).requires_grad_() for _ in range(8)
    ]

    def contender(loss: nn.Module) -> Callable[[], object]:
        loss = loss.to(setup.device)
        return lambda: torch.autograd.grad(step(loss, crops), crops)

    arguments = (dimension,) if name == "DINOLoss" else ()
    return Case(
        op=name,
        name=f"batch {batch}, dimension {dimension}, {len(crops)} crops, forward and backward, float32",
        unit="losses",
        count=1,
        contenders={
            "sslfast": lambda: contender(getattr(losses, name)(*arguments)),
            "lightly": lambda: contender(getattr(_lightly(), name)(*arguments)),
        },
        least_bytes=2.0 * 4 * len(crops) * batch * dimension,  # reads the scores and writes their gradients
        settings={"batch": batch, "dimension": dimension, "crops": len(crops)},
    )


def _swav(loss: Any, crops: list[Tensor]) -> Tensor:
    return loss(crops[:FULL], crops[FULL:]).sum()


def _dino(loss: Any, crops: list[Tensor]) -> Tensor:
    return loss([crop.detach() for crop in crops[:FULL]], crops, epoch=0)


def _lightly() -> Any:
    import lightly.loss

    return lightly.loss
