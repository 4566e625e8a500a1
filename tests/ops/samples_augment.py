"""Samples of `augment`: ragged batches with drawn and with extreme parameters."""

import torch
from contract import Contract, Sample

from sslfast.augment import ViewSpec, presets
from sslfast.data.batch import ImageBatch
from sslfast.ops import AUGMENT_COLUMNS, augment_params
from sslfast.ops.reference.augment import augment

SMALL_SIZES = [(1, 1), (1, 9), (5, 7), (13, 4), (32, 32)]


def ragged(sizes: list[tuple[int, int]], channels: int = 3, seed: int = 0) -> ImageBatch:
    generator = torch.Generator().manual_seed(seed)
    return ImageBatch.from_list(
        [torch.randint(0, 256, (h, w, channels), generator=generator, dtype=torch.uint8) for h, w in sizes]
    )


def arguments(batch: ImageBatch, params, keys, spec: ViewSpec, dtype=torch.float32, channels_last=False) -> tuple:
    """Raw arguments of the op."""
    tables = (batch.storage, batch.offsets, batch.sizes, params, keys)
    return (*tables, *spec.shape, batch.channels, list(spec.mean), list(spec.std), dtype, channels_last)


def drawn(batch: ImageBatch, spec: ViewSpec, dtype=torch.float32, channels_last=False, epoch=0) -> tuple:
    params, keys = augment_params(spec, batch.index, batch.sizes, 11, epoch, 0)
    return arguments(batch, params, keys, spec, dtype, channels_last)


def rows(batch: ImageBatch, spec: ViewSpec, **columns: float) -> tuple:
    """Rows that do nothing but what `columns` say."""
    params, keys = augment_params(spec, batch.index, batch.sizes, 5, 0, 0)
    for name, value in columns.items():
        params[:, AUGMENT_COLUMNS.index(name)] = value
    return arguments(batch, params, keys, spec)


