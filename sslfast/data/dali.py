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
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sslfast import _host
from sslfast.data.batch import ImageBatch, Regions
from sslfast.data.decode import decode_files, decode_image, read_file, read_files
from sslfast.data.feed import Batch, Encoded, Feed, Part
from sslfast.data.loader import Loader
from sslfast.data.sources import Source, check_number
from sslfast.data.sources.files import ImageFiles
from sslfast.errors import DataError, UserError

DECODED = (1, 3)  # components of the JPEG files that DALI decodes; those of inks it reads otherwise than Pillow does
LANES = {"cpu": 2, "cuda": 1}  # pipelines that take turns: where one ends a batch, the cores go on with the other's
PREFETCH = 2  # batches that DALI has in hand beside the one in use; the files of as many more are read ahead
POOLED = "1M"  # memory of this size or more is kept for the next batch: new pages cost about a tenth of decoding
EXAMINED = 64  # images in a batch that is decoded only to see whether they can be


class Undecodable(Exception):
    """DALI gave up a batch; it does not say because of which image."""


class DaliLoader(Loader):
    """Batches of image files, decoded by DALI while the batches before them are in use.

    JPEG files are decoded by DALI: on the CPU, or by nvJPEG where `device` is a GPU. CMYK and all other formats are
    decoded by Pillow, and so is a JPEG file that DALI refuses; hence every image is the one that `source.read()` gives,
    as the table in `sslfast.data.decode` says, up to the rounding of JPEG decoders and, where the source shrinks its
    images (`resize_shorter`), that of two bicubic filters. Batch k of an epoch has the `index` and `label` that
    `MemoryLoader(source.read(), …)` gives to its batch k.

    A batch is DALI's own memory, not a copy; it stays valid as long as it is referred to. On a GPU it is bound to the
    stream that is current when the batch is taken: there it can be used at once, without the host waiting for it.

    Args:
        source: image files, for example of `build_source("folder", …)` or `build_source("webdataset", …)`.
        batch_size: images in a batch, on each rank.
        shuffle: draw a new order every epoch; False keeps the order of the source.
        seed: names the sequence of orders, any 64-bit integer.
        drop_last: leave out the last batch of an epoch when it is incomplete.
        device: where the batches are made.
        rank, world_size: this process and the number of them; each has a disjoint share of equal length, so an epoch
            leaves out up to world_size - 1 images.
        threads: threads that read, and threads that decode in each of the pipelines that take turns (two on a CPU, one
            on a GPU); 0 takes one for each core of this process.
        regions: what is needed of each image in an epoch, for example `MultiView.regions`: on a CPU `epoch` decodes no
            more than that of an image, unless the source shrinks its images; damage is noticed in it and at the end of
            the file then. None decodes whole images.

    Attributes:
        regions: as given; it may be changed between epochs.
        skipped: file -> reason, for every image that could not be decoded so far (`on_error="skip"` of the source). Its
            place in the batch takes the next image of the source, so that batches keep their size on every rank.

    Raises:
        UserError: DALI is not installed, a source that does not consist of files, an argument outside its range, a
            device that is not there, an empty data set, or too few images for one batch.
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
        regions: Regions | None = None,
    ) -> None:
        _import_dali()
        check_number("threads", threads, 0)
        if not isinstance(source, ImageFiles):
            raise UserError(
                f"DALI reads image files, and {type(source).__name__} has none; use data 'folder' or 'webdataset', "
                "which find them in class folders and in tar archives, or keep the data set in memory (--loader memory)"
            )
        super().__init__(
            len(source),
            source.channels,
            batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            device=device,
            rank=rank,
            world_size=world_size,
        )
        self.source = source
        self.regions = regions
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.threads = threads or len(os.sched_getaffinity(0))
        self._index = source.index.numpy()
        self._bad: dict[int, str] = {}  # position -> why it cannot be decoded
        self._spare: deque[np.ndarray] = deque()  # memory to read files into, of batches that have been decoded
        self._refused: set[int] = set()  # JPEG files that Pillow decodes and DALI does not

    @property
    def skipped(self) -> dict[str, str]:
        return {str(self.source.files[position]): reason for position, reason in sorted(self._bad.items())}

    def without_skipped(self) -> ImageFiles:
        """The source without the images that could not be decoded so far."""
        return self.source.select(torch.tensor([p for p in range(self.count) if p not in self._bad], dtype=torch.int64))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[ImageBatch]:
        """The batches of epoch `epoch` from batch `start` on; batch k is the same whatever `start` is.

        Raises:
            UserError: `start` outside 0 … len(self), or an epoch below 0.
            DataError: an image cannot be decoded; the message names its file.
        """
        self.check_start(start)
        whole = self.regions is None or self.device.type == "cuda" or self.source.resize_shorter
        todo = self.order(epoch).split(self.batch_size)[start : len(self)]
        yield from self._batches(todo, None if whole else epoch)

    def in_order(self) -> Iterator[ImageBatch]:
        """Every image of the data set once, in the order of the source and whatever the rank.

        As in `epoch`, the place of an image that is skipped has the next one; `decodable` leaves such places out.

        Raises:
            DataError: an image cannot be decoded; the message names its file.
        """
        yield from self._batches(torch.arange(self.count).split(self.batch_size))

    def _batches(self, todo: Sequence[Tensor], region_epoch: int | None = None) -> Iterator[ImageBatch]:
        """The batches whose positions are given; a batch that DALI refuses is examined and tried again.

        With `region_epoch` no more is decoded than the regions that are needed in that epoch.
        """
        known, done = len(self._bad), 0
        while done < len(todo):
            try:
                for batch in self._decode(todo[done:], region_epoch):
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

    def _decode(self, todo: Sequence[Tensor], region_epoch: int | None) -> Iterator[ImageBatch]:
        """The batches whose positions are given, through DALI pipelines of their own, until DALI refuses one."""
        readers = ThreadPoolExecutor(self.threads)
        lanes = min(LANES[self.device.type], len(todo))
        ahead = PREFETCH // LANES[self.device.type]
        try:
            read = partial(self._read, region_epoch=region_epoch)
            feeds = [Feed(todo[lane::lanes], read, readers, self.threads, ahead) for lane in range(lanes)]
            pipelines = []
            for feed in feeds:
                pipelines.append(self._pipeline(feed, ahead, region_epoch is not None))
                pipelines[-1].schedule_run()  # it decodes while the next one is built
            for number in range(len(todo)):
                feed, pipeline = feeds[number % lanes], pipelines[number % lanes]
                images = self._next(pipeline)
                batch = feed.under_way.popleft()
                self._spare.extend(part.memory for part in batch.parts)
                pipeline.schedule_run()  # it decodes while this batch is in use
                yield self._batch(images, batch)
        finally:
            readers.shutdown(cancel_futures=True)

    def _next(self, pipeline: Any) -> Any:
        """The next batch of a pipeline, packed."""
        stream = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None
        try:
            (images,) = pipeline.outputs(stream)
        except RuntimeError as error:
            raise Undecodable(str(error)) from error
        return images

    def _read(self, positions: list[int], region_epoch: int | None = None) -> Part:
        try:
            memory = self._spare.pop()
        except IndexError:
            memory = np.empty(0, np.uint8)
        memory, contents = read_files([self.source.files[position] for position in positions], memory)
        by_region = region_epoch is not None
        images = [self._encoded(*image, by_region) for image in zip(positions, contents, strict=True)]
        if self.regions is None or region_epoch is None:
            return Part(images, memory)
        index = torch.from_numpy(self._index[[image.position for image in images]])
        sizes = torch.tensor([image.size for image in images], dtype=torch.int32)
        return Part(images, memory, self.regions(index, sizes, region_epoch).numpy())

    def _encoded(self, wanted: int, content: np.ndarray | None, with_size: bool = False) -> Encoded:
        """The image at position `wanted`, of which the file may have been read, or the next one that can be decoded."""
        for position in (place % self.count for place in range(wanted, wanted + self.count)):
            if position in self._bad:
                continue
            try:
                return self._content(position, content if position == wanted else None, with_size)
            except DataError as error:
                if self.source.on_error == "raise":
                    raise
                self._bad[position] = str(error.__cause__)
        raise DataError(f"none of the images in {self.source.root} can be decoded; one is {next(iter(self.skipped))}")

    def _content(self, position: int, content: np.ndarray | None, with_size: bool) -> Encoded:
        """What DALI is to decode for an image; `content` is its file, where that has been read."""
        file = self.source.files[position]
        if content is None:
            content = np.frombuffer(read_file(file), np.uint8)
        components, height, width = _host.jpeg_header(content)
        if components in DECODED and position not in self._refused and (height > 0 or not with_size):
            return Encoded(position, content, (height, width))
        # A portable pixmap, which is a line of text and the pixels: so DALI packs what Pillow decodes, too.
        pixels = decode_image(file, self.source.channels, self.source.resize_shorter)
        kind = "P6" if self.source.channels == 3 else "P5"
        height, width = pixels.shape[:2]
        header = f"{kind} {width} {height} 255\n".encode()
        content = np.concatenate([np.frombuffer(header, np.uint8), pixels.reshape(-1)])
        return Encoded(position, content, (height, width))

    def _examine(self, wanted: Sequence[int], refusal: Undecodable) -> None:
        """Finds out with Pillow which images of a refused batch are damaged; the batch can be tried again then.

        Raises:
            DataError: an image is damaged and is not to be skipped; or none is, and DALI refuses even plain pixels.
        """
        positions = [self._encoded(position, None).position for position in wanted]
        files = [self.source.files[position] for position in positions]
        _, skipped = decode_files(files, self.source.channels, on_error=self.source.on_error)
        reasons = dict(skipped)
        self._bad.update({p: reasons[str(f)] for p, f in zip(positions, files, strict=True) if str(f) in reasons})
        if not skipped and self._refused.issuperset(positions):
            raise DataError(f"DALI cannot decode a batch of {files[0]} and others: {refusal}") from refusal
        if not skipped:
            self._refused.update(positions)

    def _pipeline(self, feed: Feed, ahead: int, by_region: bool) -> Any:
        """A DALI pipeline from encoded images to one packed batch of pixels, `ahead` batches ahead."""
        dali = _import_dali()
        on_gpu = self.device.type == "cuda"
        pipeline = dali.Pipeline(
            batch_size=self.batch_size,
            num_threads=self.threads,
            device_id=self.device.index if on_gpu else None,
            prefetch_queue_depth=ahead,
            exec_dynamic=True,  # it leaves the memory of an output to whoever holds it
        )
        with pipeline:
            output_type = dali.types.RGB if self.source.channels == 3 else dali.types.GRAY
            if by_region:
                kinds = [dali.types.UINT8, dali.types.INT32, dali.types.INT32]
                inputs = dali.fn.external_source(source=feed, num_outputs=3, dtype=kinds, ndim=1, no_copy=True)
                images = dali.fn.decoders.image_slice(*inputs, axes=(0, 1), output_type=output_type)
            else:
                encoded = dali.fn.external_source(source=feed, dtype=dali.types.UINT8, ndim=1, no_copy=not on_gpu)
                device = "mixed" if on_gpu else "cpu"
                images = dali.fn.decoders.image(encoded, device=device, output_type=output_type)
            if self.source.resize_shorter:
                size = _shrunk(dali, dali.fn.peek_image_shape(encoded), self.source.resize_shorter)
                images = dali.fn.resize(images, size=size, interp_type=dali.types.INTERP_CUBIC)
            pipeline.set_outputs(images)
        pipeline.build()
        return pipeline

    def _batch(self, images: Any, batch: Batch) -> ImageBatch:
        """DALI's packed batch as an ImageBatch; its tables travel to a GPU in one transfer that nobody waits for."""
        # Tables are made by numpy, where a step on a few numbers takes a tenth of what it takes torch.
        encoded = [image for part in batch.parts for image in part.images]
        positions = [image.position for image in encoded]
        region = None
        if batch.regions:
            wholes = np.array([image.size for image in encoded], dtype=np.int32)
            region = torch.from_numpy(np.hstack([batch.regions[0], wholes]))
        sizes = np.array(images.shape(), dtype=np.int32)[:, :2].copy()
        counts = sizes.prod(axis=1, dtype=np.int64) * self.source.channels
        # A row of sizes is two numbers of 32 bits: in the table it travels as one of 64.
        columns = [counts.cumsum() - counts, self._index[positions], sizes.view(np.int64)[:, 0]]
        if self.source.label is not None:
            columns.append(self.source.label.numpy()[positions])
        table = torch.from_numpy(np.stack(columns))
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            table = table.pin_memory().to(self.device, non_blocking=True)
        # DALI packs the images of an output one after the other, without gaps; it raises an error if it ever does not.
        packed = images.as_reshaped_tensor([int(counts.sum())])
        with torch.cuda.device(self.device) if on_gpu else nullcontext():
            storage = torch.from_dlpack(packed)
        return ImageBatch(
            storage=storage,
            offsets=table[0],
            sizes=table[2].view(torch.int32).view(-1, 2),
            index=table[1],
            label=None if self.source.label is None else table[3],
            channels=self.source.channels,
            region=region,
        )


