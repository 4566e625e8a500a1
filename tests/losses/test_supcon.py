"""SupConLoss against its definition written plainly, and against NT-Xent where the two coincide; one process."""

import pytest
import torch
from losses.common import LOW_PRECISION, assert_equal, embeddings, value_and_gradients
from torch.nn import functional

from sslfast.errors import UserError
from sslfast.losses import NTXentLoss, SupConLoss
from sslfast.losses.supcon import class_sums

LABELS = {
    "mixed": [3, -1, 3, 7, 7, 3, 3, -1, 7, 3],
    "one alone": [0, 0, 1, 2, 2, 2, 0, 3, 3, 3],
    "one class": [5] * 10,
    "pairs": [0, 1, 2, 3, 4, 4, 3, 2, 1, 0],
}


def plain(z, labels, temperature):
    """Equation 2 embedding by embedding, in float64."""
    unit = functional.normalize(z.double(), dim=1)
    total = 0
    for i in range(len(unit)):
        others = [j for j in range(len(unit)) if j != i]
        positives = [j for j in others if labels[j] == labels[i]]
        if positives:
            denominator = (unit[others] @ unit[i] / temperature).exp().sum()
            probabilities = (unit[positives] @ unit[i] / temperature).exp() / denominator
            total = total - probabilities.log().mean()
    return total / len(unit)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("temperature", [0.05, 0.1, 2.0])
def test_equals_the_formula(temperature, labels):
    (z,) = embeddings(1, 10)
    ours = value_and_gradients(lambda z: SupConLoss(temperature)(z, torch.tensor(labels)), z)
    assert_equal(ours, value_and_gradients(lambda z: plain(z, labels, temperature), z))


def test_large_classes():
    (z,) = embeddings(1, 600)
    labels = torch.arange(600) % 3
    ours = value_and_gradients(lambda z: SupConLoss()(z, labels), z)
    assert_equal(ours, value_and_gradients(lambda z: plain(z, labels, 0.1), z))


def test_views_without_labels_are_nt_xent():
    out0, out1 = embeddings(2)
    ours = value_and_gradients(lambda a, b: SupConLoss(0.2)(torch.stack([a, b], 1)), out0, out1)
    assert_equal(ours, value_and_gradients(NTXentLoss(0.2), out0, out1))


def test_views_with_labels():
    (z,) = embeddings(1, 12)
    labels = torch.tensor([4, 0, 4, 1])
    views = SupConLoss()(z.view(4, 3, -1), labels)
    torch.testing.assert_close(views, SupConLoss()(z, labels.repeat_interleave(3)), rtol=0, atol=0)


def test_nothing_to_attract():
    """All labels different: loss 0 and gradient 0; also for a single embedding."""
    for batch in (1, 5):
        value, grad = value_and_gradients(lambda z, n=batch: SupConLoss()(z, torch.arange(n)), *embeddings(1, batch))
        assert value == 0 and grad.count_nonzero() == 0


def test_zero_vector_has_gradient_zero():
    (z,) = embeddings(1, 6)
    z[2] = 0
    value, grad = value_and_gradients(lambda z: SupConLoss()(z, torch.tensor([0, 0, 0, 1, 1, 1])), z)
    assert value.isfinite() and grad.isfinite().all() and grad[2].count_nonzero() == 0


@pytest.mark.parametrize("dtype", LOW_PRECISION)
def test_low_precision(dtype):
    (z,) = (out.to(dtype) for out in embeddings(1, 10))
    labels = torch.tensor(LABELS["mixed"])
    value, grad = value_and_gradients(lambda z: SupConLoss()(z, labels), z)
    assert value.dtype == torch.float32 and grad.dtype == dtype
    exact = value_and_gradients(lambda z: SupConLoss()(z, labels), z.double())
    torch.testing.assert_close(value.double(), exact[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad.double(), exact[1], rtol=1e-2, atol=1e-4)


def test_gradients_in_float64():
    (z,) = embeddings(1, 10)
    labels = torch.tensor(LABELS["one alone"])
    assert torch.autograd.gradcheck(lambda z: SupConLoss()(z, labels), z.double().requires_grad_())


def test_class_sums():
    rows = torch.tensor([[1.0, 2], [10, 20], [100, 200], [1000, 2000]])
    sums = class_sums(rows, torch.tensor([2, 0, 2, 2]), 4)
    assert sums.tolist() == [[10, 20], [0, 0], [1101, 2202], [0, 0]]


@pytest.mark.parametrize(
    ("z", "labels", "message"),
    [
        (torch.ones(3, 4), None, "need labels"),
        (torch.ones(3, 4), torch.zeros(2).long(), r"shape \(3,\)"),
        (torch.ones(3, 4), torch.zeros(3, 1).long(), r"shape \(3,\)"),
        (torch.ones(3, 4), torch.zeros(3), r"\.long\(\)"),
        (torch.ones(3, 2, 4), torch.zeros(6).long(), r"shape \(3,\)"),
        (torch.ones(3), torch.zeros(3).long(), "2 dimensions"),
        (torch.ones(3, 4).int(), torch.zeros(3).long(), r"\.float\(\)"),
        (torch.ones(0, 4), torch.zeros(0).long(), "empty"),
    ],
)
def test_bad_input(z, labels, message):
    with pytest.raises(UserError, match=message):
        SupConLoss()(z, labels)


def test_bad_temperature():
    with pytest.raises(UserError, match="above 0"):
        SupConLoss(-1)
