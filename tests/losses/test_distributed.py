"""gather_distributed: two processes against one that holds the whole batch."""

import os
import warnings

import pytest
import torch
from losses.common import assert_equal, value_and_gradients
from torch import distributed, multiprocessing

from sslfast import losses
from sslfast.errors import UserError
from sslfast.losses.distributed import gather_rows

RANKS, BATCH, DEPTH, TEMPERATURE = 2, 11, 6, 0.2


def projections(rank):
    generator = torch.Generator().manual_seed(100 + rank)
    return torch.randn(2, BATCH, DEPTH, generator=generator).unbind()


def labels(rank):
    """Some classes on both ranks, some on one."""
    return (torch.arange(BATCH) % 5 + 2 * rank) * 10


def in_lightly(module, gather):
    """Losses of two views by name, from a module that is lightly's or like it."""
    swav = module.SwaVLoss(sinkhorn_gather_distributed=gather)
    dino = module.DINOLoss(DEPTH)

    def dino_with_moved_center(out0, out1):
        dino([out0.detach(), out1.detach()], [out0.detach(), out1.detach()])
        return dino([out0, out1], [out0, out1])

    return {
        "NTXentLoss": module.NTXentLoss(TEMPERATURE, gather_distributed=gather),
        "DCLLoss": module.DCLLoss(TEMPERATURE, gather_distributed=gather),
        "DCLWLoss": module.DCLWLoss(TEMPERATURE, gather_distributed=gather),
        "BarlowTwinsLoss": module.BarlowTwinsLoss(gather_distributed=gather),
        "VICRegLoss": module.VICRegLoss(gather_distributed=gather),
        "SwaVLoss": lambda out0, out1: swav([out0, out1], []).squeeze(),
        "DINOLoss": dino_with_moved_center,
    }


def like_one_process(gather, labels):
    """Losses of two views by name whose ranks together equal one process; the weights of DCLW and the standardisation
    of Barlow Twins are the rank's."""
    found = in_lightly(losses, gather)
    del found["DCLWLoss"], found["BarlowTwinsLoss"]
    supcon, info_nce = losses.SupConLoss(TEMPERATURE, gather), losses.InfoNCELoss(TEMPERATURE, gather)
    found["SupConLoss"] = lambda out0, out1: supcon(torch.stack([out0, out1], 1), labels)
    found["SupConLoss without labels"] = lambda out0, out1: supcon(torch.stack([out0, out1], 1))
    found["InfoNCELoss"] = info_nce
    return found


def every_loss(rank):
    """Value and gradients by name, of this rank."""
    found = in_lightly(losses, True) | like_one_process(True, labels(rank))
    try:
        import lightly.loss
    except ImportError:
        pass
    else:
        found |= {f"lightly {name}": loss for name, loss in in_lightly(lightly.loss, True).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lightly copies a tensor the way torch advises against
        return {name: value_and_gradients(loss, *projections(rank)) for name, loss in found.items()}


def work(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    results = every_loss(rank)
    bank = losses.NTXentLoss(TEMPERATURE, memory_bank_size=(50, DEPTH), gather_distributed=True)
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


@pytest.mark.parametrize("name", like_one_process(False, None))
def test_equals_one_process(results, name):
    """The mean of the ranks' losses is the loss of the whole batch, and DistributedDataParallel's average of gradients
    makes up for the factor of the number of ranks."""
    ranks = range(RANKS)
    whole_loss = like_one_process(False, torch.cat([labels(rank) for rank in ranks]))[name]
    batch = [torch.cat(parts).double() for parts in zip(*map(projections, ranks), strict=True)]
    value, *gradients = value_and_gradients(whole_loss, *batch)
    assert_equal([sum(result[name][0] for result in results) / RANKS], [value])
    for rank, result in enumerate(results):
        mine = slice(rank * BATCH, (rank + 1) * BATCH)
        assert_equal([grad / RANKS for grad in result[name][1:]], [grad[mine] for grad in gradients])


@pytest.mark.parametrize("name", in_lightly(losses, False))
def test_equals_lightly(results, name):
    pytest.importorskip("lightly")
    for result in results:
        assert_equal(result[name], result[f"lightly {name}"])


def test_memory_bank_holds_all_ranks(results):
    stored = torch.cat([torch.nn.functional.normalize(projections(rank)[1], dim=1) for rank in range(RANKS)])
    for result in results:
        torch.testing.assert_close(result["bank"], stored)


def test_gather_rows_sums_gradients(results):
    for rank, result in enumerate(results):
        gathered, grad = result["gather"]
        assert gathered.tolist() == [0, 0, 1, 1]
        assert grad.tolist() == [6 * rank, 6 * rank + 3]  # row k gets k from rank 0 and 2 k from rank 1


@pytest.mark.parametrize(
    ("name", "option"),
    [(name, "gather_distributed") for name in ("NTXentLoss", "DCLLoss", "DCLWLoss", "SupConLoss", "InfoNCELoss")]
    + [(name, "gather_distributed") for name in ("BarlowTwinsLoss", "VICRegLoss")]
    + [("SwaVLoss", "sinkhorn_gather_distributed")],
)
def test_torch_without_distributed(monkeypatch, name, option):
    monkeypatch.setattr(distributed, "is_available", lambda: False)
    with pytest.raises(UserError, match="distributed support"):
        getattr(losses, name)(**{option: True})
    getattr(losses, name)()
