"""SimCLR: the loss against equation 1 in float64 numpy, its invariances, and learning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sslfast.augment import Views
from sslfast.data.batch import ImageBatch
from sslfast.methods import build


@pytest.fixture(scope="module")
def batch() -> ImageBatch:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(8, 3, 4, 4, generator=generator)  # blobs of colour: something to tell images apart by
    images = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(0, 1)
    return ImageBatch.from_dense((images * 255).byte().permute(0, 2, 3, 1))


def nt_xent(z0: np.ndarray, z1: np.ndarray, temperature: float) -> float:
    """Equation 1, pair by pair: -log of exp(s_ij / t) over the sum of exp(s_ik / t) with k other than i."""
    z = np.concatenate([z0, z1]).astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    count = len(z0)
    losses = []
    for i in range(2 * count):
        j = (i + count) % (2 * count)
        denominator = sum(np.exp(z[i] @ z[k] / temperature) for k in range(2 * count) if k != i)
        losses.append(-np.log(np.exp(z[i] @ z[j] / temperature) / denominator))
    return float(np.mean(losses))


def _permuted(views: Views, order: Tensor) -> Views:
    return Views([view[order] for view in views.tensors], [table[order] for table in views.params], views.index[order])


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_loss_is_the_paper_s(batch: ImageBatch, temperature: float) -> None:
    method = build("simclr", backbone="resnet10_narrow", temperature=temperature)
    views = method.views(batch)
    with torch.no_grad():
        loss = method(views)["loss"]
        z0, z1 = method.projector(method.backbone(torch.cat(views.tensors))).numpy().reshape(2, 8, 128)
    assert float(loss) == pytest.approx(nt_xent(z0, z1, temperature), rel=1e-5)


def test_loss_is_symmetric_in_the_views(batch: ImageBatch) -> None:
    method = build("simclr", backbone="resnet10_narrow")
    views = method.views(batch)
    swapped = Views(views.tensors[::-1], views.params[::-1], views.index)
    torch.testing.assert_close(method(views)["loss"], method(swapped)["loss"])


def test_loss_does_not_depend_on_the_order_of_the_batch(batch: ImageBatch) -> None:
    method = build("simclr", backbone="resnet10_narrow")
    views = method.views(batch)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(method(views)["loss"], method(_permuted(views, order))["loss"])
    # Pairs belong together: permuting one view alone is another task.
    broken = Views([views.tensors[0], views.tensors[1].roll(1, dims=0)], views.params, views.index)
    assert not torch.isclose(method(views)["loss"], method(broken)["loss"])


def test_the_two_views_differ_and_pair_by_image(batch: ImageBatch) -> None:
    views = build("simclr", backbone="resnet10_narrow").views(batch)
    assert len(views.tensors) == 2
    assert not torch.equal(views.tensors[0], views.tensors[1])
    assert torch.equal(views.index, batch.index)


def test_a_few_steps_lower_the_loss(batch: ImageBatch) -> None:
    method = build("simclr", backbone="resnet10_narrow")
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
    views = method.views(batch)
    losses = []
    for _ in range(10):
        loss = method(views)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_metrics_are_logged(blobs: ImageBatch) -> None:
    method = build("simclr", backbone="resnet10_narrow")
    output = method(method.views(blobs))
    assert list(output) == ["loss", "accuracy", "positive_similarity", "negative_similarity"]
    assert output["loss"].requires_grad and not output["accuracy"].requires_grad
    assert 0 <= output["accuracy"] <= 1 and output["positive_similarity"] <= 1
