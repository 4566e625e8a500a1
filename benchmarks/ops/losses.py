"""Every loss at small batches, where calls cost more than sums do, and those over prototypes at their usual size.

Forward and backward, beside lightly's, pytorch-metric-learning's, and plain PyTorch where a user would write that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.run import Case, Setup
from sslfast import losses

FULL = 2  # crops at full resolution
DIMENSION = 128
QUEUE = 4096
TEMPERATURE = 0.1
Step = Callable[[], object]


def cases(setup: Setup) -> Iterator[Case]:
    """Two full crops and six small ones, with the papers' prototypes of SwAV and a tenth of DINO's outputs."""
    scale = 4 if setup.device == "cuda" else 1
    yield _of_crops(setup, "SwaVLoss", 256 * scale, 3000, 8)
    yield _of_crops(setup, "DINOLoss", 64 * scale, 6554, 8)


def batches(setup: Setup) -> Iterator[Case]:
    """Batches from 32 on at dimension 128."""
    for batch in (32, 128, 512):
        yield from _of_views(setup, batch)
        yield from _of_labels(setup, batch)
        yield _of_crops(setup, "SwaVLoss", batch, DIMENSION, FULL)
        yield _of_crops(setup, "DINOLoss", batch, DIMENSION, FULL)


def _of_views(setup: Setup, batch: int) -> Iterator[Case]:
    a, b = (rows.requires_grad_() for rows in _random(setup, 2, batch, DIMENSION))
    target, queue = b.detach(), _random(setup, 1, QUEUE, DIMENSION)[0]

    def both(name: str, *inputs: Tensor, **options: Any) -> dict[str, Callable[[], Step]]:
        return {
            "sslfast": lambda: _step(getattr(losses, name)(**options).to(setup.device), inputs),
            "lightly": lambda: _step(getattr(_lightly(), name)(**options).to(setup.device), inputs),
        }

    def info_nce(plain: Callable[..., Tensor], *inputs: Tensor, **options: Any) -> dict[str, Callable[[], Step]]:
        return {
            "sslfast": lambda: _step(losses.InfoNCELoss(TEMPERATURE, **options), inputs),
            "pytorch": lambda: _step(plain, inputs),
        }

    yield _small("InfoNCELoss", batch, info_nce(_plain_info_nce, a, b))
    yield _small("InfoNCELoss", batch, info_nce(_plain_both_ways, a, b, symmetric=True), "both ways")
    yield _small("InfoNCELoss", batch, info_nce(_plain_queue, a, target, queue), f"{QUEUE} given negatives")
    bank = {"temperature": TEMPERATURE, "memory_bank_size": (QUEUE, DIMENSION)}
    yield _small("NTXentLoss", batch, both("NTXentLoss", a, target, **bank), f"memory bank of {QUEUE}")
    for name in ("DCLLoss", "DCLWLoss", "BarlowTwinsLoss", "VICRegLoss"):
        yield _small(name, batch, both(name, a, b))
    yield _small("NegativeCosineSimilarity", batch, both("NegativeCosineSimilarity", a, target))


def _of_labels(setup: Setup, batch: int) -> Iterator[Case]:
    rows = _random(setup, 1, batch, DIMENSION)[0].requires_grad_()
    labels = torch.arange(batch, device=setup.device) % max(batch // 8, 2)

    def step(loss: Callable[..., Tensor]) -> Step:
        return _step(lambda rows: loss(rows, labels), (rows,))

    def supcon() -> Step:
        from pytorch_metric_learning.losses import SupConLoss

        return step(SupConLoss(TEMPERATURE))

    def triplet(mining: str) -> Step:
        from pytorch_metric_learning import losses as theirs
        from pytorch_metric_learning import miners

        hard = mining == "hard"
        miner = miners.BatchHardMiner() if hard else miners.TripletMarginMiner(margin=0.2, type_of_triplets=mining)
        loss = theirs.TripletMarginLoss(margin=0.2)
        return step(lambda rows, labels: loss(rows, labels, miner(rows, labels)))

    ours = {"sslfast": lambda: step(losses.SupConLoss(TEMPERATURE))}
    yield _small("SupConLoss", batch, ours | {"pytorch-metric-learning": supcon})
    for mining in ("hard", "semihard"):
        mined = {
            "sslfast": lambda mining=mining: step(losses.TripletLoss(0.2, mining)),
            "pytorch-metric-learning": lambda mining=mining: triplet(mining),
        }
        yield _small("TripletLoss", batch, mined, mining)


def _of_crops(setup: Setup, name: str, batch: int, dimension: int, count: int) -> Case:
    crops = [crop.div(4).requires_grad_() for crop in _random(setup, count, batch, dimension)]
    arguments = (dimension,) if name == "DINOLoss" else ()
    call = _swav if name == "SwaVLoss" else _dino

    def contender(loss: nn.Module) -> Step:
        loss = loss.to(setup.device)
        return lambda: torch.autograd.grad(call(loss, crops), crops)

    return Case(
        op=name,
        name=f"batch {batch}, dimension {dimension}, {count} crops, forward and backward, float32",
        unit="losses",
        count=1,
        contenders={
            "sslfast": lambda: contender(getattr(losses, name)(*arguments)),
            "lightly": lambda: contender(getattr(_lightly(), name)(*arguments)),
        },
        least_bytes=2.0 * 4 * count * batch * dimension,  # reads the scores and writes their gradients
        settings={"batch": batch, "dimension": dimension, "crops": count},
    )


def _small(op: str, batch: int, contenders: dict[str, Callable[[], Step]], kind: str = "") -> Case:
    return Case(
        op=op,
        name=f"batch {batch}, dimension {DIMENSION}, {f'{kind}, ' if kind else ''}forward and backward, float32",
        unit="losses",
        count=1,
        contenders=contenders,
        settings={"batch": batch, "dimension": DIMENSION} | ({"kind": kind} if kind else {}),
    )


def _random(setup: Setup, count: int, batch: int, dimension: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, dimension, generator=generator).to(setup.device) for _ in range(count)]


def _step(loss: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Step:
    leaves = [rows for rows in inputs if rows.requires_grad]
    return lambda: torch.autograd.grad(loss(*inputs), leaves)


def _plain_info_nce(queries: Tensor, positives: Tensor) -> Tensor:
    queries, positives = functional.normalize(queries, dim=1), functional.normalize(positives, dim=1)
    return functional.cross_entropy(
        queries @ positives.T / TEMPERATURE, torch.arange(len(queries), device=queries.device)
    )


def _plain_both_ways(queries: Tensor, positives: Tensor) -> Tensor:
    queries, positives = functional.normalize(queries, dim=1), functional.normalize(positives, dim=1)
    logits, own = queries @ positives.T / TEMPERATURE, torch.arange(len(queries), device=queries.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def _plain_queue(queries: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    queries, positives, negatives = (functional.normalize(rows, dim=1) for rows in (queries, positives, negatives))
    logits = torch.cat([(queries * positives).sum(1, keepdim=True), queries @ negatives.T], 1) / TEMPERATURE
    return functional.cross_entropy(logits, torch.zeros(len(queries), dtype=torch.long, device=queries.device))


def _swav(loss: Any, crops: list[Tensor]) -> Tensor:
    return loss(crops[:FULL], crops[FULL:]).sum()


def _dino(loss: Any, crops: list[Tensor]) -> Tensor:
    return loss([crop.detach() for crop in crops[:FULL]], crops, epoch=0)


def _lightly() -> Any:
    import lightly.loss

    return lightly.loss
