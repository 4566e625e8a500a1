"""SwaVLoss against lightly's, and against its definition written plainly; one process."""

import pytest
import torch
from losses.common import LOW_PRECISION, assert_equal, embeddings, value_and_gradients

from sslfast.errors import UserError
from sslfast.losses import SwaVLoss, swav
from sslfast.losses.swav import sinkhorn


def scores(count, batch=19, prototypes=12, seed=0):
    """Cosines."""
    return [torch.tanh(z) for z in embeddings(count, batch, prototypes, seed)]


def plain_codes(scores, iterations, epsilon):
    """Sinkhorn-Knopp on the matrix itself, in float64."""
    codes = (scores.double() / epsilon).exp()
    for _ in range(iterations):
        codes = codes / codes.sum(0, keepdim=True)
        codes = codes / codes.sum(1, keepdim=True)
    return codes


def plain(high, low, queue=None, temperature=0.1, iterations=3, epsilon=0.05):
    """Every pair of crops by itself, in float64."""
    crops = [*high, *low]
    total = 0
    for i, scores in enumerate(high):
        joined = scores if queue is None else torch.cat([scores, queue[i]])
        codes = plain_codes(joined.detach(), iterations, epsilon)[: len(scores)]
        for v, crop in enumerate(crops):
            if v != i:
                predicted = (crop.double() / temperature).exp()
                predicted = predicted / predicted.sum(1, keepdim=True)
                total = total - (codes * predicted.log()).sum(1).mean() / (len(crops) - 1)
    return total / len(high)


def on(loss, high, queue=None):
    """`loss` as a function of all crops, the first `high` of them at full resolution."""
    return lambda *crops: loss(list(crops[:high]), list(crops[high:]), queue)


@pytest.mark.parametrize(("high", "crops"), [(2, 2), (2, 8), (1, 3), (3, 4)])
@pytest.mark.parametrize("queued", [False, True])
def test_equals_the_formula(high, crops, queued):
    queue = scores(high, 31, seed=1) if queued else None
    ours = value_and_gradients(on(SwaVLoss(), high, queue), *scores(crops))
    assert_equal(ours, value_and_gradients(on(plain, high, queue), *scores(crops)))


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.5, "sinkhorn_iterations": 1, "sinkhorn_epsilon": 0.2},
        {"sinkhorn_gather_distributed": True},
    ],
)
def test_equals_lightly(options, queued):
    theirs = pytest.importorskip("lightly.loss").SwaVLoss(**options)
    queue = scores(2, 31, seed=1) if queued else None
    ours = value_and_gradients(on(SwaVLoss(**options), 2, queue), *scores(6))
    wanted = value_and_gradients(on(theirs, 2, queue), *scores(6))
    assert_equal(ours, (wanted[0].squeeze(), *wanted[1:]))


def test_codes():
    """Rows sum to 1, and after many rounds the columns are equal."""
    codes = sinkhorn(*scores(1, 24, 6), iterations=200, epsilon=0.2)
    torch.testing.assert_close(codes.sum(1), torch.ones(24))
    torch.testing.assert_close(codes.sum(0), torch.full((6,), 4.0))


@pytest.mark.parametrize("iterations", [1, 2, 3, 4, 7, 12])
@pytest.mark.parametrize("epsilon", [0.001, 0.01, 0.05, 1.0])
def test_codes_equal_those_on_logarithms(iterations, epsilon):
    """Whatever exp() cannot hold, and however often the rounds start anew."""
    (given,) = scores(1, 40, 9)
    given[:, 3] -= 2
    logarithms = given.double() / epsilon
    for _ in range(iterations):
        for dim in (0, 1):
            logarithms = logarithms - logarithms.logsumexp(dim, keepdim=True)
    codes = sinkhorn(given, iterations, epsilon)
    torch.testing.assert_close(codes.double(), logarithms.exp(), rtol=1e-3, atol=1e-6 / epsilon)


@pytest.mark.parametrize(("epsilon", "expected"), [(0.05, True), (0.0005, False)])
def test_logarithms_where_sums_lose_digits(epsilon, expected, monkeypatch):
    """An image far from every prototype, which is nobody's nearest, has codes as others have."""
    near = embeddings(1, 30, 7)[0].div(4)
    near[0] = near.amin(0) - 0.05
    taken = swav._round_of_sums(near, epsilon)
    assert (taken is not None) == expected
    codes = sinkhorn(near, epsilon=epsilon)
    torch.testing.assert_close(codes.sum(1), torch.ones(30))
    monkeypatch.setattr(swav, "_round_of_sums", lambda *_: None)
    torch.testing.assert_close(codes, sinkhorn(near, epsilon=epsilon), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", LOW_PRECISION)
def test_autocast_changes_nothing(dtype):
    """The vectors of Sinkhorn-Knopp are multiplied in float32."""
    (given,) = scores(1)
    with torch.autocast("cpu", dtype=dtype):
        torch.testing.assert_close(sinkhorn(given), sinkhorn(given.double()).float())
        inside = SwaVLoss()([given, given.flip(0)], [])
    torch.testing.assert_close(inside, SwaVLoss()([given, given.flip(0)], []))


@pytest.mark.parametrize("factor", [1e-3, 100.0, 1e4])
def test_codes_of_any_size(factor):
    """No overflow, and no 0 / 0 where a prototype is far from all."""
    (given,) = scores(1)
    given[:, 3] -= 5
    codes = sinkhorn(factor * given)
    assert codes.isfinite().all()
    torch.testing.assert_close(codes.sum(1), torch.ones(len(codes)))


@pytest.mark.parametrize("dtype", LOW_PRECISION)
def test_low_precision(dtype):
    crops = [crop.to(dtype) for crop in scores(3)]
    ours = value_and_gradients(on(SwaVLoss(), 2), *crops)
    exact = value_and_gradients(on(plain, 2), *(crop.double() for crop in crops))
    assert ours[0].dtype == torch.float32 and ours[1].dtype == dtype
    torch.testing.assert_close(ours[0].double(), exact[0], rtol=1e-5, atol=1e-5)
    for got, want in zip(ours[1:], exact[1:], strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(
    ("high", "low", "queue", "message"),
    [
        ([], [(3, 4), (3, 4)], None, "at least one"),
        ([(3, 4)], [], None, "two crops"),
        ([(3, 4)], [(2, 4)], None, r"low_resolution_outputs\[0\] \(2, 4\) must have the same shape"),
        ([(3, 4), (3, 4, 1)], [], None, r"high_resolution_outputs\[1\] must have 2 dimensions"),
        ([(3, 4), (3, 4)], [], [(9, 4)], "1 queue_outputs for 2"),
        ([(3, 4), (3, 4)], [], [(9, 4), (9, 5)], r"queue_outputs\[1\]"),
    ],
)
def test_bad_input(high, low, queue, message):
    high, low = ([torch.ones(shape) for shape in shapes] for shapes in (high, low))
    queue = None if queue is None else [torch.ones(shape) for shape in queue]
    with pytest.raises(UserError, match=message):
        SwaVLoss()(high, low, queue)


@pytest.mark.parametrize("option", ["temperature", "sinkhorn_iterations", "sinkhorn_epsilon"])
def test_bad_options(option):
    with pytest.raises(UserError, match=option):
        SwaVLoss(**{option: 0})
