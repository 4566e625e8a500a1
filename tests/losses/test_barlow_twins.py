"""BarlowTwinsLoss against lightly's, and against its definition written plainly; one process."""

import pytest
import torch
from losses.common import LOW_PRECISION, assert_equal, embeddings, under_autocast, value_and_gradients

from sslfast.errors import UserError
from sslfast.losses import BarlowTwinsLoss


def plain(z_a, z_b, lambda_param=5e-3):
    """Equation 1 entry by entry, in float64."""
    a, b = ((z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt() for z in (z_a.double(), z_b.double()))
    total = 0
    for i in range(a.shape[1]):
        for j in range(a.shape[1]):
            correlation = (a[:, i] * b[:, j]).mean()
            total = total + ((1 - correlation) ** 2 if i == j else lambda_param * correlation**2)
    return total


@pytest.mark.parametrize(("batch", "depth"), [(2, 5), (19, 12), (19, 1), (5, 33)])
def test_equals_the_formula(batch, depth):
    pair = embeddings(2, batch, depth)
    assert_equal(
        value_and_gradients(BarlowTwinsLoss(0.02), *pair),
        value_and_gradients(lambda a, b: plain(a, b, 0.02), *pair),
        atol=1e-5,
    )


@pytest.mark.parametrize("options", [{}, {"lambda_param": 0.1}, {"gather_distributed": True}])
def test_equals_lightly(options):
    theirs = pytest.importorskip("lightly.loss").BarlowTwinsLoss(**options)
    ours = BarlowTwinsLoss(**options)
    assert_equal(value_and_gradients(ours, *embeddings(2)), value_and_gradients(theirs, *embeddings(2)), atol=1e-5)


def test_the_same_decorrelated_view_is_optimal():
    z = torch.linalg.qr(torch.cat([torch.ones(32, 1), embeddings(1, 32, 4)[0]], 1))[0][:, 1:]  # orthogonal, mean 0
    assert BarlowTwinsLoss()(10 * z, 10 * z) < 1e-6 < 0.1 < BarlowTwinsLoss()(10 * z, -10 * z)


@pytest.mark.parametrize("dtype", LOW_PRECISION)
def test_low_precision(dtype):
    pair = [z.to(dtype) for z in embeddings(2)]
    ours = value_and_gradients(BarlowTwinsLoss(), *pair)
    exact = value_and_gradients(plain, *(z.double() for z in pair))
    assert ours[0].dtype == torch.float32 and ours[1].dtype == dtype
    torch.testing.assert_close(ours[0].double(), exact[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours[1].double(), exact[1], rtol=1e-2, atol=1e-3)


def test_autocast_does_not_round():
    exact = value_and_gradients(BarlowTwinsLoss(), *embeddings(2))
    assert_equal(value_and_gradients(under_autocast(BarlowTwinsLoss()), *embeddings(2)), exact, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("z_b", "message"), [(torch.ones(3, 4), "same shape"), (torch.ones(1, 4).half(), "float16"), (None, "at least two")]
)
def test_bad_input(z_b, message):
    z_a = torch.ones(1, 4)
    with pytest.raises(UserError, match=message):
        BarlowTwinsLoss()(z_a, z_a if z_b is None else z_b)
