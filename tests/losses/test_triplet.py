"""TripletLoss against its definition, triplet by triplet."""

import pytest
import torch
from losses.common import LOW_PRECISION, assert_equal, embeddings, under_autocast, value_and_gradients
from torch.nn import functional

from sslfast.errors import UserError
from sslfast.losses import TripletLoss, triplet

LABELS = {
    "mixed": [3, -1, 3, 7, 7, 3, 3, -1, 7, 3],
    "one alone": [0, 0, 1, 2, 2, 2, 0, 3, 3, 3],
    "two classes": [0, 0, 0, 0, 0, 0, 0, 1, 1, 1],
    "pairs": [0, 1, 2, 3, 4, 4, 3, 2, 1, 0],
}


def plain(z, labels, margin, mining):
    """Mines with loops over distances, in float64; the gradient is that of torch."""
    unit = functional.normalize(z.double(), dim=1)
    distance = (unit[:, None] - unit[None]).square().sum(2)
    terms = []
    for a in range(len(unit)):
        positives = [p for p in range(len(unit)) if p != a and labels[p] == labels[a]]
        negatives = [n for n in range(len(unit)) if labels[n] != labels[a]]
        if not positives or not negatives:
            continue
        if mining == "hard":
            positives = [max(positives, key=lambda p: distance[a, p].item())]
        for p in positives:
            candidates = negatives
            if mining == "semihard":
                farther = [n for n in negatives if distance[a, n] > distance[a, p]]
                candidates = farther or [max(negatives, key=lambda n: distance[a, n].item())]
            n = min(candidates, key=lambda n: distance[a, n].item())
            terms.append((distance[a, p] - distance[a, n] + margin).clamp_min(0))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("mining", ["hard", "semihard"])
@pytest.mark.parametrize("margin", [0.05, 0.2, 1.0])
def test_equals_the_formula(labels, mining, margin):
    for seed in range(3):
        (z,) = embeddings(1, 10, seed=seed)
        ours = value_and_gradients(lambda z: TripletLoss(margin, mining)(z, torch.tensor(labels)), z)
        assert_equal(ours, value_and_gradients(lambda z: plain(z, labels, margin, mining), z))


@pytest.mark.parametrize("mining", ["hard", "semihard"])
@pytest.mark.parametrize("chunk", [1, 37, 100])
def test_row_by_row(monkeypatch, mining, chunk):
    """The number of rows held at a time changes nothing."""
    (z,) = embeddings(1, 30)
    labels = torch.arange(30) // 4

    def loss(z):
        return TripletLoss(0.5, mining)(z, labels)

    whole = value_and_gradients(loss, z)
    monkeypatch.setattr(triplet, "CHUNK", chunk)
    assert_equal(value_and_gradients(loss, z), whole)


@pytest.mark.parametrize("mining", ["hard", "semihard"])
def test_gradients_in_float64(mining):
    (z,) = embeddings(1, 10)
    labels = torch.tensor(LABELS["mixed"])
    assert torch.autograd.gradcheck(lambda z: 3 * TripletLoss(0.2, mining)(z, labels), z.double().requires_grad_())


@pytest.mark.parametrize("labels", [[4, 4, 4, 4], [0, 1, 2, 3]])
@pytest.mark.parametrize("mining", ["hard", "semihard"])
def test_no_triplets(labels, mining):
    value, grad = value_and_gradients(lambda z: TripletLoss(0.2, mining)(z, torch.tensor(labels)), *embeddings(1, 4))
    assert value == 0 and grad.count_nonzero() == 0


def test_a_negative_as_far_as_the_positive_is_not_farther():
    z = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]])
    labels = [0, 0, 1, 1]
    torch.testing.assert_close(TripletLoss()(z, torch.tensor(labels)).double(), plain(z, labels, 0.2, "semihard"))


@pytest.mark.parametrize("mining", ["hard", "semihard"])
def test_duplicates_and_zero_vectors(mining):
    z = torch.ones(6, 4)
    z[4:] = 0
    value, grad = value_and_gradients(lambda z: TripletLoss(0.2, mining)(z, torch.tensor([0, 0, 1, 1, 0, 1])), z)
    assert value.isfinite() and grad.isfinite().all() and grad[4:].count_nonzero() == 0


@pytest.mark.parametrize("mining", ["hard", "semihard"])
def test_nan_is_not_hidden(mining):
    (z,) = embeddings(1, 10)
    z[0, 0] = torch.nan
    assert TripletLoss(0.2, mining)(z, torch.tensor(LABELS["mixed"])).isnan()


@pytest.mark.parametrize("mining", ["hard", "semihard"])
def test_steps_separate_the_classes(mining):
    (z,) = embeddings(1, 40, 4)
    labels = torch.arange(40) % 4
    z.requires_grad_()
    optimizer = torch.optim.Adam([z], 0.05)
    loss = TripletLoss(0.2, mining)
    for _ in range(150):
        optimizer.zero_grad()
        loss(z, labels).backward()
        optimizer.step()
    unit = functional.normalize(z.detach(), dim=1)
    similarities, same = unit @ unit.T, labels[:, None] == labels
    farthest = similarities.masked_fill(~same, 2).amin(1)
    nearest = similarities.masked_fill(same, -2).amax(1)
    assert (farthest > nearest).all()


@pytest.mark.parametrize("dtype", LOW_PRECISION)
def test_low_precision(dtype):
    (z,) = (z.to(dtype) for z in embeddings(1, 10))
    labels = LABELS["mixed"]
    value, grad = value_and_gradients(lambda z: TripletLoss(0.5)(z, torch.tensor(labels)), z)
    assert value.dtype == torch.float32 and grad.dtype == dtype
    exact = value_and_gradients(lambda z: plain(z, labels, 0.5, "semihard"), z.double())
    torch.testing.assert_close(value.double(), exact[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad.double(), exact[1], rtol=1e-2, atol=1e-3)


def test_autocast_does_not_round():
    (z,) = embeddings(1, 10)
    labels = torch.tensor(LABELS["mixed"])
    exact = value_and_gradients(lambda z: TripletLoss()(z, labels), z)
    assert_equal(value_and_gradients(under_autocast(lambda z: TripletLoss()(z, labels)), z), exact, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("z", "labels", "message"),
    [
        (torch.ones(3, 4), torch.zeros(2).long(), r"shape \(3,\)"),
        (torch.ones(3, 4), torch.zeros(3), r"\.long\(\)"),
        (torch.ones(3, 4, 1), torch.zeros(3).long(), "2 dimensions"),
        (torch.ones(0, 4), torch.zeros(0).long(), "empty"),
    ],
)
def test_bad_input(z, labels, message):
    with pytest.raises(UserError, match=message):
        TripletLoss()(z, labels)


@pytest.mark.parametrize(
    ("options", "message"), [({"margin": 0}, "above 0"), ({"margin": 5}, "at most 4"), ({"mining": "easy"}, "'easy'")]
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        TripletLoss(**options)
