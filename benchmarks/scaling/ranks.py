"""How the cost of NT-Xent over the batches of all ranks grows with the ranks: one process a rank, gloo or NCCL."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import multiprocessing

from benchmarks.run import Case, Setup

BATCH = 512  # of one rank
DIMENSION = 128


def cases(setup: Setup) -> Iterator[Case]:
    """One, two and four ranks, as many as there are GPUs; on a CPU they share its cores."""
    most = torch.cuda.device_count() if setup.device == "cuda" else 4
    for ranks in (1, 2, 4):
        if ranks > most:
            return
        yield Case(
            op="nt_xent",
            name=f"{ranks} ranks, batch {BATCH} each, dimension {DIMENSION}, forward and backward",
            unit="losses",
            count=1,
            contenders={
                library: lambda library=library, ranks=ranks: _Ranks(library, ranks, setup)
                for library in ("sslfast", "lightly")
            },
            settings={"ranks": ranks, "batch": BATCH, "dimension": DIMENSION},
            axis="ranks",
            in_process=False,
        )


class _Ranks:
    """Processes of one group that wait for a call; a call makes a step on all of them."""

    def __init__(self, library: str, ranks: int, setup: Setup) -> None:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        context = multiprocessing.get_context("spawn")
        self.pipes: list[Connection] = []
        threads = max(1, setup.threads // ranks)
        for rank in range(ranks):
            here, there = context.Pipe()
            context.Process(
                target=_rank, args=(there, library, rank, ranks, port, setup.device, threads), daemon=True
            ).start()
            self.pipes.append(here)

    def __call__(self) -> None:
        for pipe in self.pipes:
            pipe.send(True)
        for pipe in self.pipes:
            pipe.recv()

    def __del__(self) -> None:
        for pipe in self.pipes:
            pipe.close()  # ends the process


def _rank(pipe: Connection, library: str, rank: int, ranks: int, port: int, device: str, threads: int) -> None:
    torch.set_num_threads(threads)
    if device == "cuda":
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo", f"tcp://localhost:{port}", rank=rank, world_size=ranks
    )
    generator = torch.Generator().manual_seed(rank)
    z0, z1 = (torch.randn(BATCH, DIMENSION, generator=generator).to(device).requires_grad_() for _ in range(2))
    loss = _loss(library)
    try:
        while True:
            pipe.recv()
            torch.autograd.grad(loss(z0, z1), (z0, z1))
            if device == "cuda":
                torch.cuda.synchronize()
            pipe.send(True)
    except EOFError:
        torch.distributed.destroy_process_group()


def _loss(library: str) -> Callable[..., Any]:
    if library == "sslfast":
        from sslfast.losses import NTXentLoss

        return NTXentLoss(0.5, gather_distributed=True)
    from lightly.loss import NTXentLoss as LightlyNTXentLoss

    return LightlyNTXentLoss(0.5, gather_distributed=True)
