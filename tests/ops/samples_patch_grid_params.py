"""Samples of `patch_grid_params`."""

import torch
from contract import Contract, Sample

from sslfast.augment import GridSpec, grids
from sslfast.ops.reference.patch_grid_params import patch_grid_params

# name, spec, channels, images, small
SPECS = [
    ("jigsaw", grids.jigsaw(32, permutations=24), 3, 20, True),
    ("relative_position", grids.relative_position(96, channel_drop=0.5), 3, 40, True),
    ("cpc", grids.cpc(32), 1, 5, True),
    ("reduced", grids.cpc(32).replace(reduce=0.5, reduce_factor=(2, 9)), 3, 7, True),
    ("many_channels", GridSpec((2, 1), 4, 5, jitter=3, channel_drop=0.7, channel_drop_count=(0, 32)), 32, 9, True),
    ("most_patches", GridSpec((66, 62), 1, 1, jitter=1), 3, 1, False),
    ("empty", grids.cpc(32), 3, 0, True),
]


def samples() -> list[Sample]:
    generator = torch.Generator().manual_seed(0)
    out = []
    for position, (name, spec, channels, images, small) in enumerate(SPECS):
        index = torch.randint(0, 2**62, (images,), generator=generator)
        index[:5] = torch.tensor([0, 1, 2**31, 2**32, 2**32 + 1])[:images]
        arrangements = torch.tensor(spec.arrangements) if spec.arrangements else None
        numbers = (spec.count, spec.jitter, spec.channel_drop, list(spec.channel_drop_count), channels)
        numbers += (spec.reduce, list(spec.reduce_factor))
        stream = (7 - 3 * position, 2**32 - 1 - position, 65535 - position)
        out.append(Sample(name, (index, arrangements, *numbers, *stream), small))
    return out


def reference(
    index, arrangements, patches, jitter, channel_drop, drop_count, channels, reduce, reduce_factor, seed, epoch, view
):
    spec = GridSpec(
        grid=(max(9, patches), 1),
        patch=1,
        stride=1,
        jitter=jitter,
        channel_drop=channel_drop,
        channel_drop_count=tuple(drop_count),
        reduce=reduce,
        reduce_factor=tuple(reduce_factor),
        arrangements=() if arrangements is None else tuple(map(tuple, arrangements.tolist())),
    )
    if arrangements is None:
        spec = spec.replace(grid=(patches, 1))
    return tuple(patch_grid_params(spec, index, seed, epoch, view, channels))


CONTRACT = Contract("patch_grid_params", reference, samples, atol=0.0, device_atol=0.0)
