"""MemoryBankModule: what it hands out, what it stores."""

import pytest
import torch

from sslfast.errors import UserError
from sslfast.losses import MemoryBankModule, NNMemoryBankModule


def rows(*values):
    return torch.tensor(values, dtype=torch.float32)[:, None].repeat(1, 3)


def test_first_in_first_out_with_the_remainder_dropped():
    bank = MemoryBankModule((5, 3), feature_dim_first=False)
    torch.testing.assert_close(bank.bank.norm(dim=1), torch.ones(5))
    before = bank.bank.clone()
    output, entries = bank(rows(1, 2), update=True)
    assert torch.equal(output, rows(1, 2)) and torch.equal(entries, before)
    assert torch.equal(bank(rows(3, 4), update=True)[1], torch.cat([rows(1, 2), before[2:]]))
    assert torch.equal(bank(rows(5, 6), update=True)[1], torch.cat([rows(1, 2, 3, 4), before[4:]]))
    assert torch.equal(bank(rows(7, 8), update=True)[1], rows(1, 2, 3, 4, 5))  # 6 did not fit
    assert torch.equal(bank(rows(9, 9))[1], rows(7, 8, 3, 4, 5))
    assert torch.equal(bank.bank, rows(7, 8, 3, 4, 5))  # without update nothing is stored


def test_batch_larger_than_the_bank():
    bank = MemoryBankModule((2, 3))
    bank(rows(1, 2, 3), update=True)
    assert torch.equal(bank.bank, rows(1, 2)) and bank.bank_ptr.item() == 0


def test_entries_are_a_copy_without_gradient():
    bank = MemoryBankModule((4, 3))
    entries = bank(rows(1, 2).requires_grad_(), update=True)[1]
    assert entries.shape == (3, 4) and not entries.requires_grad and not bank.bank.requires_grad
    before = entries.clone()
    bank(rows(3, 4), update=True)
    assert torch.equal(entries, before)


@pytest.mark.parametrize("size", [0, (0, 3)])
def test_size_zero_is_off(size):
    bank = MemoryBankModule(size)
    output = rows(1)
    given, entries = bank(output, update=True)
    assert given is output and entries is None


def test_other_dimension():
    with pytest.raises(UserError, match=r"\(4, 2\)"):
        MemoryBankModule((4, 3))(torch.ones(1, 2))


def test_neighbours_equal_lightly():
    theirs_class = pytest.importorskip("lightly.models.modules").NNMemoryBankModule
    torch.manual_seed(0)
    theirs = theirs_class((50, 6))
    torch.manual_seed(0)
    ours = NNMemoryBankModule((50, 6))
    for seed in range(6):
        output = 3 * torch.randn(19, 6, generator=torch.Generator().manual_seed(seed))
        for update in (False, True):
            torch.testing.assert_close(ours(output, update=update), theirs(output, update=update))
        torch.testing.assert_close(ours.bank, theirs.bank)


@pytest.mark.parametrize("batch", [3, 8, 11])
def test_positions_on_the_device_store_the_same(batch, monkeypatch):
    """What a GPU does, which no number on the host tells where to write."""
    host = MemoryBankModule((8, 2))
    device = MemoryBankModule((8, 2))
    device.bank.copy_(host.bank)
    for step in range(7):
        output = torch.randn(batch, 2, generator=torch.Generator().manual_seed(step))
        host(output, update=True)
        with monkeypatch.context() as patch:
            patch.setattr("sslfast.losses.memory_bank.in_one_op", lambda rows: False)
            device(output, update=True)
        assert torch.equal(host.bank, device.bank) and torch.equal(host.bank_ptr, device.bank_ptr)


def test_neighbours_are_the_nearest_by_cosine():
    bank = NNMemoryBankModule((4, 2))
    bank.bank.copy_(torch.tensor([[10.0, 10], [0, 1], [-1, 0], [0, 1]]))
    output = torch.tensor([[2.0, 2.1], [0.1, 5], [-3, 1], [0, 0]], requires_grad=True)
    found = bank(output)
    assert found.tolist() == [[10, 10], [0, 1], [-1, 0], [10, 10]] and not found.requires_grad
    assert torch.equal(bank(output.detach().bfloat16(), update=True), found)
    torch.testing.assert_close(bank.bank, output.detach().bfloat16().float())


@pytest.mark.parametrize("size", [0, (0, 3)])
def test_neighbours_need_a_bank(size):
    with pytest.raises(UserError, match="at least 1 entry"):
        NNMemoryBankModule(size)


def test_neighbours_of_another_dimension():
    with pytest.raises(UserError, match=r"\(4, 2\)"):
        NNMemoryBankModule((4, 3))(torch.ones(1, 2))
