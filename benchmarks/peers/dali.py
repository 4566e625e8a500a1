"""Views by DALI's own operators, in a pipeline on images that are already decoded.

DALI changes the colours of an image by one matrix, with a fixed order and a hue that is linear in RGB; the ranges are
those of the view. Blurring is conditional, so that it costs only the images it is drawn for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from nvidia.dali import fn, pipeline_def, types
from torch import Tensor

from sslfast.augment import ViewSpec


@pipeline_def(enable_conditionals=True)  # type: ignore[untyped-decorator]
def _pipeline(images: Any, spec: ViewSpec, device: str) -> Any:
    # Read where they lie: no copy is timed.
    view = fn.external_source(source=lambda: images, device=device, batch=True, layout="HWC", no_copy=True)
    view = fn.random_resized_crop(
        view, size=spec.shape, random_area=spec.crop_scale, random_aspect_ratio=spec.crop_ratio
    )
    if spec.jitter or spec.grayscale:
        jitter = fn.random.coin_flip(probability=spec.jitter)
        coloured = 1 - fn.random.coin_flip(probability=spec.grayscale)
        view = fn.color_twist(
            view,
            brightness=_factor(jitter, spec.brightness),
            contrast=_factor(jitter, spec.contrast),
            saturation=_factor(jitter, spec.saturation) * coloured,
            hue=360.0 * (_factor(jitter, spec.hue) - 1.0),
        )
    if spec.blur:
        blurred = fn.random.coin_flip(probability=spec.blur, dtype=types.BOOL)
        if blurred:
            view = fn.gaussian_blur(view, window_size=spec.blur_kernel, sigma=fn.random.uniform(range=spec.blur_sigma))
    return fn.crop_mirror_normalize(
        view,
        mirror=fn.random.coin_flip(probability=spec.hflip),
        mean=[255 * value for value in spec.mean],
        std=[255 * value for value in spec.std],
        dtype=types.FLOAT,
        output_layout="CHW",
    )


def _factor(jitter: Any, strength: float) -> Any:
    """Drawn from [max(0, 1 - strength), 1 + strength] where `jitter` is 1, else 1."""
    if strength == 0.0:
        return 1.0
    return 1.0 + jitter * fn.random.uniform(range=(max(-1.0, -strength), strength))


def views(images: Tensor, spec: ViewSpec, threads: int) -> Callable[[], Tensor]:
    """Views of a whole batch, (B, C, H, W) float32, on the device of the images.

    Args:
        images: (B, H, W, 3) uint8.
        spec: crop, flip, colour jitter, grayscale and blur are drawn as it says.
        threads: that DALI uses on the CPU.
    """
    on_gpu = images.is_cuda
    pipeline = _pipeline(
        images if on_gpu else images.numpy(),
        spec,
        "gpu" if on_gpu else "cpu",
        batch_size=len(images),
        num_threads=threads,
        device_id=images.get_device() if on_gpu else None,
        prefetch_queue_depth=1,  # nothing runs ahead while others are timed
        exec_dynamic=True,
    )
    pipeline.build()

    def call() -> Tensor:
        (output,) = pipeline.run()
        return torch.from_dlpack(output.as_tensor())

    return call
