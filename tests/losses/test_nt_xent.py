"""NTXentLoss against lightly's, and against its definition written plainly; one process."""

import pytest
import torch
from losses.common import assert_equal, embeddings, value_and_gradients
from torch.nn import functional

from sslfast.errors import UserError
from sslfast.losses import NTXentLoss
from sslfast.ops.reference.nt_xent import nt_xent as dense


def plain_with_bank(out0, out1, bank, temperature):
    """MoCo's equation 1: the positive first, then the bank."""
    queries, positives = functional.normalize(out0, dim=1), functional.normalize(out1, dim=1)
    logits = torch.cat([(queries * positives).sum(1, keepdim=True), queries @ bank.T], 1) / temperature
    return functional.cross_entropy(logits, torch.zeros(len(out0), dtype=torch.long))


@pytest.mark.parametrize("temperature", [0.02, 0.1, 0.5, 2.0])
def test_equals_the_formula(temperature):
    ours = value_and_gradients(NTXentLoss(temperature), *embeddings(2))
    assert_equal(ours, value_and_gradients(lambda a, b: dense(a, b, temperature), *embeddings(2)))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("batch", [1, 2, 19])
def test_equals_lightly(temperature, batch):
    theirs = pytest.importorskip("lightly.loss").NTXentLoss(temperature=temperature)
    ours = NTXentLoss(temperature=temperature)
    assert_equal(value_and_gradients(ours, *embeddings(2, batch)), value_and_gradients(theirs, *embeddings(2, batch)))


@pytest.mark.parametrize("entries", [5, 64])
def test_memory_bank_equals_the_formula(entries):
    loss = NTXentLoss(0.1, memory_bank_size=(entries, 12))
    for seed in range(4):
        bank = loss.memory_bank.bank.clone()
        ours = value_and_gradients(loss, *embeddings(2, seed=seed))
        plain = value_and_gradients(lambda a, b, bank=bank: plain_with_bank(a, b, bank, 0.1), *embeddings(2, seed=seed))
        assert_equal(ours, plain)
        assert not torch.equal(loss.memory_bank.bank, bank)


@pytest.mark.parametrize("entries", [5, 57, 64])
def test_memory_bank_equals_lightly(entries):
    theirs_class = pytest.importorskip("lightly.loss").NTXentLoss
    torch.manual_seed(3)
    theirs = theirs_class(0.2, memory_bank_size=(entries, 12))
    torch.manual_seed(3)
    ours = NTXentLoss(0.2, memory_bank_size=(entries, 12))
    for seed in range(8):  # 19 rows a batch: the bank is written round more than twice
        assert_equal(
            value_and_gradients(ours, *embeddings(2, seed=seed)), value_and_gradients(theirs, *embeddings(2, seed=seed))
        )
        torch.testing.assert_close(ours.memory_bank.bank, theirs.memory_bank.bank)
        assert torch.equal(ours.memory_bank.bank_ptr, theirs.memory_bank.bank_ptr)


def test_memory_bank_stays_without_gradient():
    """Evaluating the loss on held-out images leaves the negatives alone."""
    loss = NTXentLoss(0.1, memory_bank_size=(32, 12))
    bank = loss.memory_bank.bank.clone()
    loss(*embeddings(2))
    assert torch.equal(loss.memory_bank.bank, bank)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("memory_bank_size", [0, (32, 12)])
def test_precisions(dtype, memory_bank_size):
    torch.manual_seed(0)
    loss = NTXentLoss(0.1, memory_bank_size)
    torch.manual_seed(0)
    exact = NTXentLoss(0.1, memory_bank_size).double()
    out0, out1 = (out.to(dtype) for out in embeddings(2))
    ours, theirs = value_and_gradients(loss, out0, out1), value_and_gradients(exact, out0.double(), out1.double())
    assert ours[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert ours[1].dtype == dtype
    for got, want in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-2, atol=1e-4)


def test_gather_distributed_without_process_group_is_one_rank():
    assert_equal(
        value_and_gradients(NTXentLoss(0.1, gather_distributed=True), *embeddings(2)),
        value_and_gradients(NTXentLoss(0.1), *embeddings(2)),
        rtol=0,
        atol=0,
    )


def test_state_dictionary():
    """Without a bank there is nothing to save; with one, a resumed run goes on with the same negatives."""
    assert NTXentLoss(persistent=True).state_dict() == {}
    saved = NTXentLoss(0.1, memory_bank_size=(32, 12), persistent=True)
    value_and_gradients(saved, *embeddings(2))
    resumed = NTXentLoss(0.1, memory_bank_size=(32, 12), persistent=True)
    resumed.load_state_dict(saved.state_dict())
    for seed in (1, 2):
        assert_equal(
            value_and_gradients(resumed, *embeddings(2, seed=seed)),
            value_and_gradients(saved, *embeddings(2, seed=seed)),
            rtol=0,
            atol=0,
        )


def test_state_dictionary_of_lightly():
    """Each loads the other's strictly, with a memory bank as well."""
    theirs = pytest.importorskip("lightly.loss").NTXentLoss(0.1, memory_bank_size=(32, 12))
    ours = NTXentLoss(0.1, memory_bank_size=(32, 12))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)


@pytest.mark.parametrize("temperature", [0, 0.0, 1e-9, -0.5, float("nan"), float("inf")])
def test_bad_temperature(temperature):
    with pytest.raises(UserError, match="above 0"):
        NTXentLoss(temperature)


@pytest.mark.parametrize(
    ("size", "message"),
    [(4096, r"\(4096, 128\)"), (-1, "0 or more"), ((-1, 5), "0 or more"), ((1, 2, 3), r"\(entries, dim\)")],
)
def test_bad_memory_bank_size(size, message):
    with pytest.raises(UserError, match=message):
        NTXentLoss(memory_bank_size=size)


@pytest.mark.parametrize(
    ("out0", "out1", "message"),
    [
        (torch.ones(3, 4), torch.ones(2, 4), "same shape"),
        (torch.ones(0, 4), torch.ones(0, 4), "empty"),
        (torch.ones(3, 4), torch.ones(3, 4).half(), "float16"),
        (torch.ones(3, 5), torch.ones(3, 5), r"memory_bank_size=\(8, 5\)"),
    ],
)
def test_bad_projections(out0, out1, message):
    with pytest.raises(UserError, match=message):
        NTXentLoss(memory_bank_size=(8, 4))(out0, out1)
