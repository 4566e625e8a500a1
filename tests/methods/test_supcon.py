"""SupCon: the loss against equation 2 in float64 numpy, what labels mean to it, and learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sslfast.augment import Views
from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError
from sslfast.methods import Method, build


def supcon(**options: object) -> Method:
    return build("supcon", backbone="resnet10_narrow", **options)


def _labelled(views: Views, label: list[int]) -> Views:
    return replace(views, label=torch.tensor(label))


def _projections(method: Method, views: Views) -> Tensor:
    with torch.no_grad():
        return method.projector(method.backbone(torch.cat(views.tensors)))


def supervised(projections: Tensor, labels: list[int], temperature: float) -> float:
    """Equation 2, anchor by anchor, averaged over the anchors."""
    z = projections.numpy().astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    losses = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        denominator = np.log(sum(np.exp(z[i] @ z[a] / temperature) for a in others))
        positives = [p for p in others if labels[p] == labels[i]]
        losses.append(-np.mean([z[i] @ z[p] / temperature - denominator for p in positives]))
    return float(np.mean(losses))


@pytest.mark.parametrize("label", [[0, 1, 2, 3, 0, 1, 2, 3], [5, 5, 5, 5, 5, 5, 0, 9], [3] * 8])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_loss_is_the_paper_s(blobs: ImageBatch, label: list[int], temperature: float) -> None:
    method = supcon(temperature=temperature)
    views = _labelled(method.views(blobs), label)
    expected = supervised(_projections(method, views), label * 2, temperature)
    assert method(views)["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_images_of_unknown_class_attract_their_own_views_alone(blobs: ImageBatch) -> None:
    method = supcon()
    views = _labelled(method.views(blobs), [0, -1, 0, -1, 1, 1, -1, 1])
    expected = supervised(_projections(method, views), [0, 10, 0, 11, 1, 1, 12, 1] * 2, 0.1)
    assert method(views)["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_classes_have_no_order(blobs: ImageBatch) -> None:
    method = supcon()
    views = method.views(blobs)
    renamed = replace(views, label=torch.tensor([7, 0, 4, 2])[views.label])
    torch.testing.assert_close(method(views)["loss"], method(renamed)["loss"])


def test_labels_are_asked_for(blobs: ImageBatch) -> None:
    method = supcon()
    views = method.views(replace(blobs, label=None))
    with pytest.raises(UserError, match="supcon needs labels and the data set has none"):
        method(views)


def test_a_few_steps_lower_the_loss(blobs: ImageBatch, learn: Callable[..., list[float]]) -> None:
    method = supcon()
    losses = learn(method, method.views(blobs))
    assert losses[-1] < 0.6 * losses[0]
