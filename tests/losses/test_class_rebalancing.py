"""Weights of the colour classes against equation 4, and the count behind them."""

import pytest
import torch

from sslfast.errors import UserError
from sslfast.losses import count_ab_bins, rebalancing_weights
from sslfast.ops import ab_bins, lab_quantize


def counts(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (1000 * torch.rand(313, generator=generator) ** 6).long()


def test_counts_are_those_of_all_batches():
    images = torch.randint(0, 256, (7, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    got = count_ab_bins(images.split(3), (4, 2))
    bins = lab_quantize(images, (4, 2), "ab313")[1].flatten().tolist()
    assert got.tolist() == [bins.count(q) for q in range(313)] and got.sum() == 7 * 8
    assert count_ab_bins([], (4, 4)).eq(0).all()


@pytest.mark.parametrize("uniform", [0.1, 0.5])
def test_equation_4(uniform):
    """Without smoothing, in plain Python."""
    number = counts().tolist()
    prior = [n / sum(number) for n in number]
    inverse = [1 / ((1 - uniform) * p + uniform / 313) for p in prior]
    expectation = sum(p * w for p, w in zip(prior, inverse, strict=True))
    expected = torch.tensor([w / expectation for w in inverse])
    torch.testing.assert_close(rebalancing_weights(counts(), uniform, sigma=0), expected)


def test_smoothing_spreads_every_share():
    """A single colour: the prior is the Gaussian around it, so that the weights grow with the distance."""
    bins = ab_bins()
    gray = int(bins.eq(0).all(1).nonzero())
    distance = bins.norm(dim=1)
    prior = torch.exp(-(distance.double() ** 2) / 50)
    prior /= prior.sum()
    inverse = 1 / (0.5 * prior + 0.5 / 313)
    weights = rebalancing_weights(torch.eye(313)[gray])
    torch.testing.assert_close(weights, (inverse / (prior * inverse).sum()).float())
    assert weights.argmin() == gray


def test_expected_weight_is_one():
    """Rare colours weigh more; where all are equally frequent, or the uniform distribution rules, all weights are 1."""
    number = counts().double()
    weights = rebalancing_weights(number, sigma=0)
    torch.testing.assert_close((number / number.sum() * weights).sum().float(), torch.tensor(1.0))
    assert (weights[number.argsort()].diff() <= 0).all()
    torch.testing.assert_close(rebalancing_weights(torch.ones(313), sigma=0), torch.ones(313))
    torch.testing.assert_close(rebalancing_weights(counts(), 1.0), torch.ones(313))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": torch.ones(312)}, "shape"),
        ({"counts": torch.zeros(313)}, "not all 0"),
        ({"counts": torch.ones(313).mul(-1)}, "0 or more"),
        ({"counts": torch.full((313,), torch.nan)}, "finite"),
        ({"uniform": 0.0}, "uniform"),
        ({"uniform": 1.5}, "uniform"),
        ({"sigma": -1.0}, "sigma"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(UserError, match=message):
        rebalancing_weights(**({"counts": torch.ones(313)} | change))
