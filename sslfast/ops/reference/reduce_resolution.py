"""reduce_resolution by slicing, block by block."""

from __future__ import annotations

import torch
from torch import Tensor


def reduce_resolution(images: Tensor, factors: Tensor) -> Tensor:
    """Same arguments and result as `sslfast.ops.reduce_resolution`; floats in float64."""
    results = []
    for image, factor in zip(images.double(), factors.tolist(), strict=True):
        result, side = image.clone(), max(1, factor)
        for top in range(0, image.shape[1], side):
            for left in range(0, image.shape[2], side):
                block = slice(None), slice(top, top + side), slice(left, left + side)
                result[block] = image[block].mean((1, 2), keepdim=True)
        results.append(result)
    result = torch.stack(results) if results else images.double()
    return (result + 0.5).floor().byte() if images.dtype == torch.uint8 else result
