"""solo-learn's functions against their formulas, written with the whole matrix in float64."""

import pytest
import torch
from losses.common import LOW_PRECISION, assert_equal, embeddings, value_and_gradients
from torch.nn import functional

from sslfast.compat import solo
from sslfast.errors import UserError

INDEXES = {
    "two views": torch.arange(12).repeat(2),
    "three views": torch.arange(8).repeat(3),
    "views side by side": torch.arange(12).repeat_interleave(2),
    "classes": torch.arange(24) % 5,
    "two classes": (torch.arange(24) < 3).long(),
    "one class": torch.zeros(24).long(),
}


def plain_simclr(z, indexes, temperature):
    """The share of the positives in the sum of all exponentials."""
    unit = functional.normalize(z.double(), dim=1)
    exponentials = (unit @ unit.T / temperature).exp()
    same = indexes[:, None] == indexes
    positive = same & ~torch.eye(len(z), dtype=torch.bool)
    positives, negatives = ((exponentials * mask).sum(1) for mask in (positive, ~same))
    return -(positives / (positives + negatives)).log().mean()


@pytest.mark.parametrize("indexes", INDEXES.values(), ids=INDEXES)
@pytest.mark.parametrize("temperature", [0.02, 0.1, 1.0])
def test_simclr(indexes, temperature):
    (z,) = embeddings(1, 24)
    ours = value_and_gradients(lambda z: solo.simclr_loss_func(z, indexes, temperature), z)
    assert_equal(ours, value_and_gradients(lambda z: plain_simclr(z, indexes, temperature), z))
    assert torch.equal(solo.simclr_loss_func(z, indexes), solo.simclr_loss_func(z, indexes, temperature=0.1))


def test_simclr_needs_positives():
    with pytest.raises(UserError, match="index 7 occurs once"):
        solo.simclr_loss_func(torch.ones(3, 4), torch.tensor([2, 7, 2]))
    with pytest.raises(UserError, match=r"shape \(3,\)"):
        solo.simclr_loss_func(torch.ones(3, 4), torch.tensor([2, 2]))


