"""From JPEG photographs to SimCLR's two views of 224 px: with the augmentation, and decoding alone.

Each call is a whole epoch over files which lie in the page cache after the first. Building the DALI pipeline is part
of it; torchvision keeps its workers between calls.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.ops.augment import _torchvision
from benchmarks.run import Case, Setup
from sslfast.augment import MultiView, presets
from sslfast.data import DaliLoader, build_source
from sslfast.data.sources.files import ImageFiles

COUNT = 128
BATCH_SIZE = 16
VIEW = 224


def cases(setup: Setup) -> Iterator[Case]:
    """One case: the photographs of a folder, or embedded shapes that are written as JPEG files of 500 x 500."""
    source = build_source("folder", setup.images or _shapes(), labels=False)
    assert isinstance(source, ImageFiles)
    source.files = [source.files[position % len(source)] for position in range(COUNT)]
    device = "gpu" if setup.device == "cuda" else "cpu"
    yield Case(
        op="photos",
        name=f"JPEG files to two SimCLR views of {VIEW} px",
        unit="images",
        count=COUNT,
        contenders={
            "sslfast": lambda: _sslfast(source, setup, augmented=True),
            "sslfast, decoding alone": lambda: _sslfast(source, setup, augmented=False),
            f"dali, decoding alone on the {device}": lambda: _dali(source, setup),
            f"torchvision, {setup.threads} workers": lambda: _workers(source, setup.threads),
        },
        settings={"images": COUNT, "batch_size": BATCH_SIZE, "view_size": VIEW, "mean_pixels": _mean_pixels(source)},
    )


@cache
def _shapes() -> Path:
    root = Path(tempfile.mkdtemp(prefix="sslfast-photos-"))
    images = build_source("shapes", size=500, limit=COUNT).read()
    for position in range(COUNT):
        Image.fromarray(images.image(position).numpy()).save(root / f"{position}.jpg", quality=92)
    return root


def _mean_pixels(source: ImageFiles) -> int:
    areas = []
    for file in source.files:
        with Image.open(str(file)) as image:
            areas.append(image.width * image.height)
    return int(np.mean(areas))


def _sslfast(source: ImageFiles, setup: Setup, augmented: bool) -> Callable[[], object]:
    loader = DaliLoader(source, BATCH_SIZE, device=setup.device, threads=setup.threads)
    views = MultiView(presets.simclr(VIEW))

    def call() -> None:
        for batch in loader.epoch(0):
            if augmented:
                views(batch, 0)

    return call


def _dali(source: ImageFiles, setup: Setup) -> Callable[[], object]:
    """DALI's own file reader and decoder, nothing else."""
    from nvidia.dali import Pipeline, fn

    on_gpu = setup.device == "cuda"

    def call() -> None:
        pipeline = Pipeline(BATCH_SIZE, setup.threads, 0 if on_gpu else None, exec_dynamic=True)
        with pipeline:
            encoded, _ = fn.readers.file(files=[str(file) for file in source.files])
            pipeline.set_outputs(fn.decoders.image(encoded, device="mixed" if on_gpu else "cpu"))
        pipeline.build()
        batches = COUNT // BATCH_SIZE
        pipeline.schedule_run()  # the first call begins two batches, so that one is always ahead
        for done in range(1, batches + 1):
            pipeline.outputs()
            if done + 1 < batches:
                pipeline.schedule_run()

    return call


class _Photos(torch.utils.data.Dataset):
    def __init__(self, files: list[str]) -> None:
        from torchvision.transforms import v2

        self.files = files
        self.transforms = [v2.Compose([v2.ToImage(), _torchvision(spec)]) for spec in presets.simclr(VIEW)]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> list[torch.Tensor]:
        with Image.open(self.files[position]) as image:
            pixels = image.convert("RGB")
        return [transform(pixels) for transform in self.transforms]


def _workers(source: ImageFiles, workers: int) -> Callable[[], object]:
    loader = torch.utils.data.DataLoader(
        _Photos([str(file) for file in source.files]),
        batch_size=BATCH_SIZE,
        num_workers=workers,
        persistent_workers=True,
    )

    def call() -> None:
        for _ in loader:
            pass

    return call
