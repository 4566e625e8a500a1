"""Samples of `reduce_resolution`."""

import torch
from contract import Contract, Sample

from sslfast.ops.reference.reduce_resolution import reduce_resolution

MOST = torch.iinfo(torch.int32).max

# name, images' shape, dtype, factors, small
SHAPES = [
    ("dividing", (3, 2, 8, 12), torch.float32, (2, 4, 1), True),
    ("not_dividing", (4, 3, 7, 11), torch.float32, (2, 3, 5, 10), True),
    ("extreme", (5, 1, 6, 5), torch.float32, (0, -MOST - 1, MOST, 6, 5), True),
    ("many_strips", (2, 1, 37, 3), torch.float32, (1, 2), True),
    ("uint8", (3, 3, 9, 10), torch.uint8, (2, 3, 1), True),
    ("float16", (2, 2, 8, 9), torch.float16, (4, 3), True),
    ("bfloat16", (2, 2, 8, 9), torch.bfloat16, (4, 3), True),
    ("float64", (2, 2, 8, 9), torch.float64, (4, 3), True),
    ("wide", (2, 1, 3, 700), torch.float32, (2, 300), False),
    ("patches", (98, 3, 64, 64), torch.float32, tuple(k % 9 for k in range(98)), False),
    ("no_images", (0, 3, 4, 4), torch.float32, (), True),
]


def samples():
    generator = torch.Generator().manual_seed(0)
    out = []
    for name, shape, dtype, factors, small in SHAPES:
        images = (torch.rand(shape, generator=generator) * (256 if dtype == torch.uint8 else 1)).to(dtype)
        out.append(Sample(name, (images, torch.tensor(factors, dtype=torch.int32)), small))
    return out


CONTRACT = Contract("reduce_resolution", reduce_resolution, samples, atol=1e-5, device_atol=0.0)
