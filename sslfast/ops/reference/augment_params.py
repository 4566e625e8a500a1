"""augment_params in plain Python, one image at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sslfast.augment.spec import ViewSpec
from sslfast.ops.augment_params import AUGMENT_COLUMNS
from sslfast.ops.reference.philox import philox


def augment_params(
    spec: ViewSpec, index: Tensor, sizes: Tensor, seed: int = 0, epoch: int = 0, view: int = 0, channels: int = 3
) -> tuple[Tensor, Tensor]:
    """Same arguments and result as `sslfast.ops.augment_params`."""
    rows, keys = [], []
    for i, (height, width) in zip(index.tolist(), sizes.tolist(), strict=True):

        def words(slot: int, i: int = i) -> list[int]:
            return [int(w) for w in philox(seed, (slot | view << 16, epoch, i & 0xFFFFFFFF, i >> 32 & 0xFFFFFFFF))]

        row = draw_row(spec, words, height, width, channels)
        rows.append([row[name] for name in AUGMENT_COLUMNS])
        low, high = words(15)[:2]
        keys.append(int.from_bytes((high << 32 | low).to_bytes(8, "little"), "little", signed=True))
    params = torch.tensor(rows, dtype=torch.float64).float().view(-1, len(AUGMENT_COLUMNS))
    return params, torch.tensor(keys, dtype=torch.int64)


def draw_row(spec: ViewSpec, words, height: int, width: int, channels: int) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """One row by column name; `words(slot)` gives the four 32-bit words of a slot."""

    def uniform(word: int, low: float = 0.0, high: float = 1.0) -> float:
        return low + word * 2.0**-32 * (high - low)

    row = dict(
        zip(("crop_top", "crop_left", "crop_height", "crop_width"), _crop(spec, words, height, width), strict=True)
    )
    flip, angle, vertical_flip, rotated = words(10)
    gates, factors, order, filters = words(11), words(12), words(13), words(14)
    row["bicubic"] = float(spec.interpolation == "bicubic")
    row["vflip"] = float(uniform(vertical_flip) < spec.vflip)
    row["hflip"] = float(uniform(flip) < spec.hflip)
    row["rotation"] = 0.0
    if uniform(rotated) < spec.rotation_probability:
        if spec.rotation_range is not None:
            row["rotation"] = uniform(angle, *spec.rotation_range)
        elif spec.rotation:
            row["rotation"] = spec.rotation[int(uniform(angle) * len(spec.rotation))]
    row["rotation_zoom"] = spec.rotation_zoom
    jitter = uniform(gates[0]) < spec.jitter
    for word, name in zip(factors[:3], ("brightness", "contrast", "saturation"), strict=True):
        strength = getattr(spec, name)
        row[name] = uniform(word, max(0.0, 1 - strength), 1 + strength) if jitter else 1.0
    row["hue"] = uniform(factors[3], -spec.hue, spec.hue) if jitter else 0.0
    row["jitter_order"] = float(int(uniform(order[0]) * 24))
    row["grayscale"] = float(uniform(gates[1]) < spec.grayscale)
    row["blur_sigma"] = uniform(filters[1], *spec.blur_sigma) if uniform(filters[0]) < spec.blur else 0.0
    row["blur_kernel"] = float(spec.blur_kernel)
    row["solarize_threshold"] = spec.solarize_threshold if uniform(filters[2]) < spec.solarize else 2.0
    row["sobel"] = float(uniform(filters[3]) < spec.sobel)
    for name in ("noise_gaussian", "noise_salt_pepper", "noise_masking"):
        row[name] = getattr(spec, name)
    row["channel_drop"] = _dropped(spec, words, channels)
    row.update(_cutout(spec, words))
    return row


def _dropped(spec: ViewSpec, words, channels: int) -> float:  # type: ignore[no-untyped-def]
    gate, count = (word * 2.0**-32 for word in words(16)[:2])
    if gate >= spec.channel_drop:
        return 0.0
    least, most = spec.channel_drop_count
    left = min(least + int(count * (most - least + 1)), channels)
    bits = 0
    for c in range(channels):
        if words(19 + c // 4)[c % 4] * 2.0**-32 * (channels - c) < left:
            bits, left = bits | 1 << c, left - 1
    return float(bits)


def _cutout(spec: ViewSpec, words) -> dict[str, float]:  # type: ignore[no-untyped-def]
    gate, area, ratio = (word * 2.0**-32 for word in words(17)[:3])
    rectangle = (0.0, 0.0, 0.0, 0.0)
    if gate < spec.cutout:
        (area_low, area_high), (low, high) = spec.cutout_scale, spec.cutout_ratio
        pixels = spec.shape[0] * spec.shape[1] * (area_low + area * (area_high - area_low))
        shape = math.exp(math.log(low) + ratio * (math.log(high) - math.log(low)))
        height = min(spec.shape[0], max(1, round(math.sqrt(pixels / shape))))
        width = min(spec.shape[1], max(1, round(math.sqrt(pixels * shape))))
        top, left = (word * 2.0**-32 for word in words(18)[:2])
        rectangle = (int(top * (spec.shape[0] - height + 1)), int(left * (spec.shape[1] - width + 1)), height, width)
    return dict(zip(("cutout_top", "cutout_left", "cutout_height", "cutout_width"), rectangle, strict=True))


def _center(height: int, width: int, ratio: float, fraction: float) -> tuple[float, float, float, float]:
    full_width = min(width, height * ratio)
    w = max(1, round(full_width * fraction))
    h = max(1, min(height, round(full_width / ratio * fraction)))
    return round((height - h) / 2), round((width - w) / 2), h, w


def _crop(spec: ViewSpec, words, height: int, width: int) -> tuple[float, float, float, float]:  # type: ignore[no-untyped-def]
    if spec.crop_scale is None:
        return _center(height, width, spec.shape[1] / spec.shape[0], spec.center_fraction)
    (area_low, area_high), (ratio_low, ratio_high) = spec.crop_scale, spec.crop_ratio
    for attempt in range(10):
        u = [word * 2.0**-32 for word in words(attempt)]
        area = height * width * (area_low + u[0] * (area_high - area_low))
        ratio = math.exp(math.log(ratio_low) + u[1] * (math.log(ratio_high) - math.log(ratio_low)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 1 <= w <= width and 1 <= h <= height:
            return int(u[2] * (height - h + 1)), int(u[3] * (width - w + 1)), h, w
    return _center(height, width, min(max(width / height, ratio_low), ratio_high), 1.0)
