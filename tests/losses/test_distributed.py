"""gather_distributed: two processes against one that holds the whole batch."""

import os

import pytest
import torch
from torch import distributed, multiprocessing

from sslfast.losses import NTXentLoss
from sslfast.losses.distributed import gather_rows
from sslfast.ops.reference.nt_xent import nt_xent as dense

RANKS, BATCH, DEPTH, TEMPERATURE = 2, 11, 6, 0.2


def projections(rank):
    generator = torch.Generator().manual_seed(100 + rank)
    return torch.randn(2, BATCH, DEPTH, generator=generator).unbind()


def losses():
    """Losses to compare, by name; the same parameters on every rank."""
    found = {"ours": NTXentLoss(TEMPERATURE, gather_distributed=True)}
    try:
        from lightly.loss import NTXentLoss as LightlyLoss
    except ImportError:
        return found
    return found | {"lightly": LightlyLoss(TEMPERATURE, gather_distributed=True)}


def work(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    results = {}
    for name, loss in losses().items():
        out0, out1 = (out.requires_grad_() for out in projections(rank))
        value = loss(out0, out1)
        value.backward()
        results[name] = (value.detach(), out0.grad, out1.grad)
    bank = NTXentLoss(TEMPERATURE, memory_bank_size=(50, DEPTH), gather_distributed=True)
    bank(*(out.requires_grad_() for out in projections(rank)))
    results["bank"] = bank.memory_bank.bank[: RANKS * BATCH]
    rows = torch.full((2, 1), float(rank), requires_grad=True)
    gathered = gather_rows(rows)
    (gathered * torch.arange(4.0)[:, None] * (rank + 1)).sum().backward()
    results["gather"] = (gathered.detach().flatten(), rows.grad.flatten())
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    folder = tmp_path_factory.mktemp("ranks")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    multiprocessing.spawn(work, (str(folder),), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


def test_equals_one_process(results):
    """The mean of the ranks' losses is the loss of the whole batch, and DistributedDataParallel's average of gradients
    makes up for the factor of the number of ranks."""
    out0, out1 = (
        torch.cat(parts).double().requires_grad_() for parts in zip(*map(projections, range(RANKS)), strict=True)
    )
    whole = dense(out0, out1, TEMPERATURE)
    whole.backward()
    value = sum(result["ours"][0] for result in results) / RANKS
    torch.testing.assert_close(value.double(), whole.detach(), rtol=1e-6, atol=1e-6)
    for rank, result in enumerate(results):
        mine = slice(rank * BATCH, (rank + 1) * BATCH)
        torch.testing.assert_close(result["ours"][1].double() / RANKS, out0.grad[mine], rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(result["ours"][2].double() / RANKS, out1.grad[mine], rtol=1e-5, atol=1e-7)


def test_equals_lightly(results):
    pytest.importorskip("lightly")
    for result in results:
        for ours, theirs in zip(result["ours"], result["lightly"], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_memory_bank_holds_all_ranks(results):
    stored = torch.cat([torch.nn.functional.normalize(projections(rank)[1], dim=1) for rank in range(RANKS)])
    for result in results:
        torch.testing.assert_close(result["bank"], stored)


def test_gather_rows_sums_gradients(results):
    for rank, result in enumerate(results):
        gathered, grad = result["gather"]
        assert gathered.tolist() == [0, 0, 1, 1]
        assert grad.tolist() == [6 * rank, 6 * rank + 3]  # row k gets k from rank 0 and 2 k from rank 1
