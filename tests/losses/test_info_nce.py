"""InfoNCELoss against its definition written plainly, and against the memory bank of NTXentLoss; one process."""

import pytest
import torch
from losses.common import LOW_PRECISION, assert_equal, embeddings, value_and_gradients
from torch.nn import functional

from sslfast.errors import UserError
from sslfast.losses import InfoNCELoss, NTXentLoss


def plain(queries, positives, negatives=None, temperature=0.1):
    """Cross entropy of the whole matrix of logits, in float64."""
    query, positive = (functional.normalize(z.double(), dim=1) for z in (queries, positives))
    if negatives is None:
        return functional.cross_entropy(query @ positive.T / temperature, torch.arange(len(query)))
    against = query @ functional.normalize(negatives.double(), dim=1).T
    logits = torch.cat([(query * positive).sum(1, keepdim=True), against], 1) / temperature
    return functional.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long))


@pytest.mark.parametrize("batch", [1, 2, 19])
@pytest.mark.parametrize("temperature", [0.02, 0.1, 2.0])
def test_within_the_batch(temperature, batch):
    ours = value_and_gradients(InfoNCELoss(temperature), *embeddings(2, batch))
    assert_equal(ours, value_and_gradients(lambda a, b: plain(a, b, None, temperature), *embeddings(2, batch)))


@pytest.mark.parametrize("count", [1, 7, 300])
def test_given_negatives(count):
    tensors = [*embeddings(2), *embeddings(1, count, seed=1)]
    assert_equal(value_and_gradients(InfoNCELoss(), *tensors), value_and_gradients(plain, *tensors))


def test_queue_equals_memory_bank():
    bank = NTXentLoss(0.1, memory_bank_size=(40, 12))
    queue = bank.memory_bank.bank.clone()
    ours = value_and_gradients(lambda a, b: InfoNCELoss()(a, b, queue), *embeddings(2))
    assert_equal(ours, value_and_gradients(bank, *embeddings(2)))


@pytest.mark.parametrize("dtype", LOW_PRECISION)
def test_low_precision(dtype):
    tensors = [z.to(dtype) for z in (*embeddings(2), *embeddings(1, 9, seed=1))]
    ours = value_and_gradients(InfoNCELoss(), *tensors)
    exact = value_and_gradients(plain, *(z.double() for z in tensors))
    assert ours[0].dtype == torch.float32
    torch.testing.assert_close(ours[0].double(), exact[0], rtol=1e-5, atol=1e-5)
    for got, want in zip(ours[1:], exact[1:], strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), want, rtol=1e-2, atol=1e-4)


def test_gradients_in_float64():
    tensors = [z.double().requires_grad_() for z in (*embeddings(2, 4), *embeddings(1, 3, seed=1))]
    assert torch.autograd.gradcheck(InfoNCELoss(), tensors)


@pytest.mark.parametrize(
    ("positives", "negatives", "message"),
    [
        (torch.ones(2, 4), None, "same shape"),
        (torch.ones(3, 4).double(), None, "float64"),
        (torch.ones(3, 4), torch.ones(7, 5), "from the second dimension on"),
        (torch.ones(3, 4), torch.ones(7, 4).half(), "float16"),
        (torch.ones(3, 4), torch.ones(0, 4), "negatives is empty"),
        (torch.ones(3, 4), torch.ones(3, 7, 4), "2 dimensions"),
    ],
)
def test_bad_input(positives, negatives, message):
    with pytest.raises(UserError, match=message):
        InfoNCELoss()(torch.ones(3, 4), positives, negatives)


def test_bad_temperature():
    with pytest.raises(UserError, match="above 0"):
        InfoNCELoss(0)
