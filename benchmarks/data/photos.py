"""From JPEG photographs to SimCLR views of 224 px, and decoding alone, which no such pipeline can beat.

Each call is a whole epoch over files that lie in the page cache after the first, in batches. What DALI needs to start a
pipeline is part of it; the worker processes of the other libraries stay between calls.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.peers.views import albumentations, torchvision
from benchmarks.run import Case, Setup
from sslfast.augment import MultiView, presets
from sslfast.data import DaliLoader, ImageFiles, build_source

COUNT = 256
BATCH_SIZE = 32
VIEW = 224

Prepare = Callable[[str], Any]  # a file -> the sample that a worker makes of it


def cases(setup: Setup) -> Iterator[Case]:
    """Photographs of a folder, or embedded shapes that are written as JPEG files of 500 x 500 pixels."""
    source = build_source("folder", setup.images or _shapes(), labels=False)
    assert isinstance(source, ImageFiles)
    source = source.select(torch.arange(COUNT) % len(source))
    device = "gpu" if setup.device == "cuda" else "cpu"
    floor = {f"dali, decoding alone on the {device}": lambda: _dali(source, setup, views=0)}
    yield _case(
        source,
        "JPEG files decoded",
        {
            "sslfast": lambda: _sslfast(source, setup, views=0),
            **floor,
            f"pillow, {setup.threads} workers": lambda: _workers(source, setup, _pillow),
            f"torchvision, {setup.threads} workers": lambda: _workers(source, setup, _decode_jpeg),
        },
    )
    for views in (1, 2):
        contenders = {
            "sslfast": lambda views=views: _sslfast(source, setup, views),
            **floor,
            "dali, own operators": lambda views=views: _dali(source, setup, views),
            "sslfast, views of decoded images": lambda views=views: _views_alone(source, setup, views),
            f"albumentations, {setup.threads} workers": lambda views=views: _workers(source, setup, _with_cv(views)),
            f"torchvision, {setup.threads} workers": lambda views=views: _workers(source, setup, _with_v2(views)),
        }
        if views == 2:  # lightly's transform makes both at once
            contenders[f"lightly, {setup.threads} workers"] = lambda: _workers(source, setup, _with_lightly())
        yield _case(source, f"JPEG files to {views} SimCLR view{'s'[: views - 1]} of {VIEW} px", contenders)


def _case(source: ImageFiles, name: str, contenders: dict[str, Callable[[], Callable[[], object]]]) -> Case:
    return Case(
        op="photos",
        name=name,
        unit="images",
        count=COUNT,
        contenders=contenders,
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


def _sslfast(source: ImageFiles, setup: Setup, views: int) -> Callable[[], object]:
    draw = MultiView(presets.simclr(VIEW)[:views])
    regions = draw.regions if views else None
    loader = DaliLoader(source, BATCH_SIZE, device=setup.device, threads=setup.threads, regions=regions)

    def call() -> None:
        for batch in loader.epoch(0):
            draw(batch)

    return call


def _views_alone(source: ImageFiles, setup: Setup, views: int) -> Callable[[], object]:
    batches = list(DaliLoader(source, BATCH_SIZE, device=setup.device, threads=setup.threads).epoch(0))
    draw = MultiView(presets.simclr(VIEW)[:views])

    def call() -> None:
        for batch in batches:
            draw(batch)

    return call


def _dali(source: ImageFiles, setup: Setup, views: int) -> Callable[[], object]:
    """DALI's own file reader and decoder, and its own operators for the views; nothing else."""
    from benchmarks.peers.dali import from_files

    on_gpu = setup.device == "cuda"

    def call() -> None:
        pipeline = from_files(
            [str(file) for file in source.files],
            presets.simclr(VIEW)[:views],
            "mixed" if on_gpu else "cpu",
            batch_size=BATCH_SIZE,
            num_threads=setup.threads,
            device_id=0 if on_gpu else None,
            exec_dynamic=True,
        )
        pipeline.build()
        batches = COUNT // BATCH_SIZE
        pipeline.schedule_run()  # the first call begins two batches, so that one is always ahead
        for done in range(1, batches + 1):
            pipeline.outputs()
            if done + 1 < batches:
                pipeline.schedule_run()

    return call


def _open(file: str) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


def _pillow(file: str) -> torch.Tensor:
    return torch.from_numpy(np.array(_open(file)))


def _decode_jpeg(file: str) -> torch.Tensor:
    from torchvision.io import ImageReadMode, decode_image

    return decode_image(file, mode=ImageReadMode.RGB)


def _with_v2(views: int) -> Prepare:
    from torchvision.transforms import v2

    transforms = [v2.Compose([v2.ToImage(), torchvision(spec)]) for spec in presets.simclr(VIEW)[:views]]

    def prepare(file: str) -> list[torch.Tensor]:
        image = _open(file)
        return [transform(image) for transform in transforms]

    return prepare


def _with_cv(views: int) -> Prepare:
    transforms = [albumentations(spec) for spec in presets.simclr(VIEW)[:views]]

    def prepare(file: str) -> list[torch.Tensor]:
        pixels = np.array(_open(file))
        return [transform(pixels) for transform in transforms]

    return prepare


def _with_lightly() -> Prepare:
    from lightly.transforms import SimCLRTransform

    transform = SimCLRTransform(input_size=VIEW)
    return lambda file: transform(_open(file))


class _Files(torch.utils.data.Dataset):
    def __init__(self, files: list[str], prepare: Prepare) -> None:
        self.files, self.prepare = files, prepare

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> Any:
        return self.prepare(self.files[position])


def _workers(source: ImageFiles, setup: Setup, prepare: Prepare) -> Callable[[], object]:
    """The usual DataLoader; images that were only decoded differ in size and stay a list."""
    loader = torch.utils.data.DataLoader(
        _Files([str(file) for file in source.files], prepare),
        batch_size=BATCH_SIZE,
        num_workers=setup.threads,
        persistent_workers=True,
        collate_fn=list if prepare in (_pillow, _decode_jpeg) else None,
    )

    def call() -> None:
        for _ in loader:
            pass

    return call
