"""Samples of `knn`."""

import torch
from contract import Contract, Sample

from sslfast.ops.reference.knn import knn


def whole_numbers(count, depth, generator, dtype):
    """Their products are exact in every precision, and often equal."""
    return torch.randint(-2, 3, (count, depth), generator=generator).to(dtype)


# name, queries, keys, depth, k, bias, dtype
SHAPES = [
    ("one", 1, 1, 1, 1, False, torch.float32),
    ("single", 70, 130, 9, 1, False, torch.float32),
    ("few", 7, 300, 12, 5, True, torch.float32),
    ("one_long", 1, 3000, 131, 3, True, torch.float32),
    ("few_deep", 6, 1100, 300, 20, False, torch.float32),
    ("few_half", 3, 200, 150, 9, True, torch.float16),
    ("few_double", 5, 150, 140, 4, True, torch.float64),
    ("odd", 65, 201, 33, 20, False, torch.float32),
    ("all", 30, 50, 7, 50, True, torch.float32),
    ("all_but_one", 30, 50, 7, 49, False, torch.float32),
    ("deep", 66, 500, 1100, 30, True, torch.float32),
    ("long", 20, 5000, 3, 100, False, torch.float32),
    ("many", 1500, 900, 130, 7, True, torch.float32),
    ("double", 66, 300, 20, 9, True, torch.float64),
    ("double_single", 66, 300, 20, 1, False, torch.float64),
    ("half", 70, 1200, 40, 11, True, torch.float16),
    ("bfloat16", 270, 400, 72, 60, False, torch.bfloat16),
]


def samples():
    generator = torch.Generator().manual_seed(0)
    out = []
    for name, rows, columns, depth, k, bias, dtype in SHAPES:
        queries = whole_numbers(rows, depth, generator, dtype)
        keys = whole_numbers(columns, depth, generator, dtype)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        added = whole_numbers(columns, 1, generator, wide).flatten() / 2 if bias else None
        out.append(Sample(name, (queries, keys, added, k)))
    return out


def reference(queries, keys, bias, k):
    return knn(queries.double(), keys.double(), k, None if bias is None else bias.double())


CONTRACT = Contract("knn", reference, samples, atol=0.0)
