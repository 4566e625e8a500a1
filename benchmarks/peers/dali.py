"""Views by DALI's own operators, of images that are already decoded or from JPEG files.

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


def _augmented(view: Any, spec: ViewSpec) -> Any:
    """The operations after the crop."""
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


def _view(images: Any, spec: ViewSpec) -> Any:
    crops = {"random_area": spec.crop_scale, "random_aspect_ratio": spec.crop_ratio}
    return _augmented(fn.random_resized_crop(images, size=spec.shape, **crops), spec)


def _factor(jitter: Any, strength: float) -> Any:
    """Drawn from [max(0, 1 - strength), 1 + strength] where `jitter` is 1, else 1."""
    if strength == 0.0:
        return 1.0
    return 1.0 + jitter * fn.random.uniform(range=(max(-1.0, -strength), strength))


@pipeline_def(enable_conditionals=True)
def _from_memory(images: Any, spec: ViewSpec, device: str) -> Any:
    # Read where they lie: no copy is timed.
    decoded = fn.external_source(source=lambda: images, device=device, batch=True, layout="HWC", no_copy=True)
    return _view(decoded, spec)


@pipeline_def(enable_conditionals=True)
def from_files(files: list[str], specs: list[ViewSpec], device: str) -> Any:
    """A pipeline from JPEG files to decoded images, or to views, which for a single view decodes the crop alone.

    Args:
        files: paths, read in this order.
        specs: one for each view.
        device: "mixed" to decode on a GPU, or "cpu".
    """
    encoded, _ = fn.readers.file(files=files)
    if len(specs) == 1:
        spec = specs[0]
        crops = {"random_area": spec.crop_scale, "random_aspect_ratio": spec.crop_ratio}
        crop = fn.decoders.image_random_crop(encoded, device=device, **crops)
        return _augmented(fn.resize(crop, size=spec.shape), spec)
    images = fn.decoders.image(encoded, device=device)
    return tuple(_view(images, spec) for spec in specs) or images


def views(images: Tensor, spec: ViewSpec, threads: int) -> Callable[[], Tensor]:
    """Views of a whole batch, (B, C, H, W) float32, on the device of the images.

    Args:
        images: (B, H, W, 3) uint8.
        spec: crop, flip, colour jitter, grayscale and blur are drawn as it says.
        threads: that DALI uses on the CPU.
    """
    on_gpu = images.is_cuda
    pipeline = _from_memory(
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
