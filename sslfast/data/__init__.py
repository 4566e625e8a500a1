"""Images, from where they are stored to batches on the training device.

    source = build_source("cifar10", root="~/data", split="train")    # what is stored where
    loader = MemoryLoader(source.read(), batch_size=512, device="cuda")
    for batch in loader.epoch(0):                                      # ImageBatch: a view, nothing is copied
        ...

Image files that do not fit into memory are decoded as they are needed, in the same order:

    loader = DaliLoader(build_source("folder", root="~/imagenet"), batch_size=512, device="cuda")

A data set of your own that is already in memory needs no source:

    images = ImageBatch.from_dense(torch.from_numpy(array))            # array: (N, H, W, C) uint8 in [0, 255]
    images = ImageBatch.from_list([torch.from_numpy(a) for a in arrays], label=torch.tensor(labels))  # mixed sizes
    loader = MemoryLoader(images, batch_size=256)
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from sslfast import registry
from sslfast.data.batch import ImageBatch
from sslfast.data.dali import DaliLoader
from sslfast.data.loader import Loader
from sslfast.data.memory import MemoryLoader
from sslfast.data.sources import Source
from sslfast.data.sources.files import ImageFiles
from sslfast.errors import UserError
from sslfast.options import check_types

__all__ = ["DaliLoader", "ImageBatch", "ImageFiles", "Loader", "MemoryLoader", "Source", "build_loader", "build_source"]


def build_source(
    name: str,
    root: str | Path | None = None,
    split: str = "train",
    *,
    limit: int = 0,
    on_error: str = "raise",
    **options: Any,
) -> Source:
    """The data source `name`, ready to read.

    Args:
        name: a name of `sslfast list data`, or a user's own class as "package.module:Class".
        root: folder (or archive) of the data; sources which make their images take none.
        split: "train" or "test".
        limit: only the first so many images (every source orders them so that these hold all classes); 0 takes all.
        on_error: "raise", or "skip" to go on without images that cannot be decoded; for sources that decode files.
        options: the source's own options.

    Raises:
        UserError: unknown name or option (the message lists the valid ones), or an option's value of a wrong type.
        DataError: the data is missing or of the wrong kind.
    """
    source = registry.resolve("data", name)
    parameters = inspect.signature(source).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        valid = [p for p in parameters if p not in ("root", "split")]
        for option in options:
            if option not in valid:
                raise UserError(f"data {name!r} has no option {option!r}; {registry.nearest(option, valid)}")
    check_types(source.__init__ if inspect.isclass(source) else source, options, f"data {name!r}")
    if "on_error" in parameters:
        options["on_error"] = on_error
    registry.check_call("data", name, source, options)
    found: Source = source(root=root, split=split, limit=limit, **options)
    lacking = [part for part in ("classes", "__len__", "read") if not hasattr(found, part)]
    if lacking:
        raise UserError(
            f"{name!r} gave {found!r:.60}, which has no {' and no '.join(lacking)}; {registry.NEEDED['data']}"
        )
    return found


def build_loader(images: ImageBatch | ImageFiles, batch_size: int, **options: Any) -> Loader:
    """The loader of `images`: a MemoryLoader for images in memory, a DaliLoader for image files.

    Args:
        images: images, or a source of files.
        batch_size: images in a batch, on each rank.
        options: as for both loaders: shuffle, seed, drop_last, device, rank and world_size.

    Raises:
        UserError: as the loader does.
    """
    if isinstance(images, ImageFiles):
        return DaliLoader(images, batch_size, **options)
    return MemoryLoader(images, batch_size, **options)
