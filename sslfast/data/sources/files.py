"""Image files, on disk or in tar archives: what the sources that find them share."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sslfast.data.batch import ImageBatch
from sslfast.data.decode import MODES, Member, check_memory, decode_files, decode_image, pack
from sslfast.data.sources import check_choice, check_number
from sslfast.errors import DataError, UserError

VALIDATION = ("val", "valid", "validation")
# What a split may be called, in any case; of several the first is taken.
SPLITS = {"train": ("train", "training"), "test": ("test", "testing", *VALIDATION), "val": VALIDATION}


class ImageFiles:
    """A split that consists of image files; a subclass finds them and fills in `files`, `label` and `classes`.

    It is read as a whole by `read`, or batch by batch by a `DaliLoader`.

    Attributes:
        files: every image, by its position: its path, or its place in an archive.
        label: (N,) int64 on the CPU, -1 where it is unknown; None without labels.
        classes: the names of the labels, None without labels.
        channels: 3 (RGB) or 1 (gray), what the files are decoded to.
        skipped: (file, reason) of every image that `read` left out.
    """

    files: Sequence[str | Member]
    label: Tensor | None = None
    classes: list[str] | None = None
    _index: Tensor | None = None

    def __init__(
        self,
        name: str,
        root: str | Path | None,
        split: str,
        limit: int,
        channels: int,
        resize_shorter: int,
        on_error: str,
    ) -> None:
        if root is None:
            raise UserError(f"data {name!r} needs root: the folder that holds the images")
        if not isinstance(root, (str, os.PathLike)):
            raise UserError(f"root is {root!r}; it must be one path, of the folder that holds the images")
        check_choice("split", split, tuple(SPLITS))
        check_choice("on_error", on_error, ("raise", "skip"))
        check_choice("channels", channels, tuple(MODES))
        check_number("limit", limit, 0)
        check_number("resize_shorter", resize_shorter, 0)
        self.root = Path(root).expanduser()
        self.split = split
        self.channels = channels
        self.resize_shorter = resize_shorter
        self.on_error = on_error
        self.skipped: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self.files)

    @property
    def index(self) -> Tensor:
        """(N,) int64: the position of every image in the data set; 0 … N-1 but for a selection."""
        return torch.arange(len(self)) if self._index is None else self._index

    def select(self, positions: Tensor | slice) -> ImageFiles:
        """The images at `positions` ((n,) int64, or a slice) as a source, with the `index` that they have here."""
        chosen = torch.arange(len(self))[positions if isinstance(positions, slice) else positions.cpu()]
        part = copy.copy(self)
        part.files = [self.files[position] for position in chosen.tolist()]
        part.label = None if self.label is None else self.label[chosen]
        part._index = self.index[chosen]
        part.skipped = []
        return part

    def image(self, position: int) -> Tensor:
        """One image, (H, W, channels) uint8, decoded from its file.

        Raises:
            DataError: it cannot be decoded.
        """
        return torch.from_numpy(decode_image(self.files[position], self.channels, self.resize_shorter))

    def read(self) -> ImageBatch:
        """All images in CPU memory, decoded in threads."""
        check_memory(self.files, self.channels, self.resize_shorter, str(self.root))
        images, self.skipped = decode_files(self.files, self.channels, self.resize_shorter, self.on_error)
        if self.skipped:
            first, reason = self.skipped[0]
            found = f"{len(self.skipped)} of {len(images)} images in {self.root}"
            if len(self.skipped) == len(images):
                raise DataError(f"none of the images in {self.root} can be decoded; the first is {first} ({reason})")
            warnings.warn(f"skipped {found} that cannot be decoded; the first is {first} ({reason})", stacklevel=2)
            kept = [position for position, image in enumerate(images) if image is not None]
            self.files = [self.files[position] for position in kept]
            self.label = None if self.label is None else self.label[kept]
            self._index = None if self._index is None else self._index[kept]
        decoded = [image for image in images if image is not None]
        del images  # `pack` frees each image once it is copied
        return replace(pack(decoded, self.channels, self.label), index=self.index)


def by_turns(label: np.ndarray) -> np.ndarray:
    """The positions of (N,) labels, ordered so that the classes take turns and any first part holds them all."""
    by_class = np.argsort(label, kind="stable")
    turn = np.empty_like(label)
    turn[by_class] = np.arange(len(label)) - np.searchsorted(label[by_class], label[by_class])
    return np.lexsort((label, turn))