def decodable(source: ImageFiles) -> ImageFiles:
    """The images of a source that can be decoded: all, or those that `on_error="skip"` leaves.

    What is to be skipped is found by decoding every image once, so that its place and its label can be left out, too.
    """
    if source.on_error == "raise":
        return source
    loader = DaliLoader(source, min(EXAMINED, len(source)), shuffle=False, drop_last=False)
    for _ in loader.in_order():
        pass
    return loader.without_skipped()


def _shrunk(dali: Any, shape: Any, shorter: int) -> Any:
    """(height, width) of images of `shape` when they are shrunk as by `sslfast.data.decode.shrunk`."""
    height, width = shape[0], shape[1]
    least = dali.math.min(height, width)
    target = dali.math.min(least, shorter)
    # Whole numbers, so that both loaders round alike.
    size = dali.fn.stack(*((2 * side * target + least) // (2 * least) for side in (height, width)))
    return dali.fn.cast(size, dtype=dali.types.FLOAT)


def _import_dali() -> Any:
    os.environ.setdefault("DALI_MALLOC_POOL_THRESHOLD", POOLED)  # DALI reads it once; its default is 32M
    try:
        from nvidia import dali
        from nvidia.dali import fn, types  # noqa: F401 - so that `dali` has them
    except ImportError as error:
        raise UserError(
            f"DaliLoader needs NVIDIA DALI ({error}); install it with pip install 'sslfast[dali-cuda13]' "
            "(CUDA 13, and machines without a GPU) or 'sslfast[dali-cuda12]'; or use MemoryLoader(source.read(), …)"
        ) from error
    return dali
