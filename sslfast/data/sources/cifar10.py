"""CIFAR10: the official Python batches (folder or archive), or class folders of JPEG or PNG files."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sslfast.data.batch import ImageBatch
from sslfast.data.sources import check_choice, check_number
from sslfast.data.sources.files import by_turns
from sslfast.data.sources.folder import Folder, split_folders
from sslfast.errors import DataError, UserError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE = "cifar-10-python.tar.gz"
BATCHES = "cifar-10-batches-py"
FILES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}


class CIFAR10:
    """CIFAR-10: 50,000 training and 10,000 test images of 32 x 32 pixels in ten classes (Krizhevsky 2009).

    `root` may hold any of these; what is found first is read:

        cifar-10-batches-py/data_batch_1 … 5, test_batch      the official batches (`root` may be this folder itself)
        cifar-10-python.tar.gz                                the official archive, unpacked in memory
        train/<class>/*.jpg, test/<class>/*.jpg               class folders of any format that `folder` reads

    The classes come by turns (the first image of each, the second of each, …, in the order of the files), so any first
    part of the data set holds them all, and the batches give the images in the order in which their class folders do.

    Args:
        root: the folder; ~/.cache/sslfast/cifar10 when absent.
        split: "train" or "test".
        limit: only the first so many images; 0 takes all.
        download: fetch the official archive into `root` when it holds none of these.
        on_error: "raise", or "skip" to go on without class-folder images that cannot be decoded.

    Attributes:
        classes: the ten names in the official order, which is also the order of the labels.

    Raises:
        DataError: nothing found and the download fails, or a file that is damaged or of the wrong kind.
        UserError: an option outside its range.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "train",
        *,
        limit: int = 0,
        download: bool = True,
        on_error: str = "raise",
    ) -> None:
        check_choice("split", split, tuple(FILES))
        check_choice("on_error", on_error, ("raise", "skip"))
        check_number("limit", limit, 0)
        self.root = Path(root).expanduser() if root is not None else _cache_folder()
        self.split = split
        self.classes: list[str] | None = list(CLASSES)
        self._content: Folder | ImageBatch
        if not _holds_batches(self.root) and self.root.is_dir() and split_folders(self.root):
            self._content = Folder(self.root, split, limit=limit, classes=CLASSES, on_error=on_error)
            return
        if not _holds_batches(self.root):
            _download(self.root, download)
        content = [_check_batch(name, data) for name, data in _read_files(self.root, FILES[split])]
        labels = np.concatenate([labels for _, labels in content])
        order = by_turns(labels)[: limit or None]
        images = np.concatenate([images for images, _ in content])[order]
        self._content = ImageBatch.from_dense(torch.from_numpy(images), label=torch.from_numpy(labels[order]))

    def __len__(self) -> int:
        return len(self._content)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(file, reason) of every image that `read` left out."""
        return self._content.skipped if isinstance(self._content, Folder) else []

    def read(self) -> ImageBatch:
        """The split in CPU memory: (32, 32, 3) images."""
        return self._content.read() if isinstance(self._content, Folder) else self._content


def _cache_folder() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sslfast" / "cifar10"
    except RuntimeError as error:  # a user without a home, as in containers
        raise UserError("data 'cifar10' needs root: there is no home folder to keep it in") from error


def _batches_folder(root: Path) -> Path:
    return root if (root / FILES["test"][0]).is_file() or (root / FILES["train"][0]).is_file() else root / BATCHES


def _archive(root: Path) -> Path:
    return root if root.is_file() else root / ARCHIVE


def _holds_batches(root: Path) -> bool:
    return _batches_folder(root).is_dir() or _archive(root).is_file()


def _download(root: Path, download: bool) -> None:
    layouts = f"{BATCHES}/, {ARCHIVE} or train/<class>/ and test/<class>/"
    cure = f"get {URL} and put it, packed or unpacked, into {root}"
    if not download:
        raise DataError(f"no CIFAR-10 in {root}: looked for {layouts}; {cure}, or allow the download (download=True)")
    try:
        from torchvision.datasets import CIFAR10 as Official

        root.mkdir(parents=True, exist_ok=True)
        # Beside its place, and moved there when it is whole: what is left of a download must not look like data.
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as whole:
            Official(whole, download=True)
            os.replace(Path(whole, BATCHES), root / BATCHES)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            root.rmdir()  # a mistyped root leaves no folder
        raise DataError(
            f"no CIFAR-10 in {root} (looked for {layouts}), and it cannot be downloaded ({error}); {cure}"
        ) from error


def _read_files(root: Path, names: list[str]) -> list[tuple[str, bytes]]:
    folder = _batches_folder(root)
    try:
        if folder.is_dir():
            return [(str(folder / name), (folder / name).read_bytes()) for name in names]
        found = []
        with tarfile.open(_archive(root)) as archive:
            for name in names:
                member = archive.extractfile(f"{BATCHES}/{name}")
                if member is None:
                    raise KeyError(f"{name} is not a file")
                found.append((f"{_archive(root)}:{BATCHES}/{name}", member.read()))
        return found
    except (OSError, EOFError, KeyError, tarfile.TarError) as error:
        where = folder if folder.is_dir() else _archive(root)
        raise DataError(f"{where} is incomplete or damaged ({error}); delete it and get {URL} again") from error


def _check_batch(name: str, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """(N, 32, 32, 3) uint8 images and (N,) int64 labels of one official batch."""
    try:
        batch: dict[str, Any] = _Unpickler(io.BytesIO(data), encoding="latin1").load()
        rows, labels = batch["data"], np.asarray(batch["labels"], dtype=np.int64)
        if rows.dtype != np.uint8 or rows.shape != (len(labels), 3072):
            raise ValueError(f"data is {rows.dtype} of shape {rows.shape} for {len(labels)} labels")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(CLASSES):
            raise ValueError(f"labels go from {labels.min()} to {labels.max()}")
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make the unpickler raise nearly anything
        raise DataError(f"{name} is not a CIFAR-10 batch ({error}); delete it and get {URL} again") from error
    # A row holds the red, the green and the blue plane of an image, one after the other.
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


class _Unpickler(pickle.Unpickler):
    """Admits numpy arrays and plain containers only, so that a downloaded file can run no code."""

    ADMITTED = {
        ("numpy.core.multiarray", "_reconstruct"): "numpy._core.multiarray",
        ("numpy._core.multiarray", "_reconstruct"): "numpy._core.multiarray",
        ("numpy", "ndarray"): "numpy",
        ("numpy", "dtype"): "numpy",
        ("_codecs", "encode"): "_codecs",  # how Python 3 writes bytes in Python 2's protocol
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a data file has no use for")
        return super().find_class(self.ADMITTED[module, name], name)
