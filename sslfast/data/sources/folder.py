"""Folder: image files on disk, in class sub-folders or without labels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from sslfast.data.decode import EXTENSIONS
from sslfast.data.sources.files import SPLITS, ImageFiles, by_turns
from sslfast.errors import DataError


class Folder(ImageFiles):
    """Images below a folder, found recursively: JPEG, PNG, BMP, WebP, TIFF and GIF.

    Three layouts work, each directly in `root` or below split folders (`train/`, and `test/` or `val/`):

        <class>/…/a.jpg   two or more sub-folders and no images beside them: each sub-folder is a class
        a.jpg             images without labels
        <folder>/…/a.jpg  with labels=False: images without labels, whatever folders they lie in

    Images come sorted by name, the classes by turns (the first of each class, the second of each, …), so any first part
    of the data set holds them all. Each is decoded as `sslfast.data.decode` says and keeps its own size.

    Args:
        root: the folder.
        split: "train", "test" or "val"; without split folders all images are "train".
        limit: only the first so many images; 0 takes all.
        channels: 3 (RGB) or 1 (gray).
        resize_shorter: shrink larger images at loading until the shorter side has so many pixels; 0 keeps them.
        labels: False ignores the sub-folders' names.
        classes: the sub-folders of label 0, 1, …; their sorted names, over all splits, when absent.
        on_error: "raise", or "skip" to go on without images that cannot be decoded.

    Attributes:
        classes: the names of the labels, None without labels.
        files: the path of every image, by its index.
        label: (N,) int64 on the CPU, None without labels.
        skipped: (file, reason) of every image that `read` left out.

    Raises:
        DataError: no folder, no images, a layout that is not one of these, or (from `read`) an image that cannot be
            decoded or more images than fit into memory.
        UserError: an option outside its range.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "train",
        *,
        limit: int = 0,
        channels: int = 3,
        resize_shorter: int = 0,
        labels: bool = True,
        classes: Sequence[str] | None = None,
        on_error: str = "raise",
    ) -> None:
        super().__init__(
            "folder", root, split, limit=limit, channels=channels, resize_shorter=resize_shorter, on_error=on_error
        )
        folders, folder = _split_folder(self.root, split)
        files, top = find_images(folder)
        if not files:
            raise DataError(f"no images in {folder}: looked for {', '.join(EXTENSIONS)} in it and in its sub-folders")
        if labels:
            self.classes = _class_names(folder, folders, top, classes)
        if self.classes is not None:
            known = {name: label for label, name in enumerate(self.classes)}
            label = np.array([known[name] for name in top], dtype=np.int64)
            order = by_turns(label)[: limit or None]
            files, self.label = [files[position] for position in order], torch.from_numpy(label[order])
        self.files = files[: limit or None]


def _split_folder(root: Path, split: str) -> tuple[dict[str, Path], Path]:
    """The split folders below `root` (none when it is not divided), and the folder that holds `split`."""
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(f"the image folder {root} {what}; give the folder that holds the images as root")
    folders = split_folders(root)
    if folders and split not in folders:
        found = _listed({folder.name for folder in folders.values()})
        wanted = " or ".join(f"{name}/" for name in SPLITS[split])
        raise DataError(f"{root} has {found} but no {wanted}: there is no split {split!r}")
    if not folders and split != "train":
        raise DataError(
            f"{root} is not divided into splits, so there is no split {split!r}; "
            f"put its images into {root / 'train'} and {root / split}"
        )
    return folders, folders.get(split, root)


def split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split below `root`, empty when `root` is not divided into splits.

    A folder named like a split is one unless it could as well be a class: it has sub-folders, or all its neighbours are
    split folders.
    """
    names = {entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")}
    splits = names & {name for aliases in SPLITS.values() for name in aliases}
    if not splits or (
        names - splits and not any(entry.is_dir() for split in splits for entry in (root / split).iterdir())
    ):
        return {}
    return {
        split: root / next(name for name in aliases if name in splits)
        for split, aliases in SPLITS.items()
        if splits & set(aliases)
    }


def find_images(folder: Path) -> tuple[list[str], list[str]]:
    """Every image file below `folder`, sorted, and the first folder of its path below `folder` ("" for none).

    Hidden files and folders are left out; linked folders are followed, each once.
    """
    files: list[str] = []
    seen = set()
    for current, below, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(current)
        below[:] = [] if real in seen else [name for name in below if not name.startswith(".")]
        if real not in seen:
            files += (
                os.path.join(current, n) for n in names if n.lower().endswith(EXTENSIONS) and not n.startswith(".")
            )
        seen.add(real)
    files.sort()
    start = len(os.path.join(folder, ""))
    return files, [file[start:].rpartition(os.sep)[0].partition(os.sep)[0] for file in files]


def _class_names(
    folder: Path, folders: dict[str, Path], top: list[str], classes: Sequence[str] | None
) -> list[str] | None:
    """The name of label 0, 1, …, or None when the images in `folder` have no labels."""
    below = set(top) - {""}
    if "" in top and below:
        raise DataError(
            f"{folder} holds images beside the sub-folders {_listed(below)}: either move those images into the "
            f"sub-folders of their classes, or load everything without labels (labels=False)"
        )
    if classes:
        unknown = sorted(below - set(classes))
        if not below:
            raise DataError(f"{folder} has no sub-folders for the classes {_listed(classes)}")
        if unknown:
            raise DataError(f"{folder / unknown[0]} is none of the classes {_listed(classes)}; move it elsewhere")
        return list(classes)
    if below and folders:
        # Over all splits, so that a label means the same class in each, even where a split lacks one.
        entries = [entry for other in set(folders.values()) for entry in os.scandir(other)]
        below = {entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")}
    return sorted(below) if len(below) > 1 else None


def _listed(names: Iterable[str], most: int = 5) -> str:
    listed = sorted(names)
    return ", ".join(listed[:most]) + (f", … ({len(listed)} in all)" if len(listed) > most else "")
