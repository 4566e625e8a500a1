from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sslfast.augment import Views
from sslfast.data.batch import ImageBatch
from sslfast.methods import Method


@pytest.fixture(scope="module")
def blobs() -> ImageBatch:
    """Eight images of coloured blobs, something to tell images apart by, in four classes."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(8, 3, 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(0, 1)
    return ImageBatch.from_dense((images * 255).byte().permute(0, 2, 3, 1), label=torch.arange(8) % 4)


@pytest.fixture
def learn() -> Callable[..., list[float]]:
    """Trains a method on the same views for some steps, as the loop does, and returns the losses."""

    def run(method: Method, views: Views, steps: int = 10, learning_rate: float = 1e-3) -> list[float]:
        optimizer = torch.optim.AdamW(method.parameters(), lr=learning_rate)
        losses = []
        for step in range(1, steps + 1):
            loss = method(views)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            method.after_step(step, steps)
            losses.append(loss.item())
        return losses

    return run