def samples() -> list[Sample]:
    small = ragged(SMALL_SIZES)
    plain = presets.plain(12)[0].replace(mean=(0.0,), std=(1.0,))
    strong = presets.simclr(12, 1.0)[0].replace(blur=1.0, blur_kernel=5, solarize=0.5, jitter=1.0)
    several = plain.replace(blur=1.0, blur_kernel=9, solarize=0.5, noise_salt_pepper=0.1)
    wide_blur = strong.replace(blur_kernel=23, blur_sigma=(1.9, 2.0))
    out = [
        Sample("plain", drawn(small, plain)),
        Sample("identity", drawn(ragged([(12, 12)]), plain)),
        Sample("odd_view", drawn(small, strong.replace(size=(7, 11)), epoch=1)),
        Sample("one_pixel_view", drawn(small, strong.replace(size=1))),
        Sample("rotation", drawn(small, presets.rotation(9, 4)[1])),
        Sample("rotation_zoom", drawn(small, presets.rotation(10, 8)[3])),
        Sample("bicubic", drawn(small, strong.replace(interpolation="bicubic", blur=0.0))),
        Sample("vertical_flip", drawn(small, plain.replace(vflip=1.0))),
        Sample("sobel", drawn(small, plain.replace(sobel=1.0))),
        Sample("channel_drop", drawn(small, strong.replace(channel_drop=0.8, channel_drop_count=(1, 2)))),
        Sample("cutout", drawn(small, strong.replace(cutout=1.0, size=(10, 13)))),
        Sample("noise", drawn(small, presets.noisy(9, 0.1, 0.2, 0.1)[1])),
        Sample("gray", drawn(ragged(SMALL_SIZES, 1), strong.replace(mean=(0.5,), std=(0.2,)))),
        Sample("rotation_30", drawn(ragged([(9, 9)] * 2), strong.replace(size=46, rotation=(30.0,)))),
        Sample("views_48", drawn(ragged([(50, 40), (9, 90)]), strong.replace(size=48)), small=False),
        Sample("tiles", drawn(ragged([(3, 30)]), strong.replace(size=(2, 520), blur=0.0))),
        Sample("tall", drawn(ragged([(120, 90)]), wide_blur.replace(size=(100, 20)))),
        Sample("odd_large", drawn(ragged([(40, 50)]), strong.replace(size=(61, 33)))),
        Sample("sobel_wide", drawn(ragged([(5, 40)]), strong.replace(size=(3, 400), sobel=1.0))),
        Sample("wide", drawn(ragged([(5, 40)]), wide_blur.replace(size=(1, 12600)))),
        Sample("long", drawn(ragged([(40, 5)]), wide_blur.replace(size=(6300, 1)), channels_last=True)),
        Sample("sobel_noise", drawn(small, strong.replace(size=(10, 12), sobel=1.0, noise_masking=0.2))),
        Sample(
            "gray_blur", drawn(ragged([(20, 15)], 1), presets.plain(20)[0].replace(blur=1.0, mean=(0.5,), std=(0.2,)))
        ),
        Sample("channels_4", drawn(ragged([(9, 14)], 4), several)),
        Sample("wide_16", drawn(ragged([(2, 30)], 16), several.replace(size=(2, 1600)))),
        Sample("channels_16", drawn(ragged([(9, 14)], 16), several.replace(size=(13, 8), sobel=1.0))),
        Sample("photo", drawn(ragged([(300, 400), (640, 480)]), presets.simclr(224)[0].replace(blur=1.0)), small=False),
        Sample("empty", drawn(small.select(torch.empty(0, dtype=torch.int64)), plain)),
    ]
    for epoch in range(2):
        out.append(Sample(f"simclr_{epoch}", drawn(small, strong, epoch=epoch)))
        out.append(Sample(f"simclr_32_{epoch}", drawn(small, presets.simclr(32)[0], epoch=epoch), small=False))
    for dtype in (torch.float16, torch.bfloat16):
        out.append(Sample(f"{dtype}"[6:], drawn(small, strong, dtype)))
        out.append(Sample(f"{dtype}_channels_last"[6:], drawn(small, strong, dtype, channels_last=True)))
        tall = drawn(ragged([(50, 70)]), strong.replace(size=(80, 28)), dtype, channels_last=dtype == torch.float16)
        out.append(Sample(f"{dtype}_tall"[6:], tall))
        sobel = strong.replace(size=(3, 400), sobel=1.0)
        out.append(Sample(f"{dtype}_sobel_wide"[6:], drawn(ragged([(5, 40)]), sobel, dtype)))
    # Views of bfloat16 whose blur runs on tensor cores: borders within tiles, one strip, more steps behind the blur.
    for name, size, more, channels_last in (
        ("strips", (40, 56), {}, False),
        ("strips_channels_last", (72, 24), {}, True),
        ("one_strip", (13, 128), {}, True),
        ("strips_noise", (32, 56), {"noise_masking": 0.2}, False),
        ("strips_sobel", (50, 40), {"sobel": 1.0}, True),
    ):
        spec = wide_blur.replace(size=size, **more)
        out.append(Sample(f"bfloat16_{name}", drawn(ragged([(50, 70)] * 2), spec, torch.bfloat16, channels_last)))
    out.append(Sample("channels_last", drawn(small, strong, channels_last=True)))
    extremes = {
        "crop_of_one_pixel": {"crop_top": 0, "crop_left": 0, "crop_height": 1, "crop_width": 1},
        "hue_low": {"hue": -0.5},
        "hue_high": {"hue": 0.5},
        "black": {"brightness": 0},
        "no_contrast": {"contrast": 0},
        "no_saturation": {"saturation": 0},
        "narrow_blur": {"blur_sigma": 0.1, "blur_kernel": 23},
        "wide_blur": {"blur_sigma": 2.0, "blur_kernel": 23},
        "widest_blur": {"blur_sigma": 4.0, "blur_kernel": 41},
        "solarize_all": {"solarize_threshold": 0},
    }
    for name, columns in extremes.items():
        out.append(Sample(name, rows(small, plain, **columns)))
    for order in range(24):
        jitter = {"brightness": 1.3, "contrast": 0.6, "saturation": 1.4, "hue": 0.1, "jitter_order": order}
        out.append(Sample(f"order_{order}", rows(small, plain, **jitter), small=order % 6 == 1))
    down, up = plain.replace(size=6), plain.replace(size=60)
    out.append(Sample("down_10", drawn(ragged([(60, 61), (64, 50)]), down)))
    # Rows of 16-bit results are summed two at a time: odd numbers of rows, many rows, negative weights.
    for name, spec in (("down_10", down), ("bicubic", strong.replace(interpolation="bicubic", blur=0.0))):
        out.append(Sample(f"float16_{name}", drawn(ragged([(60, 61), (64, 50), (3, 3)]), spec, torch.float16)))
    # Windows wider than the work memory of a block.
    out.append(Sample("down_200", drawn(ragged([(2, 1200), (1200, 2)]), down.replace(hflip=1.0))))
    out.append(Sample("up_20", drawn(ragged([(3, 3), (2, 5)]), up), small=False))
    return out


def reference(storage, offsets, sizes, params, keys, height, width, channels, mean, std, dtype, channels_last):
    return augment(storage, offsets, sizes, params, keys, (height, width), channels, mean, std)


CONTRACT = Contract("augment", reference, samples, atol=1e-4, device_atol=1e-4)
