"""VICRegLoss against lightly's, and against its definition written plainly; one process."""

import pytest
import torch
from losses.common import LOW_PRECISION, assert_equal, embeddings, under_autocast, value_and_gradients

from sslfast.errors import UserError
from sslfast.losses import VICRegLoss


def plain(z_a, z_b, weights=(25, 25, 1), eps=1e-4):
    """Equations 1 to 6 entry by entry, in float64."""
    z_a, z_b = z_a.double(), z_b.double()
    batch, dim = z_a.shape
    variance = covariance = 0
    for z in (z_a, z_b):
        centred = z - z.mean(0)
        for i in range(dim):
            for j in range(dim):
                entry = (centred[:, i] * centred[:, j]).sum() / (batch - 1)
                if i == j:
                    variance = variance + (1 - (entry + eps).sqrt()).clamp_min(0) / dim
                else:
                    covariance = covariance + entry**2 / dim
    return weights[0] * ((z_a - z_b) ** 2).mean() + weights[1] * variance / 2 + weights[2] * covariance


@pytest.mark.parametrize(("batch", "depth"), [(2, 5), (19, 12), (19, 1), (5, 33)])
@pytest.mark.parametrize("scale", [0.3, 3])  # below and above the margin of the variance
def test_equals_the_formula(batch, depth, scale):
    pair = [scale * z for z in embeddings(2, batch, depth)]
    ours = value_and_gradients(VICRegLoss(2, 3, 4, eps=1e-3), *pair)
    assert_equal(ours, value_and_gradients(lambda a, b: plain(a, b, (2, 3, 4), 1e-3), *pair), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"nu_param": 5.0, "eps": 0.1}, {"gather_distributed": True}])
@pytest.mark.parametrize("shape", [(18, 12), (6, 3, 12), (2, 3, 3, 12)])
def test_equals_lightly(options, shape):
    theirs = pytest.importorskip("lightly.loss").VICRegLoss(**options)
    pair = [0.5 * z.view(shape) for z in embeddings(2, 18)]
    ours = value_and_gradients(VICRegLoss(**options), *pair)
    assert_equal(ours, value_and_gradients(theirs, *pair), atol=1e-5)


def test_spread_decorrelated_and_equal_is_optimal():
    z = torch.linalg.qr(torch.cat([torch.ones(32, 1), embeddings(1, 32, 4)[0]], 1))[0][:, 1:]  # orthogonal, mean 0
    assert VICRegLoss()(10 * z, 10 * z) < 1e-6
    assert VICRegLoss(0, 25, 0)(0 * z, 0 * z) > 24  # collapse


@pytest.mark.parametrize("dtype", LOW_PRECISION)
def test_low_precision(dtype):
    pair = [z.to(dtype) for z in embeddings(2)]
    ours = value_and_gradients(VICRegLoss(), *pair)
    exact = value_and_gradients(plain, *(z.double() for z in pair))
    assert ours[0].dtype == torch.float32 and ours[1].dtype == dtype
    torch.testing.assert_close(ours[0].double(), exact[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours[1].double(), exact[1], rtol=1e-2, atol=1e-3)


def test_autocast_does_not_round():
    exact = value_and_gradients(VICRegLoss(), *embeddings(2))
    assert_equal(value_and_gradients(under_autocast(VICRegLoss()), *embeddings(2)), exact, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("z_a", "z_b", "message"),
    [
        (torch.ones(3, 4), torch.ones(2, 4), "same shape"),
        (torch.ones(3, 4), torch.ones(3, 2, 4), "2 dimensions"),
        (torch.ones(3), torch.ones(3), "2 dimensions"),
        (torch.ones(3, 4), torch.ones(3, 4).double(), "float64"),
        (torch.ones(1, 4), torch.ones(1, 4), "at least two"),
    ],
)
def test_bad_input(z_a, z_b, message):
    with pytest.raises(UserError, match=message):
        VICRegLoss()(z_a, z_b)
