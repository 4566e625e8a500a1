"""patch_grid_params in plain Python, one image at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from sslfast.augment.grids import GridSpec
from sslfast.ops.patch_grid_params import PatchGridParams
from sslfast.ops.reference.philox import philox


def patch_grid_params(
    spec: GridSpec, index: Tensor, seed: int = 0, epoch: int = 0, view: int = 0, channels: int = 3
) -> PatchGridParams:
    """Same arguments and result as `sslfast.ops.patch_grid_params`."""
    orders, offsets, dropped, chosen, reduced = [], [], [], [], []
    for i in index.tolist():

        def uniform(slot: int, i: int = i) -> list[float]:
            return [
                int(w) * 2.0**-32
                for w in philox(seed, (slot | view << 16, epoch, i & 0xFFFFFFFF, i >> 32 & 0xFFFFFFFF))
            ]

        chosen.append(int(uniform(32)[0] * len(spec.arrangements)))
        orders.append(spec.arrangements[chosen[-1]] if spec.arrangements else range(spec.count))
        places, drops, factors = [], [], []
        for k in range(spec.count):
            down, right, gate, number = uniform(64 + 16 * k)
            places.append([int(down * (spec.jitter + 1)), int(right * (spec.jitter + 1))])
            bits = 0
            if gate < spec.channel_drop:
                least, most = spec.channel_drop_count
                left = min(channels, least + int(number * (most - least + 1)))
                for c in range(channels):
                    if uniform(64 + 16 * k + 1 + c // 4)[c % 4] * (channels - c) < left:
                        bits, left = bits | 1 << c, left - 1
            drops.append(bits)
            loses, factor = uniform(64 + 16 * k + 9)[:2]
            least, most = spec.reduce_factor
            factors.append(least + int(factor * (most - least + 1)) if loses < spec.reduce else 1)
        reduced.append(factors)
        offsets.append(places)
        dropped.append(drops)
    count = spec.count
    return PatchGridParams(
        torch.tensor([list(order) for order in orders], dtype=torch.int64).view(-1, count),
        torch.tensor(offsets, dtype=torch.int32).view(-1, count, 2),
        torch.tensor(dropped, dtype=torch.int64).view(-1, count).to(torch.int32),  # bit 31 is the sign
        torch.tensor(chosen, dtype=torch.int64),
        torch.tensor(reduced, dtype=torch.int32).view(-1, count),
    )
