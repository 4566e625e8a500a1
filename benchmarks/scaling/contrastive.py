"""How the cost of NT-Xent grows with the batch and with the dimension."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.ops.contrastive import contrastive_case
from benchmarks.run import Case, Setup

MATRICES = 6  # N x N float32 tensors that a plain implementation holds at its peak, measured
DIMENSION = 128
BATCH = 1024


def cases(setup: Setup) -> Iterator[Case]:
    """Batches of 2^5 to 2^15 at dimension 128, and dimensions of 64 to 1024 at a batch of 1024."""
    for exponent in range(5, 16, 2 if setup.device == "cpu" else 1):
        case = contrastive_case(setup, 2**exponent, DIMENSION)
        case.axis = "batch"
        if MATRICES * 4 * (2 * 2**exponent) ** 2 > setup.memory_bytes / 2:
            case.contenders = {"sslfast": case.contenders["sslfast"]}  # the others need more memory than there is
        yield case
    for dimension in (64, 128, 256, 512, 1024):
        case = contrastive_case(setup, BATCH, dimension)
        case.axis = "dimension"
        yield case
