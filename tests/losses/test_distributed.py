"""gather_distributed: two and four processes against one that holds the whole batch."""

import importlib.util
import os
import warnings

import pytest
import torch
from losses.common import assert_equal, value_and_gradients
from torch import distributed, multiprocessing

from sslfast import losses
from sslfast.compat import solo
from sslfast.errors import UserError
from sslfast.losses.distributed import _host_group, gather_rows

BATCH, DEPTH, TEMPERATURE = 11, 6, 0.2


def projections(rank):
    generator = torch.Generator().manual_seed(100 + rank)
    return torch.randn(2, BATCH, DEPTH, generator=generator).unbind()


def labels(rank):
    """Some classes on several ranks, some on one."""
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
    found["InfoNCELoss symmetric"] = losses.InfoNCELoss(TEMPERATURE, gather, symmetric=True)
    found["solo simclr"] = lambda *out: solo.simclr_loss_func(torch.cat(out), labels.repeat(2), TEMPERATURE)
    found["solo nnclr"] = lambda nn, p: solo.nnclr_loss_func(nn, p, TEMPERATURE)
    found["solo vicreg"] = solo.vicreg_loss_func
    return found


def with_metrics(gather, temperature):
    """Losses with their metrics by name, which together equal one process."""
    supcon = losses.SupConLoss(temperature, gather)
    return {
        "SupConLoss": lambda out0, out1, metrics: supcon(torch.stack([out0, out1], 1), metrics=metrics),
        "NTXentLoss": losses.NTXentLoss(temperature, gather_distributed=gather),
        "DCLLoss": losses.DCLLoss(temperature, gather_distributed=gather),
        "InfoNCELoss": losses.InfoNCELoss(temperature, gather),
        "InfoNCELoss symmetric": losses.InfoNCELoss(temperature, gather, symmetric=True),
    }


def temperature_and_metrics(gather, out0, out1):
    """Gradient by the temperature, then the metrics, by name."""
    found = {}
    for name in with_metrics(gather, TEMPERATURE):
        temperature = torch.tensor(TEMPERATURE, dtype=out0.dtype, requires_grad=True)
        loss, metrics = with_metrics(gather, temperature)[name](out0, out1, metrics=True)
        loss.backward()
        found[name] = [temperature.grad, *metrics]
    return found


def largest_saved(loss, *tensors):
    """Elements of the largest tensor that the graph of a loss keeps."""
    sizes = []

    def pack(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss(*(tensor.clone().requires_grad_() for tensor in tensors)).backward()
    return max(sizes)


def every_loss(rank):
    """Value and gradients by name, of this rank."""
    found = in_lightly(losses, True) | like_one_process(True, labels(rank))
    if distributed.get_world_size() == 2 and importlib.util.find_spec("lightly"):
        import lightly.loss

        found |= {f"lightly {name}": loss for name, loss in in_lightly(lightly.loss, True).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lightly copies a tensor the way torch advises against
        return {name: value_and_gradients(loss, *projections(rank)) for name, loss in found.items()}


def unequal(rank):
    """Tensors that differ on the last rank: in rows, columns, dimensions and dtype."""
    ours = torch.ones(4, 3)
    if rank < distributed.get_world_size() - 1:
        return [ours] * 4
    return [torch.ones(5, 3), torch.ones(4, 2), torch.ones(4, 3, 1), ours.double()]


def refused(rows):
    try:
        gather_rows(rows)
    except UserError as error:
        return str(error)


def through_a_group_of_its_own(rows):
    """What is gathered where the ranks' group takes no tensor of the CPU."""
    found = distributed.get_backend_config
    _host_group.cache_clear()
    distributed.get_backend_config = lambda group: "cuda:nccl"
    try:
        return gather_rows(rows)
    finally:
        distributed.get_backend_config = found
        assert _host_group(distributed.group.WORLD) is not distributed.group.WORLD
        _host_group.cache_clear()


def work(rank, folder, ranks):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    results = every_loss(rank)
    results["temperature"] = temperature_and_metrics(True, *projections(rank))
    results["saved"] = largest_saved(losses.NTXentLoss(TEMPERATURE, gather_distributed=True), *projections(rank))
    bank = losses.NTXentLoss(TEMPERATURE, memory_bank_size=(50, DEPTH), gather_distributed=True)
    bank(*(out.requires_grad_() for out in projections(rank)))
    results["bank"] = bank.memory_bank.bank[: ranks * BATCH]
    rows = torch.full((2, 1), float(rank), requires_grad=True)
    gathered = gather_rows(rows)
    (gathered * torch.arange(2.0 * ranks)[:, None] * (rank + 1)).sum().backward()
    results["gather"] = (gathered.detach().flatten(), rows.grad.flatten())
    results["unequal"] = [refused(part) for part in unequal(rank)]
    gathered = gather_rows(rows.detach())  # ranks that were refused are still in step
    results["gather"] += (gathered.flatten(), through_a_group_of_its_own(rows.detach()).flatten())
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 4])
def results(tmp_path_factory, request):
    """What every rank found."""
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    folder = tmp_path_factory.mktemp("ranks")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    multiprocessing.spawn(work, (str(folder), request.param), nprocs=request.param)
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