@pytest.mark.parametrize("dtype", LOW_PRECISION)
def test_simclr_in_low_precision(dtype):
    (z,) = (z.to(dtype) for z in embeddings(1, 24))
    indexes = INDEXES["two views"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = solo.simclr_loss_func(z, indexes)
    torch.testing.assert_close(value.double(), plain_simclr(z, indexes, 0.1), rtol=1e-5, atol=1e-5)


def plain_moco(query, key, queue, temperature=0.1):
    logits = torch.cat([(query * key).sum(1, keepdim=True), query @ queue], 1).double() / temperature
    return functional.cross_entropy(logits, torch.zeros(len(query)).long())


def test_mocov2plus():
    query, key = (functional.normalize(z, dim=1) for z in embeddings(2))
    queue = functional.normalize(embeddings(1, 31, seed=1)[0], dim=1).T

    def along_the_sphere(loss):
        """solo-learn leaves the normalisation to its caller: its gradient is compared behind it."""
        return lambda q, k: loss(functional.normalize(q, dim=1), functional.normalize(k, dim=1), queue)

    ours = value_and_gradients(along_the_sphere(solo.mocov2plus_loss_func), query, key)
    assert_equal(ours, value_and_gradients(along_the_sphere(plain_moco), query, key))


def plain_info_nce(queries, keys, temperature):
    queries, keys = functional.normalize(queries.double(), dim=-1), functional.normalize(keys.double(), dim=-1)
    return functional.cross_entropy(queries @ keys.T / temperature, torch.arange(len(queries)))


def test_mocov3_and_nnclr():
    pair = embeddings(2)
    ours = value_and_gradients(solo.mocov3_loss_func, *pair)
    assert_equal(ours, value_and_gradients(lambda q, k: 0.4 * plain_info_nce(q, k.detach(), 0.2), *pair))
    assert ours[2].count_nonzero() == 0
    ours = value_and_gradients(solo.nnclr_loss_func, *pair)
    assert_equal(ours, value_and_gradients(lambda q, k: plain_info_nce(q, k, 0.1), *pair))


@pytest.mark.parametrize("simplified", [True, False])
def test_byol_and_simsiam(simplified):
    def cosine(p, z):
        p, z = functional.normalize(p.double(), dim=-1), functional.normalize(z.double(), dim=-1)
        return (p * z.detach()).sum(1).mean()

    pair = embeddings(2)
    ours = value_and_gradients(lambda p, z: solo.byol_loss_func(p, z, simplified), *pair)
    assert_equal(ours, value_and_gradients(lambda p, z: 2 - 2 * cosine(p, z), *pair))
    ours = value_and_gradients(lambda p, z: solo.simsiam_loss_func(p, z, simplified=simplified), *pair)
    assert_equal(ours, value_and_gradients(lambda p, z: -cosine(p, z), *pair))
    assert ours[2].count_nonzero() == 0


@pytest.mark.parametrize("options", [{}, {"lamb": 0.2, "scale_loss": 2.0}])
def test_barlow(options):
    def plain(z1, z2, lamb=5e-3, scale_loss=0.025):
        z1, z2 = ((z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt() for z in (z1.double(), z2.double()))
        squares = (z1.T @ z2 / len(z1) - torch.eye(z1.shape[1])).square()
        return scale_loss * (lamb * squares.sum() + (1 - lamb) * squares.trace())

    pair = embeddings(2)
    ours = value_and_gradients(lambda a, b: solo.barlow_loss_func(a, b, **options), *pair)
    assert_equal(ours, value_and_gradients(lambda a, b: plain(a, b, **options), *pair), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weights", [(), (3.0, 5.0, 7.0)])
def test_vicreg(weights):
    def plain(z1, z2, similarity=25.0, variance=25.0, covariance=1.0):
        loss = similarity * (z1 - z2).double().square().mean()
        for z in (z1.double(), z2.double()):
            loss = loss + variance * (1 - (z.var(0) + 1e-4).sqrt()).clamp_min(0).mean()
            loss = loss + covariance * (z.T.cov() * (1 - torch.eye(z.shape[1]))).square().sum() / z.shape[1]
        return loss

    pair = [0.5 * z for z in embeddings(2)]  # deviations below 1: the hinge is open
    ours = value_and_gradients(lambda a, b: solo.vicreg_loss_func(a, b, *weights), *pair)
    assert_equal(ours, value_and_gradients(lambda a, b: plain(a, b, *weights), *pair), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("views", [2, 5])
def test_swav(views):
    def plain(*preds):
        terms = [
            -(code * (preds[v].double() / 0.1).log_softmax(1)).sum(1).mean()
            for i, code in enumerate(codes)
            for v in range(views)
            if v != i
        ]
        return sum(terms) / len(terms)

    codes = [torch.softmax(scores, 1) for scores in embeddings(2, seed=1)]
    preds = embeddings(views)
    ours = value_and_gradients(lambda *preds: solo.swav_loss_func(preds, codes), *preds)
    assert_equal(ours, value_and_gradients(plain, *preds))


@pytest.mark.parametrize(("views", "codes"), [(1, 1), (2, 0), (2, 3)])
def test_swav_counts(views, codes):
    with pytest.raises(UserError, match=f"{views} views and {codes} assignments"):
        solo.swav_loss_func(embeddings(views), embeddings(codes))


@pytest.mark.parametrize("crops", [2, 4])
def test_dino(crops):
    """Three batches, of which the second is in another epoch: temperature and center move."""
    loss = solo.DINOLoss(12, 0.02, 0.06, 3, 10, num_large_crops=crops, center_momentum=0.7)
    center = torch.zeros(1, 12).double()
    for batch, (epoch, temperature) in enumerate([(0, 0.02), (1, 0.04), (7, 0.06)]):
        loss.epoch = epoch
        student = embeddings(1, 5 * crops, seed=batch)[0]
        (teacher,) = embeddings(1, 10, seed=9 + batch)

        def plain(student, temperature=temperature, center=center, teacher=teacher):
            targets = ((teacher.double() - center) / temperature).softmax(1).chunk(2)
            predicted = (student.double() / 0.1).log_softmax(1).chunk(crops)
            terms = [-(t * s).sum(1).mean() for i, t in enumerate(targets) for j, s in enumerate(predicted) if i != j]
            return sum(terms) / len(terms)

        assert_equal(
            value_and_gradients(lambda student, teacher=teacher: loss(student, teacher), student),
            value_and_gradients(plain, student),
        )
        center = 0.7 * center + 0.3 * teacher.double().mean(0)
        torch.testing.assert_close(loss.center.double(), center, rtol=1e-5, atol=1e-6)
