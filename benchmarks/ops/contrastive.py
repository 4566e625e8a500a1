"""NT-Xent of raw embeddings, forward and backward, beside lightly's loss, and the formula in plain PyTorch in two ways:
as cross-entropy, and as solo-learn writes it.

On a GPU also its core, the log-sum-exp over the negatives of unit rows, over sizes, depths and precisions, in effective
TFLOP/s: 6 N^2 d operations, those of the formula without its symmetry, over the time. The table's floor counts the
products that remain with it, at the measured bfloat16 rate; a case's name tells the floor of the exponentials. And
InfoNCE beside Inf-CL's loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.peers.solo_learn import simclr_loss_func
from benchmarks.run import Case, Setup
from sslfast.losses import InfoNCELoss, NTXentLoss
from sslfast.ops.nt_xent import negatives_logsumexp, unit_rows

TEMPERATURE = 0.5
MOST_DENSE_ROWS = 32768  # beyond, the N x N matrix of the peers does not fit
MOST_ROWS_OF_FLOAT32 = 65536  # more take seconds a call
EXPONENTIALS_A_CLOCK = 16  # of a multiprocessor, on every architecture from sm_80 on
Loss = Callable[[Tensor, Tensor], Tensor]


def cases(setup: Setup) -> Iterator[Case]:
    """Batches of a small, a usual and a large run; dimension 128, the projector's usual output."""
    for batch in (1024, 4096, 16384) if setup.device == "cuda" else (512, 4096):
        yield contrastive_case(setup, batch, dimension=128)
    if setup.device != "cuda":
        return
    for dimension in (128, 512):
        for rows in (1024, 4096, 16384, 32768, 65536, 262144):
            for precision in ("float32", "tf32", "bfloat16"):
                if precision == "bfloat16" or rows <= MOST_ROWS_OF_FLOAT32:
                    yield _core(rows, dimension, precision)
        yield _info_nce(16384, dimension)


def contrastive_case(setup: Setup, batch: int, dimension: int) -> Case:
    generator = torch.Generator().manual_seed(0)
    z0, z1 = (torch.randn(batch, dimension, generator=generator).to(setup.device).requires_grad_() for _ in range(2))
    rows = 2 * batch
    return Case(
        op="nt_xent",
        name=f"batch {batch}, dimension {dimension}, forward and backward, float32",
        unit="losses",
        count=1,
        contenders={
            "sslfast": lambda: _step(NTXentLoss(TEMPERATURE), z0, z1),
            "lightly": lambda: _step(_lightly(), z0, z1),
            "pytorch": lambda: _step(_plain, z0, z1),
            "pytorch, solo-learn's formula": lambda: _step(_solo_learn, z0, z1),
        },
        least_bytes=2 * 4 * rows * dimension,
        # Half of the symmetric similarities, and their product with the embeddings for the gradient. Storing nothing,
        # sslfast computes the similarities a second time.
        least_flops=3.0 * rows * rows * dimension,
        settings={"batch": batch, "dimension": dimension, "temperature": TEMPERATURE},
    )


def _core(rows: int, dimension: int, precision: str) -> Case:
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    generator = torch.Generator("cuda").manual_seed(0)
    unit = unit_rows(torch.randn(rows, dimension, generator=generator, device="cuda")).to(dtype).requires_grad_()
    weights = torch.full((rows,), 1 / rows, device="cuda")
    own = torch.arange(rows, device="cuda")
    excluded = torch.stack([own, own.roll(rows // 2)], dim=1)

    def step(logsumexp: Callable[[], Tensor]) -> object:
        before = torch.backends.cuda.matmul.fp32_precision
        torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        try:
            return torch.autograd.grad(logsumexp(), unit, weights)
        finally:
            torch.backends.cuda.matmul.fp32_precision = before

    def dense() -> Tensor:
        return (unit @ unit.T).float().div(TEMPERATURE).scatter(1, excluded, -torch.inf).logsumexp(1)

    ours = partial(negatives_logsumexp, unit, None, excluded, TEMPERATURE)
    contenders: dict[str, Callable[[], Callable[[], object]]] = {"sslfast": lambda: partial(step, ours)}
    if rows <= MOST_DENSE_ROWS:
        contenders["pytorch"] = lambda: partial(step, dense)
    exponentials = _exponentials_seconds(rows * rows / 2)
    return Case(
        op="negatives_logsumexp",
        name=f"N {rows}, d {dimension}, {precision}, forward and backward; exponentials >= {1e3 * exponentials:.3f} ms",
        unit="TFLOP",
        count=6e-12 * rows * rows * dimension,
        contenders=contenders,
        least_bytes=2 * unit.element_size() * rows * dimension,
        least_flops=3.0 * rows * rows * dimension,
        settings={
            "rows": rows,
            "dimension": dimension,
            "precision": precision,
            "temperature": TEMPERATURE,
            "floor_exponentials_seconds": exponentials,
        },
    )


def _exponentials_seconds(count: float) -> float:
    """Least time of `count` exponentials on this GPU at its highest clock."""
    gpu = torch.cuda.get_device_properties()
    return count / (EXPONENTIALS_A_CLOCK * gpu.multi_processor_count * gpu.clock_rate * 1e3)


def _info_nce(batch: int, dimension: int) -> Case:
    generator = torch.Generator("cuda").manual_seed(0)
    queries, keys = (
        functional.normalize(torch.randn(batch, dimension, generator=generator, device="cuda")).requires_grad_()
        for _ in range(2)
    )
    return Case(
        op="info_nce",
        name=f"batch {batch}, dimension {dimension}, forward and backward, float32",
        unit="TFLOP",
        # Similarities, and their products with both sides for the gradients; sslfast computes the similarities thrice.
        count=6e-12 * batch * batch * dimension,
        contenders={
            "sslfast": lambda: _step(InfoNCELoss(TEMPERATURE), queries, keys),
            "inf-cl": lambda: _step(_inf_cl(dimension), queries, keys),
        },
        least_bytes=4 * 4 * batch * dimension,
        least_flops=6.0 * batch * batch * dimension,
        settings={"batch": batch, "dimension": dimension, "temperature": TEMPERATURE},
    )


def _inf_cl(dimension: int) -> Loss:
    from inf_cl import cal_flash_loss

    # Its kernels take a depth of at most 256 at a time.
    return lambda queries, keys: cal_flash_loss(
        queries, keys, scale=1 / TEMPERATURE, head_dim=min(dimension, 256)
    ).mean()


def _step(loss: Loss, z0: Tensor, z1: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(loss(z0, z1), (z0, z1))


def _lightly() -> Loss:
    from lightly.loss import NTXentLoss as LightlyNTXentLoss

    return LightlyNTXentLoss(TEMPERATURE)


def _plain(z0: Tensor, z1: Tensor) -> Tensor:
    z = functional.normalize(torch.cat([z0, z1]), dim=1)
    similarity = (z @ z.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    positive = torch.arange(len(z), device=z.device).roll(len(z0))
    return functional.cross_entropy(similarity, positive)


def _solo_learn(z0: Tensor, z1: Tensor) -> Tensor:
    return simclr_loss_func(torch.cat([z0, z1]), torch.arange(len(z0), device=z0.device).repeat(2), TEMPERATURE)
