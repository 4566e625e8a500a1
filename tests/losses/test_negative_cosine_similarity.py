"""NegativeCosineSimilarity against lightly's, and against its definition written plainly."""

import pytest
import torch
from losses.common import LOW_PRECISION, assert_equal, embeddings, value_and_gradients

from sslfast.errors import UserError
from sslfast.losses import NegativeCosineSimilarity


def plain(x0, x1, dim=1):
    x0, x1 = x0.double(), x1.double()
    return -((x0 * x1).sum(dim) / (x0.square().sum(dim) * x1.square().sum(dim)).sqrt()).mean()


def test_equals_the_formula():
    assert_equal(
        value_and_gradients(NegativeCosineSimilarity(), *embeddings(2)), value_and_gradients(plain, *embeddings(2))
    )


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_equals_lightly(dim):
    theirs = pytest.importorskip("lightly.loss").NegativeCosineSimilarity(dim)
    tensors = [z.view(3, 5, 4) for z in embeddings(2, 15, 4)]
    ours = NegativeCosineSimilarity(dim)
    assert_equal(value_and_gradients(ours, *tensors), value_and_gradients(theirs, *tensors), atol=1e-7)


def test_extremes():
    x0, _ = embeddings(2)
    loss = NegativeCosineSimilarity()
    torch.testing.assert_close(loss(x0, 3 * x0), torch.tensor(-1.0))
    torch.testing.assert_close(loss(x0, -x0), torch.tensor(1.0))
    value, grad, _ = value_and_gradients(loss, torch.zeros(3, 4), torch.ones(3, 4))
    assert value == 0 and grad.isfinite().all()


@pytest.mark.parametrize("dtype", LOW_PRECISION)
def test_low_precision(dtype):
    tensors = [z.to(dtype) for z in embeddings(2)]
    ours = value_and_gradients(NegativeCosineSimilarity(), *tensors)
    exact = value_and_gradients(plain, *(z.double() for z in tensors))
    assert ours[0].dtype == torch.float32 and ours[1].dtype == dtype
    torch.testing.assert_close(ours[0].double(), exact[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours[1].double(), exact[1], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("constant", [0, 1])
def test_either_side_may_be_constant(constant):
    """The gradient of the other is what both of them have."""
    tensors = embeddings(2)
    both = value_and_gradients(NegativeCosineSimilarity(), *tensors)
    tensors[1 - constant].requires_grad_()
    loss = NegativeCosineSimilarity()(*tensors)
    (gradient,) = torch.autograd.grad(loss, tensors[1 - constant])
    torch.testing.assert_close(loss.detach(), both[0], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(gradient, both[2 - constant], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("x1", "message"),
    [
        (torch.ones(1, 4), "same shape"),  # would broadcast
        (torch.ones(3, 4).double(), "float64"),
        (torch.ones(3, 4).long(), r"\.float\(\)"),
    ],
)
def test_bad_input(x1, message):
    with pytest.raises(UserError, match=message):
        NegativeCosineSimilarity()(torch.ones(3, 4), x1)


@pytest.mark.parametrize(("shape", "dim"), [((4,), 1), ((3, 4), 2), ((3, 4), -3)])
def test_no_such_dimension(shape, dim):
    with pytest.raises(UserError, match=f"no dimension {dim}"):
        NegativeCosineSimilarity(dim)(torch.ones(shape), torch.ones(shape))


def test_scalars():
    with pytest.raises(UserError, match="no dimension 1"):
        NegativeCosineSimilarity()(torch.ones(()), torch.ones(()))
