"""Image files to uint8: every format and mode that Pillow reads, brought to the same form, by either loader.

    what is in the file                 what comes out (channels=3; with channels=1, its luma by ITU-R 601)
    ----------------------------------  -------------------------------------------------------------------------
    JPEG, baseline or progressive       RGB, at full chroma resolution
    gray, 1 or 8 bits                   the gray value three times
    EXIF orientation (any format)       turned and mirrored upright; height and width are those of the upright image
    orientation in XMP alone            not applied
    CMYK and YCCK JPEG                  RGB = (255 - ink) (255 - black) / 255; inks are read as Adobe writes them,
                                        inverted, whether the file says so or not
    palette (PNG, GIF)                  the colours of the palette
    transparency                        laid over white
    16-bit gray (PNG, TIFF)             divided by 257 and rounded to nearest
    16-bit RGB (PNG)                    the upper 8 bits
    animation (GIF, WebP, TIFF)         the first frame
    colour profiles (ICC)               not applied
    floating point, 32-bit, CIE-Lab     refused: they have no agreed range
    truncated or damaged                refused by name; with on_error="skip" left out, counted and reported
    JPEG with an early end marker       decoded: it has its full size, and no image where its data ends; the decoder's
                                        warning does not reach Pillow, and no error tells it from a whole file

`MemoryLoader` gets every image from here. `DaliLoader` lets DALI decode JPEG files of one or three components, which
agrees with this up to the rounding of JPEG decoders, and takes everything else from here.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps

from sslfast import _host
from sslfast.data.batch import ImageBatch
from sslfast.errors import DataError, UserError

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"),
    *(".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm"),
)
MODES = {1: "L", 3: "RGB"}
MEMINFO = Path("/proc/meminfo")
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
GROUP = 32  # files handed to a thread at a time: for tiny images a hand-over costs as much as the decoding


@dataclass(frozen=True, slots=True)
class Member:
    """An image file inside a tar archive.

    Attributes:
        archive: path of the archive.
        name: the file's name in it.
        offset, size: the bytes of the archive which are the file.
    """

    archive: str
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"

    def read_bytes(self) -> bytes:
        """The encoded file."""
        with open(self.archive, "rb") as archive:
            archive.seek(self.offset)
            content = archive.read(self.size)
        if len(content) < self.size:
            raise EOFError(f"the archive ends {self.size - len(content)} bytes before the file does")
        return content


def read_file(file: str | Path | Member) -> bytes:
    """The encoded bytes of an image file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        return (Path(file) if isinstance(file, str) else file).read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(_undecodable(file, error)) from error


def read_files(files: Sequence[str | Member], memory: np.ndarray) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """The encoded bytes of image files, read into memory that can be used again, while other threads run.

    Args:
        files: paths, or places in archives.
        memory: (bytes,) uint8 to read them into.

    Returns:
        The memory that was used, new where the given one is too small; and the part of it that is each file, (bytes,)
        uint8, or None where the file is not there as a whole: `read_file` says why.
    """
    places = [
        (os.fsencode(file.archive), file.offset, file.size) if isinstance(file, Member) else (os.fsencode(file), 0, -1)
        for file in files
    ]
    memory, ends, whole = _host.read_files(places, memory)
    parts = zip([0, *ends][: len(ends)], ends, whole, strict=True)
    return memory, [memory[begin:end] if is_whole else None for begin, end, is_whole in parts]


def decode_image(path: str | Path | Member, channels: int = 3, resize_shorter: int = 0) -> np.ndarray:
    """One image file as (H, W, channels) uint8 in [0, 255], upright.

    Args:
        path: a file of any format in `EXTENSIONS`, on disk or in a tar archive.
        channels: 3 (RGB) or 1 (gray).
        resize_shorter: shrink the image until its shorter side has so many pixels (antialiased; smaller images stay
            as they are); 0 keeps the size.

    Raises:
        DataError: the file cannot be read or decoded.
        UserError: another number of channels.
    """
    if channels not in MODES:
        raise UserError(f"channels is {channels!r}; image files are decoded to 3 (RGB) or 1 (gray)")
    try:
        with _open(path) as image:
            target = shrunk(image.size, resize_shorter)
            if target != image.size:
                # JPEG: decode at 1/2, 1/4 or 1/8, but at twice the target or more, which loses little.
                image.draft(None, (2 * target[0], 2 * target[1]))
            image.load()
            for name in ("xmp", "XML:com.adobe.xmp"):  # Pillow would take an orientation from there, too
                image.info.pop(name, None)
            if image.getexif().get(ExifTags.Base.Orientation) in range(5, 9):  # on its side, until it is transposed
                target = target[::-1]
            pixels = _to_mode(ImageOps.exif_transpose(image), MODES[channels])
            if target != pixels.size:
                pixels = pixels.resize(target, Image.Resampling.BICUBIC)
            return np.array(pixels, dtype=np.uint8).reshape(pixels.height, pixels.width, channels)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise DataError(_undecodable(path, error)) from error


