"""DaliLoader: batches of image files that need not fit into memory, read ahead and decoded by NVIDIA DALI.

    source = build_source("folder", root="~/imagenet")                 # or "webdataset"
    loader = DaliLoader(source, batch_size=256, device="cuda")
    for batch in loader.epoch(0):                                      # ImageBatch, on the device

Which image comes when is `Loader.order`, as for `MemoryLoader`: the whole state of the loader is the number of the
epoch and that of the next batch, and any image can come next, from a file or from the middle of an archive.
"""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sslfast.data.batch import ImageBatch
from sslfast.data.decode import decode_files, decode_image, read_file
from sslfast.data.loader import Loader
from sslfast.data.sources import Source
from sslfast.data.sources.files import ImageFiles
from sslfast.errors import DataError, UserError

JPEG = b"\xff\xd8\xff"
PREFETCH = 2  # batches that are decoded ahead, and as many whose files are read ahead of these


class Encoded(NamedTuple):
    """An image that is ready to be decoded: its position in the data set, and (bytes,) uint8."""

    position: int
    content: np.ndarray


class Undecodable(Exception):
    """DALI gave up a batch; it does not say because of which image."""


class DaliLoader(Loader):
    """Batches of image files, decoded by DALI while the batches before them are in use.

    JPEG files are decoded by DALI: on the CPU, or by nvJPEG where `device` is a GPU. All other formats are decoded by
    Pillow, as `sslfast.data.decode` says, and so is a JPEG file that DALI refuses; hence every image is the one that
    `source.read()` gives, up to the rounding of JPEG decoders. Batch k of an epoch has the `index` and `label` that
    `MemoryLoader(source.read(), …)` gives to its batch k.

    A batch is DALI's own memory, not a copy; it stays valid as long as it is referred to.

    Args:
        source: image files, for example of `build_source("folder", …)` or `build_source("webdataset", …)`.
        batch_size: images in a batch, on each rank.
        shuffle: draw a new order every epoch; False keeps the order of the source.
        seed: names the sequence of orders, any 64-bit integer.
        drop_last: leave out the last batch of an epoch when it is incomplete.
        device: where the batches are made.
        rank, world_size: this process and the number of them; each has a disjoint share of equal length, so an epoch
            leaves out up to world_size - 1 images.
        threads: threads that read and threads that decode; 0 takes one for each core of this process.

    Attributes:
        skipped: file -> reason, for every image that could not be decoded so far (`on_error="skip"` of the source). Its
            place in the batch takes the next image of the source, so that batches keep their size on every rank.

    Raises:
        UserError: DALI is not installed, a source that does not consist of files or that resizes them, an empty data
            set, or too few images for one batch.
        DataError: from `epoch`: an image cannot be decoded, and the source does not skip such.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = True,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        threads: int = 0,
    ) -> None:
        _import_dali()
        if not isinstance(source, ImageFiles):
            raise UserError(
                f"DaliLoader reads image files, and {type(source).__name__} has none; "
                "use data 'folder' or 'webdataset', or MemoryLoader(source.read(), …)"
            )
        if source.resize_shorter:
            raise UserError(
                f"resize_shorter is {source.resize_shorter}; it saves memory in MemoryLoader, and DaliLoader keeps the "
                "images' sizes; leave it 0"
            )
        super().__init__(
            len(source),
            source.channels,
            batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )
        self.source = source
        self.device = torch.device(device)
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.threads = threads or len(os.sched_getaffinity(0))
        self._label = None if source.label is None else torch.from_numpy(source.label)
        self._bad: dict[int, str] = {}  # position -> why it cannot be decoded
        self._refused: set[int] = set()  # JPEG files that Pillow decodes and DALI does not

    @property
    def skipped(self) -> dict[str, str]:
        return {str(self.source.files[position]): reason for position, reason in sorted(self._bad.items())}

    def epoch(self, epoch: int, start: int = 0) -> Iterator[ImageBatch]:
        """The batches of epoch `epoch` from batch `start` on; batch k is the same whatever `start` is.

        Raises:
            UserError: `start` outside 0 … len(self).
            DataError: an image cannot be decoded; the message names its file.
        """
        self.check_start(start)
        yield from self._batches(self.order(epoch).split(self.batch_size)[start : len(self)])

    def in_order(self) -> Iterator[ImageBatch]:
        """Every image of the data set once, in the order of the source and whatever the rank; skips as `epoch` does.

        Raises:
            DataError: an image cannot be decoded; the message names its file.
        """
        yield from self._batches(torch.arange(self.count).split(self.batch_size))

    def _batches(self, todo: Sequence[Tensor]) -> Iterator[ImageBatch]:
        """The batches whose positions are given; a batch that DALI refuses is examined and tried again."""
        known, done = len(self._bad), 0
        while done < len(todo):
            try:
                for batch in self._decode(todo[done:]):
                    yield batch
                    done += 1
            except Undecodable as refusal:  # noqa: PERF203 - it goes on from the refused batch
                self._examine(todo[done].tolist(), refusal)
        if len(self._bad) > known:
            position, reason = list(self._bad.items())[known]
            warnings.warn(
                f"skipped {len(self._bad)} of {self.count} images in {self.source.root} that cannot be decoded; "
                f"one is {self.source.files[position]} ({reason})",
                stacklevel=2,
            )

    def _decode(self, todo: Sequence[Tensor]) -> Iterator[ImageBatch]:
        """The batches whose positions are given, through a DALI pipeline of their own, until DALI refuses one."""
        under_way: deque[list[int]] = deque()  # positions of the batches that DALI has been given
        readers = ThreadPoolExecutor(self.threads)

        def feed() -> Iterator[list[np.ndarray]]:
            for batch in self._read_ahead(todo, readers):
                under_way.append([image.position for image in batch])
                yield [image.content for image in batch]

        try:
            pipeline = self._pipeline(feed())
            stream = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None
            for _ in todo:
                try:
                    (images,) = pipeline.run(stream)
                except RuntimeError as error:
                    raise Undecodable(str(error)) from error
                yield self._batch(images, under_way.popleft())
        finally:
            readers.shutdown(cancel_futures=True)

    def _read_ahead(self, todo: Sequence[Tensor], readers: ThreadPoolExecutor) -> Iterator[list[Encoded]]:
        reading: deque[Iterator[Encoded]] = deque()
        for positions in todo:
            reading.append(readers.map(self._encoded, positions.tolist()))
            if len(reading) > PREFETCH:
                yield list(reading.popleft())
        while reading:
            yield list(reading.popleft())

    def _encoded(self, wanted: int) -> Encoded:
        """The image at position `wanted`, or the next one that can be decoded."""
        for position in (place % self.count for place in range(wanted, wanted + self.count)):
            if position in self._bad:
                continue
            try:
                return Encoded(position, self._content(position))
            except DataError as error:
                if self.source.on_error == "raise":
                    raise
                self._bad[position] = str(error.__cause__)
        raise DataError(f"none of the images in {self.source.root} can be decoded; one is {next(iter(self.skipped))}")

    def _content(self, position: int) -> np.ndarray:
        file = self.source.files[position]
        content = read_file(file)
        if content.startswith(JPEG) and position not in self._refused:
            return np.frombuffer(content, np.uint8)
        # A portable pixmap, which is a line of text and the pixels: so DALI packs what Pillow decodes, too.
        pixels = decode_image(file, self.source.channels)
        kind = "P6" if self.source.channels == 3 else "P5"
        header = f"{kind} {pixels.shape[1]} {pixels.shape[0]} 255\n".encode()
        return np.concatenate([np.frombuffer(header, np.uint8), pixels.reshape(-1)])

    def _examine(self, wanted: Sequence[int], refusal: Undecodable) -> None:
        """Finds out with Pillow which images of a refused batch are damaged; the batch can be tried again then.

        Raises:
            DataError: an image is damaged and is not to be skipped; or none is, and DALI refuses even plain pixels.
        """
        positions = [self._encoded(position).position for position in wanted]
        files = [self.source.files[position] for position in positions]
        _, skipped = decode_files(files, self.source.channels, on_error=self.source.on_error)
        reasons = dict(skipped)
        self._bad.update({p: reasons[str(f)] for p, f in zip(positions, files, strict=True) if str(f) in reasons})
        if not skipped and self._refused.issuperset(positions):
            raise DataError(f"DALI cannot decode a batch of {files[0]} and others: {refusal}") from refusal
        if not skipped:
            self._refused.update(positions)

    def _pipeline(self, feed: Iterator[list[np.ndarray]]) -> Any:
        """A DALI pipeline from encoded images to one packed batch of pixels."""
        dali = _import_dali()
        on_gpu = self.device.type == "cuda"
        pipeline = dali.Pipeline(
            batch_size=self.batch_size,
            num_threads=self.threads,
            device_id=self.device.index if on_gpu else None,
            prefetch_queue_depth=PREFETCH,
            exec_dynamic=True,  # it leaves the memory of an output to whoever holds it
        )
        with pipeline:
            encoded = dali.fn.external_source(source=feed, dtype=dali.types.UINT8, ndim=1)
            pipeline.set_outputs(
                dali.fn.decoders.image(
                    encoded,
                    device="mixed" if on_gpu else "cpu",
                    output_type=dali.types.RGB if self.source.channels == 3 else dali.types.GRAY,
                )
            )
        pipeline.build()
        return pipeline

    def _batch(self, images: Any, positions: list[int]) -> ImageBatch:
        """DALI's packed batch as an ImageBatch."""
        shapes = torch.tensor(images.shape(), dtype=torch.int64)
        counts = shapes.prod(dim=1)
        index = torch.tensor(positions)
        label = None if self._label is None else self._label[index]
        return ImageBatch(
            storage=_view(images, int(counts.sum()), self.device),
            offsets=(counts.cumsum(0) - counts).to(self.device),
            sizes=shapes[:, :2].to(self.device, torch.int32),
            index=index.to(self.device),
            label=None if label is None else label.to(self.device),
            channels=self.source.channels,
        )


class _Memory:
    """The memory of a DALI batch, in the words in which arrays are handed over; it keeps the batch alive."""

    def __init__(self, images: Any, count: int) -> None:
        self.images = images
        self.__array_interface__ = {
            "shape": (count,),
            "typestr": "|u1",
            "data": (images.data_ptr(), False),
            "version": 3,
        }
        self.__cuda_array_interface__ = self.__array_interface__


def _view(images: Any, count: int, device: torch.device) -> Tensor:
    """(count,) uint8: the memory of a DALI batch, which is contiguous, without a copy."""
    memory = _Memory(images, count)
    return torch.as_tensor(memory, device=device) if device.type == "cuda" else torch.from_numpy(np.asarray(memory))


def _import_dali() -> Any:
    try:
        from nvidia import dali
        from nvidia.dali import fn, types  # noqa: F401 - so that `dali` has them
    except ImportError as error:
        raise UserError(
            f"DaliLoader needs NVIDIA DALI ({error}); install it with pip install 'sslfast[dali-cuda13]' "
            "(CUDA 13, and machines without a GPU) or 'sslfast[dali-cuda12]'; or use MemoryLoader(source.read(), …)"
        ) from error
    return dali
