"""Metrics of the contrastive task against the whole matrix, row by row."""

import pytest
import torch
from losses.common import embeddings, value_and_gradients
from torch.nn import functional

from sslfast import losses
from sslfast.errors import UserError
from sslfast.ops import info_nce, nt_xent


def dense(similarities, positive, excluded):
    """accuracy, mean positive and mean negative similarity; each row has one positive column."""
    negative = torch.ones_like(similarities, dtype=torch.bool).scatter_(1, excluded, False)
    positives = similarities.gather(1, positive[:, None]).squeeze(1)
    largest = similarities.masked_fill(~negative, -torch.inf).amax(1)
    return [(positives > largest).double().mean(), positives.mean(), similarities[negative].mean()]


def of_views(a, b):
    unit = functional.normalize(torch.cat([a, b]).double(), dim=1)
    own = torch.arange(len(unit))
    return dense(unit @ unit.T, own.roll(len(a)), torch.stack([own, own.roll(len(a))], 1))


def of_pairs(a, b, negatives=None):
    a, b = (functional.normalize(z.double(), dim=1) for z in (a, b))
    own = torch.arange(len(a))
    if negatives is None:
        return dense(a @ b.T, own, own[:, None])
    columns = functional.normalize(negatives.double(), dim=1)
    similarities = torch.cat([(a * b).sum(1, keepdim=True), a @ columns.T], 1)
    return dense(similarities, torch.zeros_like(own), torch.zeros_like(own)[:, None])


def related(count=40):
    """Two views that find each other about half of the time, and 30 negatives."""
    a, noise = embeddings(2, count, 6)
    return a, a + 1.0 * noise, embeddings(1, 30, 6, seed=1)[0]


def assert_metrics(metrics, wanted):
    assert metrics._fields == ("accuracy", "positive_similarity", "negative_similarity")
    for got, want in zip(metrics, wanted, strict=True):
        assert got.shape == () and not got.requires_grad
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.02, 0.5])
def test_of_two_views(temperature):
    a, b, _ = related()
    wanted = of_views(a, b)
    assert 0.2 < wanted[0] < 0.9
    loss, metrics = nt_xent(a, b, temperature, metrics=True)
    assert_metrics(metrics, wanted)
    assert torch.equal(loss, nt_xent(a, b, temperature))
    for module in (losses.NTXentLoss(temperature), losses.DCLLoss(temperature), losses.DCLWLoss(temperature)):
        loss, metrics = module(a, b, metrics=True)
        assert_metrics(metrics, wanted)
        assert torch.equal(loss, module(a, b))


@pytest.mark.parametrize("symmetric", [False, True])
def test_of_two_towers(symmetric):
    a, b, _ = related()
    wanted = of_pairs(a, b)
    if symmetric:
        wanted = [(there + back) / 2 for there, back in zip(wanted, of_pairs(b, a), strict=True)]
    loss, metrics = info_nce(a, b, symmetric=symmetric, metrics=True)
    assert_metrics(metrics, wanted)
    assert torch.equal(loss, losses.InfoNCELoss(symmetric=symmetric)(a, b))


def test_of_given_negatives():
    a, b, negatives = related()
    wanted = of_pairs(a, b, negatives)
    assert 0.2 < wanted[0] < 0.9
    assert_metrics(info_nce(a, b, negatives, metrics=True)[1], wanted)
    module = losses.NTXentLoss(0.1, memory_bank_size=(30, 6))
    wanted = of_pairs(a, b, module.memory_bank.bank)
    assert_metrics(module(a, b, metrics=True)[1], wanted)


def of_classes(z, labels):
    """Accuracy over embeddings with a positive, and the mean similarity of pairs of one label and of two."""
    unit = functional.normalize(z.double(), dim=1)
    similarities, same = unit @ unit.T, labels[:, None] == labels
    positive = same & ~torch.eye(len(z), dtype=torch.bool)
    nearest = similarities.masked_fill(~positive, -torch.inf).amax(1)
    solved = nearest > similarities.masked_fill(same, -torch.inf).amax(1)
    return [solved[positive.any(1)].double().mean(), similarities[positive].mean(), similarities[~same].mean()]


@pytest.mark.parametrize("temperature", [0.02, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_classes(dtype, temperature):
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(12, 6, generator=generator)
    labels = torch.randint(12, (300,), generator=generator) * 5 - 7
    labels[:3] = torch.tensor([100, 101, 102])  # alone in their classes
    z = centres[labels % 12] + torch.randn(300, 6, generator=generator)
    wanted = of_classes(z, labels)
    assert 0.2 < wanted[0] < 0.9
    module = losses.SupConLoss(temperature)
    loss, metrics = module(z.to(dtype), labels, metrics=True)
    assert_metrics(metrics, wanted)
    assert metrics.accuracy.dtype == dtype and torch.equal(loss, module(z.to(dtype), labels))
    alone = value_and_gradients(lambda z: module(z, labels), z)
    assert all(map(torch.equal, alone, value_and_gradients(lambda z: module(z, labels, metrics=True)[0], z)))


def test_of_views_with_classes():
    a, b, _ = related()
    labels = torch.arange(40) % 7
    _, metrics = losses.SupConLoss()(torch.stack([a, b], 1), labels, metrics=True)
    assert_metrics(metrics, of_classes(torch.cat([a, b]), labels.repeat(2)))
    _, metrics = losses.SupConLoss()(torch.stack([a, b], 1), metrics=True)
    assert_metrics(metrics, of_views(a, b))


def test_classes_without_pairs():
    z = embeddings(1, 6)[0]
    accuracy, positive, negative = losses.SupConLoss()(z, torch.arange(6), metrics=True)[1]
    assert accuracy.isnan() and positive.isnan() and negative.isfinite()
    accuracy, positive, negative = losses.SupConLoss()(z, torch.zeros(6).long(), metrics=True)[1]
    assert accuracy == 1 and positive.isfinite() and negative.isnan()


def test_the_gradient_is_the_same():
    a, b, _ = related()
    with_metrics = value_and_gradients(lambda a, b: nt_xent(a, b, 0.1, metrics=True)[0], a, b)
    assert all(map(torch.equal, with_metrics, value_and_gradients(lambda a, b: nt_xent(a, b, 0.1), a, b)))


def test_collapsed_embeddings_solve_nothing():
    for depth in (3, 128, 1000):
        z = torch.randn(1, depth).expand(50, depth)
        metrics = nt_xent(z, z, metrics=True)[1]
        assert metrics.accuracy == 0
        assert losses.SupConLoss()(z, torch.arange(50) % 5, metrics=True)[1].accuracy == 0
        torch.testing.assert_close(torch.stack(metrics[1:]), torch.ones(2))


def test_a_single_pair_has_no_negatives():
    metrics = nt_xent(*embeddings(2, 1), metrics=True)[1]
    assert metrics.accuracy == 1 and metrics.negative_similarity.isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_precision(dtype):
    a, b, _ = (z.to(dtype) for z in related())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        metrics = nt_xent(a, b, metrics=True)[1]
    assert_metrics(metrics, of_views(a, b))
    assert metrics.accuracy.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_symmetric_takes_no_negatives():
    a, b, negatives = related()
    with pytest.raises(UserError, match="leave out symmetric"):
        losses.InfoNCELoss(symmetric=True)(a, b, negatives)
