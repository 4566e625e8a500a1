"""Samples of `augment_params`."""

import torch
from contract import Contract, Sample

from sslfast.augment import ViewSpec, presets
from sslfast.ops.augment_params import encode
from sslfast.ops.reference.augment_params import augment_params

SPECS = {
    "simclr": presets.simclr(224)[0],
    "simclr_small": presets.simclr(32)[0],
    "rotation": presets.rotation(32, 8)[3],
    "plain": presets.plain(96)[0],
    "noisy": presets.noisy(32, 0.1, 0.2, 0.3)[1],
    "everything": ViewSpec(
        size=(40, 60),
        crop_scale=(0.001, 1.0),
        crop_ratio=(0.1, 10.0),
        interpolation="bicubic",
        hflip=0.5,
        vflip=0.3,
        rotation=(0.0, 10.0, 20.0),
        rotation_zoom=1.5,
        jitter=0.5,
        brightness=2.0,
        contrast=0.3,
        saturation=1.0,
        hue=0.5,
        grayscale=0.5,
        blur=0.5,
        solarize=0.5,
        solarize_threshold=0.3,
        sobel=0.2,
        channel_drop=0.7,
        channel_drop_count=(1, 3),
        cutout=0.6,
    ),
    "rotation_range": ViewSpec(size=20, hflip=0.5, vflip=0.5, rotation_range=(-20.0, 35.5), rotation_probability=0.6),
    "rotation_now_and_then": ViewSpec(size=20, rotation=(90.0, 180.0, 270.0), rotation_probability=0.3),
    "from_nothing": ViewSpec(size=20, crop_scale=(0.0, 0.01), blur=1.0, blur_sigma=(0.0, 0.5)),
}


def samples() -> list[Sample]:
    generator = torch.Generator().manual_seed(0)
    out = []
    for k, (name, spec) in enumerate(SPECS.items()):
        count = 40
        index = torch.randint(0, 2**62, (count,), generator=generator)
        index[:5] = torch.tensor([0, 1, 2**31, 2**32, 2**32 + 1])
        sizes = torch.randint(1, 3000, (count, 2), generator=generator, dtype=torch.int32)
        sizes[:4] = torch.tensor([[1, 1], [1, 5000], [5000, 1], [32, 32]])
        out.append(Sample(name, (index, sizes, list(encode(spec)), 7 - 3 * k, 2**32 - 1 - k, 65535 - k)))
    generator = torch.Generator().manual_seed(1)
    index = torch.randint(0, 1000, (7,), generator=generator)
    sizes = torch.randint(1, 300, (7, 2), generator=generator, dtype=torch.int32)
    out.append(Sample("three_views", (index, sizes, list(encode(SPECS["everything"])), 3, 1, 65533, 3)))
    empty = (torch.empty(0, dtype=torch.int64), torch.empty(0, 2, dtype=torch.int32))
    out.append(Sample("empty", (*empty, list(encode(SPECS["simclr"])), 0, 0, 0)))
    return out


def reference(index, sizes, fields, seed, epoch, view, views=1):
    spec = next(spec for spec in SPECS.values() if list(encode(spec)) == fields)
    drawn = [augment_params(spec, index, sizes, seed, epoch, view + v) for v in range(views)]
    return tuple(torch.cat(parts) for parts in zip(*drawn, strict=True))


CONTRACT = Contract("augment_params", reference, samples, atol=0.0, device_atol=0.0)
