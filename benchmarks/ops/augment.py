"""SimCLR's views from uint8 images in memory: 32 px, and 256 -> 224 px with blur.

Every library starts from the same uint8 images and ends with normalised views. torchvision and albumentations work
image by image, in this process and (often their best setting) in as many DataLoader workers as threads; kornia, DALI
and CV-CUDA whole batches at a time. On a GPU the images of those lie in its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import views as peers
from benchmarks.run import Case, Fewer, Setup
from sslfast.augment import MultiView, ViewSpec, presets
from sslfast.data import build_source
from sslfast.data.batch import ImageBatch

RENDERED = 256  # different embedded images; more are repetitions
FEW = 128  # images of contenders that work image by image on a GPU
FEW_FOR_WORKERS = 32  # for each worker

Contenders = dict[str, Callable[[], Callable[[], object]]]


def cases(setup: Setup) -> Iterator[Case]:
    """Both sizes; the counts keep a call of the slowest library below a few seconds."""
    scale = 64 if setup.device == "cuda" else 1
    yield augment_case(setup, "simclr 32 px", size=32, view=32, count=512 * scale)
    yield augment_case(setup, "simclr 256 -> 224 px with blur", size=256, view=224, count=64 * scale)
    if setup.device == "cuda":
        name = "simclr 256 -> 224 px with blur, bfloat16"
        yield augment_case(setup, name, size=256, view=224, count=64 * scale, dtype=torch.bfloat16)


def augment_case(setup: Setup, name: str, size: int, view: int, count: int, dtype: torch.dtype = torch.float32) -> Case:
    """Views of `view` px from images of `size` px; libraries that know float32 only convert their result."""
    images = _images(setup.images, size, count)
    spec = presets.simclr(view)[0]
    contenders = {"sslfast": lambda: _sslfast(images.to(setup.device), spec, dtype)}
    for library, make in (_on_gpu if setup.device == "cuda" else _on_cpu)(images, spec, setup).items():
        contenders[library] = lambda make=make: _converted(make(), dtype)
    return Case(
        op="augment",
        name=name,
        unit="views",
        count=count,
        contenders=contenders,
        least_bytes=count * (size * size * 3 + view * view * 3 * dtype.itemsize),
        settings={"images": count, "image_size": size, "view_size": view, "blur": spec.blur, "dtype": str(dtype)},
    )


def _on_cpu(images: Tensor, spec: ViewSpec, setup: Setup) -> Contenders:
    contenders: Contenders = {
        "kornia": lambda: peers.kornia(images, spec),
        "dali": lambda: _dali(images, spec, setup),
    }
    for library, make, dense in _by_image(images):
        contenders[library] = lambda make=make, dense=dense: peers.one_by_one(make(spec), dense)
        contenders[f"{library}, {setup.threads} workers"] = lambda make=make, dense=dense: peers.workers(
            make(spec), dense, setup.threads, "cpu"
        )
    return contenders


def _on_gpu(images: Tensor, spec: ViewSpec, setup: Setup) -> Contenders:
    """Image by image a GPU waits for the CPU: such contenders make the views of a few images only."""
    few = images[:FEW]
    contenders: Contenders = {
        "kornia": lambda: peers.kornia(images.cuda(), spec),
        "dali": lambda: _dali(images.cuda(), spec, setup),
        "cv-cuda": lambda: _cv_cuda(images.cuda(), spec),
        "cv-cuda, image by image": lambda: Fewer(_cv_cuda_one_by_one(few.permute(0, 3, 1, 2).cuda(), spec), len(few)),
        "torchvision, image by image": lambda: Fewer(
            peers.one_by_one(peers.torchvision(spec), few.permute(0, 3, 1, 2).contiguous().cuda()), len(few)
        ),
    }
    for library, make, dense in _by_image(images[: FEW_FOR_WORKERS * setup.threads]):
        contenders[f"{library}, {setup.threads} workers"] = lambda make=make, dense=dense: Fewer(
            peers.workers(make(spec), dense, setup.threads, "cuda"), len(dense)
        )
    return contenders


def _by_image(images: Tensor) -> list[tuple[str, Callable[[ViewSpec], peers.Transform], Any]]:
    """The libraries that work image by image, and the images as they take them."""
    return [
        ("albumentations", peers.albumentations, images.numpy()),
        ("torchvision", peers.torchvision, images.permute(0, 3, 1, 2).contiguous()),
    ]


def _converted(call: Callable[[], Any], dtype: torch.dtype) -> Callable[[], object]:
    """The call with its views in `dtype`."""
    if dtype == torch.float32:
        return call

    def convert() -> object:
        views = call()
        return [batch.to(dtype) for batch in views] if isinstance(views, list) else views.to(dtype)

    return Fewer(convert, call.count) if isinstance(call, Fewer) else convert


def _dali(images: Tensor, spec: ViewSpec, setup: Setup) -> Callable[[], object]:
    from benchmarks.peers.dali import views

    return views(images, spec, setup.threads)


def _cv_cuda(images: Tensor, spec: ViewSpec) -> Callable[[], object]:
    from benchmarks.peers.cv_cuda import views

    return views(images, spec)


def _cv_cuda_one_by_one(images: Tensor, spec: ViewSpec) -> Callable[[], object]:
    from benchmarks.peers.cv_cuda import one_by_one

    return one_by_one(images.contiguous(), spec)


def _images(folder: Path | None, size: int, count: int) -> Tensor:
    """(count, size, size, 3) uint8: pictures of `folder`, repeated as needed, or the embedded shapes."""
    if folder is None:
        batch = build_source("shapes", size=size, limit=min(count, RENDERED)).read()
        pictures = torch.stack([batch.image(i) for i in range(len(batch))])
    else:
        batch = build_source("folder", root=folder).read()
        square = MultiView([ViewSpec(size=size, mean=(0.0,), std=(1.0,))])(batch).tensors[0]
        pictures = (square * 255).round().byte().permute(0, 2, 3, 1)
    return pictures[torch.arange(count) % len(pictures)].contiguous()


def _sslfast(images: Tensor, spec: ViewSpec, dtype: torch.dtype) -> Callable[[], object]:
    views = MultiView([spec], dtype=dtype)
    batch = ImageBatch.from_dense(images)
    return lambda: views(batch)
