"""WebDataset: images in tar archives (shards), with or without DALI's index files."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from sslfast.data.decode import EXTENSIONS, Member
from sslfast.data.sources.files import SPLITS, ImageFiles, by_turns
from sslfast.data.sources.folder import check_root, split_folders, sub_folders
from sslfast.errors import DataError

LABEL = "cls"
COMPRESSED = re.compile(r"([^.].*)\.(?:tar\.(?:gz|bz2|xz|zst|lz4)|tgz|tbz2|txz)", re.IGNORECASE)
MOST_CLASSES = 2**24  # a number beyond is no class's but damage: every class up to the largest one has a name in memory
INDEX_FIELDS = {"v1.2": 4, "v1.1": 3}  # extension, offset, size, name: for each file of a sample


class WebDataset(ImageFiles):
    """Images in tar archives of the WebDataset layout: files with one name up to its first dot are one sample.

        shard-000.tar:  a/0001.jpg, a/0001.cls, a/0002.jpg, a/0002.cls, …

    The image of a sample is its first file with an extension of an image, as `folder` takes them; its label is the
    whole number in `.cls`, which may lie anywhere in the archive. Samples without an image are left out; other files
    are not read. A file of the same name as an earlier one begins another sample.

    `root` is one archive, several as `shard-{000..146}.tar`, or a folder of archives: directly in it or below split
    folders (`train/`, and `test/` or `val/`), or with the split as a word of their names (`train-000.tar`); otherwise
    all are "train".

    An index `shard-000.idx` beside its archive, as DALI's wds2idx writes it, saves reading the archive's headers.
    Images lie in the order of the archives' names; with labels they come by turns (the first of each class, the second
    of each class, …), so any first part of the data set holds them all.

    Args:
        root: the archive or the folder.
        split: "train", "test" or "val".
        limit: only the first so many images; 0 takes all.
        channels: 3 (RGB) or 1 (gray).
        resize_shorter: shrink larger images at loading until the shorter side has so many pixels; 0 keeps them.
        classes: the names of label 0, 1, …; the numbers themselves when absent.
        on_error: "raise", or "skip" to go on without images that cannot be decoded.

    Attributes:
        classes: the names of the labels, None without labels.
        files: the place of every image in its archive, by its index.
        label: (N,) int64 on the CPU, -1 where a sample has no `.cls`; None when no sample has one.
        skipped: (file, reason) of every image that `read` left out.

    Raises:
        DataError: no archives, an archive or index that cannot be read, no images, or a label that is not one.
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
        classes: Sequence[str] | None = None,
        on_error: str = "raise",
    ) -> None:
        super().__init__(
            "webdataset", root, split, limit=limit, channels=channels, resize_shorter=resize_shorter, on_error=on_error
        )
        files: list[Member] = []
        labels: list[int] = []
        for archive in _archives(self.root, split):
            found, numbers = _samples(archive)
            files += found
            labels += numbers
        if not files:
            raise DataError(f"no images in the archives of {self.root}: looked for {', '.join(EXTENSIONS)} in them")
        label = np.array(labels, dtype=np.int64)
        if label.max() >= 0:
            self.classes = list(classes) if classes else [str(value) for value in range(label.max() + 1)]
            if label.max() >= len(self.classes):
                raise DataError(f"{self.root} has label {label.max()}, and classes names only {len(self.classes)}")
            order = by_turns(label)[: limit or None]
            files, self.label = [files[position] for position in order], torch.from_numpy(label[order])
        self.files = files[: limit or None]


def _archives(root: Path, split: str) -> list[Path]:
    """The archives of `split`, sorted by name."""
    spelled = _expanded(str(root))
    for path in map(Path, spelled):
        check_root(path)
    folders = split_folders(root) if root.is_dir() else {}
    if folders and split not in folders:
        raise DataError(f"{root} has {', '.join(sorted(folders))} but there is no split {split!r}")
    archives = _archives_in(folders.get(split, root)) if root.is_dir() else [Path(path) for path in spelled]
    if folders:
        return archives
    words = {archive: set(re.split(r"[^a-z]+", archive.stem.lower())) for archive in archives}
    if not any(words[archive] & {name for names in SPLITS.values() for name in names} for archive in archives):
        if split != "train":
            raise DataError(f"{root} is not divided into splits, so there is no split {split!r}")
        return archives
    for name in SPLITS[split]:
        if chosen := [archive for archive in archives if name in words[archive]]:
            return chosen
    named = " or ".join(f"{name}-*.tar" for name in SPLITS[split] if name in SPLITS)
    raise DataError(f"{root} has no {named}: there is no split {split!r}")


