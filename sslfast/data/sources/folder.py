"""Folder: image files on disk, in class sub-folders or without labels."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from sslfast.data.decode import EXTENSIONS
from sslfast.data.sources.files import SPLITS, ImageFiles, by_turns
from sslfast.errors import DataError


class Folder(ImageFiles):
    """Images below a folder, found recursively; in classes by sub-folders, or without labels.

    They may be JPEG, PNG, BMP, WebP, TIFF, GIF, AVIF, JPEG 2000 and portable pixmaps, side by side.
    Three layouts work, each directly in `root` or below split folders (`train/`, and `test/` or `val/`, in any case):

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
    check_root(root)
    if not root.is_dir():
        raise DataError(
            f"the image folder {root} is a file, not a folder; give the folder that holds the images as root"
        )
    folders = split_folders(root)
    if folders and split not in folders:
        found = _listed({folder.name for folder in folders.values()})
        wanted = " or ".join(f"{name}/" for name in SPLITS[split] if name in SPLITS)
        raise DataError(f"{root} has {found} but no {wanted}: there is no split {split!r}")
    if not folders and split != "train":
        raise DataError(
            f"{root} is not divided into splits, so there is no split {split!r}; "
            f"put its images into {root / 'train'} and {root / split}"
        )
    return folders, folders.get(split, root)


def check_root(root: Path) -> None:
    """Raises DataError unless there is a file or folder `root` that can be looked at."""
    try:
        root.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{root} does not exist; give the folder that holds the images as root") from error
    except OSError as error:
        raise _unreadable(error) from error


def split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split below `root`, empty when `root` is not divided into splits.

    A folder named like a split is one unless it could as well be a class: it has sub-folders, or none of the others
    holds images.
    """
    names = {name.lower(): name for name in sub_folders(root)}  # sorted: of Train and train it is the latter
    splits = names.keys() & {name for aliases in SPLITS.values() for name in aliases}
    others = [root / names[name] for name in names.keys() - splits]
    divided = any(sub_folders(root / names[split]) for split in splits) or not any(map(holds_images, others))
    if not splits or not divided:
        return {}
    return {
        split: root / names[next(name for name in aliases if name in splits)]
        for split, aliases in SPLITS.items()
        if splits & set(aliases)
    }


def sub_folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted; hidden ones and links to nowhere are none.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            # A link in a circle makes `DirEntry.is_dir` raise, and asking the path costs a look at every file.
            names = [e.name for e in entries if (os.path.isdir(e.path) if e.is_symlink() else e.is_dir())]
    except OSError as error:
        raise _unreadable(error) from error
    return sorted(name for name in names if not name.startswith("."))


def holds_images(folder: Path) -> bool:
    """Whether there is any image file below `folder`; it is looked for no longer than until there is one."""
    return any(True for _ in _walk(folder))


def find_images(folder: Path) -> tuple[list[str], list[str]]:
    """Every image file below `folder`, sorted, and the first folder of its path below `folder` ("" for none).

    Hidden files and folders are left out; linked folders are followed, each once.
    """
    files = list(_walk(folder))
    files.sort()
    start = len(os.path.join(folder, ""))
    return files, [file[start:].rpartition(os.sep)[0].partition(os.sep)[0] for file in files]


def _walk(folder: Path) -> Iterator[str]:
    """Every image file below `folder`, as `find_images` finds it, in no order."""
    seen = set()
    for current, below, names in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(current)
        below[:] = [] if real in seen else [name for name in below if not name.startswith(".")]
        if real not in seen:
            yield from (
                os.path.join(current, n) for n in names if n.lower().endswith(EXTENSIONS) and not n.startswith(".")
            )
        seen.add(real)


def _refuse(error: OSError) -> None:
    """For `os.walk`, which otherwise leaves out a folder that it cannot read."""
    raise _unreadable(error) from error


def _unreadable(error: OSError) -> DataError:
    return DataError(f"{error.filename} cannot be read: {error.strerror}; make it readable, or move it elsewhere")


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
        found = {(other, name) for other in set(folders.values()) for name in sub_folders(other)}
        below |= {name for other, name in found if name not in below and holds_images(other / name)}
    elif below:
        _check_no_splits(folder, below)
    return sorted(below) if len(below) > 1 else None


def _check_no_splits(folder: Path, names: set[str]) -> None:
    """Raises DataError where sub-folders are evidently splits, and would be taken for classes or for one set."""
    pairs: dict[str, dict[str, str]] = {}
    for name in names:
        for split, aliases in SPLITS.items():
            around = re.sub(rf"(?<![a-z])({'|'.join(aliases)})(?![a-z])", "*", name.lower())
            if "*" in around:
                pairs.setdefault(around, {})[split] = name
    for pair in pairs.values():
        if "train" in pair and "test" in pair:  # names that differ in nothing else
            train, test = pair["train"], pair["test"]
            raise DataError(
                f"{folder} has folders named like splits, {_listed({train, test})}; rename them to train and test, or "
                f"give one of them as root, or name all sub-folders in --data-options.classes if they are classes"
            )
    if len(names) == 1 and (inner := split_folders(folder / min(names))):
        found = _listed({part.name for part in inner.values()})
        raise DataError(
            f"{folder} holds nothing but {min(names)}/, which is divided into {found}; "
            f"give {folder / min(names)} as root, or load everything without labels (labels=False)"
        )


def _listed(names: Iterable[str], most: int = 5) -> str:
    listed = sorted(names)
    return ", ".join(listed[:most]) + (f", … ({len(listed)} in all)" if len(listed) > most else "")