def whole_batch(ranks):
    return [torch.cat(parts).double() for parts in zip(*map(projections, range(ranks)), strict=True)]


@pytest.mark.parametrize("name", like_one_process(False, None))
def test_equals_one_process(results, name):
    """The mean of the ranks' losses is the loss of the whole batch, and DistributedDataParallel's average of gradients
    makes up for the factor of the number of ranks."""
    ranks = len(results)
    whole_loss = like_one_process(False, torch.cat([labels(rank) for rank in range(ranks)]))[name]
    value, *gradients = value_and_gradients(whole_loss, *whole_batch(ranks))
    assert_equal([sum(result[name][0] for result in results) / ranks], [value])
    for rank, result in enumerate(results):
        mine = slice(rank * BATCH, (rank + 1) * BATCH)
        assert_equal([grad / ranks for grad in result[name][1:]], [grad[mine] for grad in gradients])


@pytest.mark.parametrize("name", with_metrics(False, TEMPERATURE))
def test_temperature_and_metrics_equal_one_process(results, name):
    """The mean over the ranks is that of the whole batch."""
    wanted = temperature_and_metrics(False, *whole_batch(len(results)))[name]
    found = [torch.stack(parts).mean() for parts in zip(*(r["temperature"][name] for r in results), strict=True)]
    assert_equal(found, wanted)


def test_no_rank_keeps_a_matrix_of_similarities(results):
    rows = 2 * BATCH * len(results)
    for result in results:
        assert result["saved"] <= rows * DEPTH < 2 * BATCH * rows


@pytest.mark.parametrize("name", in_lightly(losses, False))
def test_equals_lightly(results, name):
    pytest.importorskip("lightly")
    if len(results) > 2:
        pytest.skip("compared with two ranks")
    for result in results:
        assert_equal(result[name], result[f"lightly {name}"])


def test_memory_bank_holds_all_ranks(results):
    batches = [torch.nn.functional.normalize(projections(rank)[1], dim=1) for rank in range(len(results))]
    stored = torch.cat(batches)
    for result in results:
        torch.testing.assert_close(result["bank"], stored)


def test_gather_rows_sums_gradients(results):
    factors = sum(rank + 1 for rank in range(len(results)))  # rank r sends r + 1 times the number of the row
    for rank, result in enumerate(results):
        gathered, grad, *again = result["gather"]
        assert gathered.tolist() == [rank for rank in range(len(results)) for _ in range(2)]
        assert all(torch.equal(other, gathered) for other in again)
        assert grad.tolist() == [factors * 2 * rank, factors * (2 * rank + 1)]


def test_every_rank_refuses_unequal_shapes(results):
    last = len(results) - 1
    others = ", ".join(map(str, range(last)))
    for result in results:
        shapes = ["(5, 3) torch.float32", "(4, 2) torch.float32", "(4, 3, 1) torch.float32", "(4, 3) torch.float64"]
        for message, shape in zip(result["unequal"], shapes, strict=True):
            assert f"(4, 3) torch.float32 on {others}; {shape} on {last}" in message and "drop_last=True" in message


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