def shrunk(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """`size` (either order) scaled down until its shorter side is `shorter`; unchanged when it is smaller or 0."""
    if shorter == 0 or min(size) <= shorter:
        return size
    least = min(size)
    width, height = ((2 * side * shorter + least) // (2 * least) for side in size)  # rounded to nearest, halves up
    return width, height


def decode_files(
    paths: Sequence[str | Member], channels: int = 3, resize_shorter: int = 0, on_error: str = "raise"
) -> tuple[list[np.ndarray | None], list[tuple[str, str]]]:
    """Decodes files in threads, one per core (Pillow releases the interpreter's lock while it decodes).

    Args:
        paths: the files.
        channels, resize_shorter: as for `decode_image`.
        on_error: "raise" stops at the first bad file; "skip" goes on.

    Returns:
        One (H, W, channels) uint8 array a file, None where it was skipped; and (file, reason) of each skipped one.

    Raises:
        DataError: a file cannot be decoded, with on_error="raise".
    """

    def decode(group: Sequence[str | Member]) -> list[np.ndarray | DataError]:
        results: list[np.ndarray | DataError] = []
        for path in group:
            try:
                results.append(decode_image(path, channels, resize_shorter))
            except DataError as error:  # noqa: PERF203 - one bad file must not end the others
                if on_error == "raise":
                    raise
                results.append(error)
        return results

    images: list[np.ndarray | None] = []
    skipped: list[tuple[str, str]] = []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        groups = [paths[begin : begin + GROUP] for begin in range(0, len(paths), GROUP)]
        for group, results in zip(groups, pool.map(decode, groups), strict=True):
            for path, result in zip(group, results, strict=True):
                if isinstance(result, DataError):
                    skipped.append((str(path), str(result.__cause__)))
                images.append(None if isinstance(result, DataError) else result)
    return images, skipped


def pack(images: list[np.ndarray], channels: int, label: torch.Tensor | None) -> ImageBatch:
    """Packs decoded images into one ImageBatch and empties the list, so that both never lie in memory whole."""
    sizes = np.array([image.shape[:2] for image in images], dtype=np.int32).reshape(-1, 2)
    counts = np.array([image.size for image in images], dtype=np.int64)
    offsets = counts.cumsum() - counts
    storage = np.empty(counts.sum(), dtype=np.uint8)
    images.reverse()
    for begin in offsets:
        image = images.pop()
        storage[begin : begin + image.size] = image.reshape(-1)
    return ImageBatch(
        storage=torch.from_numpy(storage),
        offsets=torch.from_numpy(offsets),
        sizes=torch.from_numpy(sizes),
        index=torch.arange(len(sizes)),
        label=label,
        channels=channels,
    )


def check_memory(
    paths: Sequence[str | Member], channels: int, resize_shorter: int, where: str, samples: int = 64
) -> None:
    """Estimates the decoded size of `paths` from the headers of a few, before any pixel is read.

    Raises:
        DataError: the images would not fit into the free memory.
    """
    free = available_memory()
    if free is None:
        return
    sizes = []
    for path in paths[:: max(1, len(paths) // samples)]:
        try:
            with _open(path) as image:
                sizes.append(image.size)
        except Exception:  # noqa: PERF203 - decoding will name the file
            continue

    def needed(shorter: int) -> float:
        pixels = [w * h for w, h in (shrunk(size, shorter) for size in sizes)]
        return channels * len(paths) * sum(pixels) / max(len(pixels), 1)

    if needed(resize_shorter) <= 0.9 * free:  # a tenth is left to everything else
        return
    fits = max(1, int(len(paths) * 0.9 * free / needed(resize_shorter)))
    cures = [f"resize_shorter={s} ({_gigabytes(needed(s))})" for s in (256, 128, 64, 32) if needed(s) <= 0.9 * free][:1]
    raise DataError(
        f"the {len(paths)} images in {where} need about {_gigabytes(needed(resize_shorter))} of memory as pixels, and "
        f"{_gigabytes(free)} are free; " + " or ".join([*cures, f"limit={fits}"]) + " makes them fit"
    )


def available_memory() -> int | None:
    """Bytes of memory this process may still take (the kernel's estimate and the control group's limit), if known."""
    found = []
    if MEMINFO.exists():
        found += [int(line.split()[1]) * 1024 for line in MEMINFO.read_text().splitlines() if "MemAvailable" in line]
    for path in CGROUP_LIMITS:
        limit = path.read_text().strip() if path.exists() else "max"
        found += [int(limit)] if limit.isdigit() else []
    return min(found, default=None)


def _open(file: str | Path | Member) -> Image.Image:
    return Image.open(io.BytesIO(file.read_bytes()) if isinstance(file, Member) else file)


def _undecodable(file: str | Path | Member, error: Exception) -> str:
    return f"{file} cannot be decoded ({error}); replace or delete the file, or go on without it with --on-error skip"


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode in ("F", "LAB"):
        raise ValueError(f"mode {image.mode} has no agreed range; convert the file to 8 or 16 bits a channel")
    if image.mode.startswith("I"):  # 16-bit gray, which Pillow also hands over as 32-bit integers
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit integers have no agreed range; convert the file to 8 or 16 bits a channel")
        image = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)