def _expanded(pattern: str) -> list[str]:
    """`{000..146}` and `{train,val}` spelled out, as shells do; anything else stays as it is."""
    braces = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if braces is None or os.path.exists(pattern):
        return [pattern]
    first, last, words = braces.groups()
    width = len(first) if words is None and first.startswith("0") else 0
    parts = words.split(",") if words else [str(n).zfill(width) for n in range(int(first), int(last) + 1)]
    head, tail = pattern[: braces.start()], pattern[braces.end() :]
    return [path for part in parts for path in _expanded(head + part + tail)]


def _archives_in(folder: Path) -> list[Path]:
    """The archives in a folder, sorted by name.

    Raises:
        DataError: there is none, or one of them is compressed and would be left out.
    """
    names = sorted(os.listdir(folder))
    archives = [folder / name for name in names if name.lower().endswith(".tar")]
    unpacked = {archive.stem for archive in archives}
    for name in names:
        packed = COMPRESSED.fullmatch(name)
        if packed and packed[1] not in unpacked:
            raise DataError(
                f"{folder / name} is compressed, so its images cannot be read one by one; unpack it to {packed[1]}.tar"
            )
    if not archives:
        below = ", ".join(f"{name}/" for name in sub_folders(folder)[:3])
        raise DataError(
            f"no *.tar in {folder}" + (f", which has {below}; give the folder of archives" if below else "")
        )
    return archives


def _samples(archive: Path) -> tuple[list[Member], list[int]]:
    """The images of an archive, and their labels (-1 without one)."""
    index = archive.with_suffix(".idx")
    members = _read_index(archive, index) if index.is_file() else _read_headers(archive)
    samples: list[dict[str, Member]] = []
    latest: dict[str, dict[str, Member]] = {}  # of each key: its files need not lie side by side
    for member in members:
        key, suffix = _split_name(member.name)
        if not key.rpartition("/")[2]:  # hidden files are no samples
            continue
        if suffix in latest.setdefault(key, {}):
            latest[key] = {}
        if not latest[key]:
            samples.append(latest[key])
        latest[key][suffix] = member
    files, labels = [], []
    with open(archive, "rb") as opened:
        for sample in samples:
            image = next((member for suffix, member in sample.items() if f".{suffix}" in EXTENSIONS), None)
            if image is not None:
                files.append(image)
                labels.append(_read_label(opened.fileno(), sample[LABEL]) if LABEL in sample else -1)
    return files, labels


def _split_name(name: str) -> tuple[str, str]:
    """A sample's key and a file's extension in lower case: the name up to its first dot, and the rest."""
    folder, slash, file = name.rpartition("/")
    key, _, suffix = file.partition(".")
    return folder + slash + key, suffix.lower()


def _read_headers(archive: Path) -> Iterable[Member]:
    try:
        with tarfile.open(archive, "r:") as opened:
            members = [member for member in opened if member.isreg()]
    except (OSError, tarfile.TarError) as error:
        raise DataError(
            f"{archive} cannot be read as a tar archive ({error}); replace it, or unpack it to .tar if it is compressed"
        ) from error
    return [Member(str(archive), member.name, member.offset_data, member.size) for member in members]


def _read_index(archive: Path, index: Path) -> Iterable[Member]:
    """The files of an archive from the index that DALI's wds2idx wrote."""
    size = archive.stat().st_size
    members = []
    try:
        lines = index.read_text().splitlines()
        version, count = lines[0].split()
        fields = INDEX_FIELDS[version]
        for number, line in enumerate(lines[1:]):
            words = line.split()
            for begin in range(0, len(words), fields):
                suffix, offset, length, *name = words[begin : begin + fields]
                member = Member(str(archive), name[0] if name else f"{number}.{suffix}", int(offset), int(length))
                if member.offset < 0 or member.size < 0 or member.offset + member.size > size:
                    raise ValueError(f"{member.name} lies beyond the end of {archive.name}")
                members.append(member)
        if len(lines) != int(count) + 1:
            raise ValueError(f"it names {count} samples and lists {len(lines) - 1}")
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DataError(
            f"{index} is not an index of {archive.name} ({error}); delete it, or make it anew with wds2idx"
        ) from error
    return members


def _read_label(archive: int, member: Member) -> int:
    content = os.pread(archive, member.size, member.offset)
    digits = content.strip()
    if not digits.isdigit() or len(digits) > 20 or int(digits) >= MOST_CLASSES:
        raise DataError(
            f"{member} does not hold the number of a class: {content[:20]!r}; it must be one from 0 to "
            f"{MOST_CLASSES - 1}"
        )
    return int(digits)
