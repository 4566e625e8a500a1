"""Feed: what a DALI pipeline is given, batch by batch, read ahead by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
from torch import Tensor


class Encoded(NamedTuple):
    """An image that is ready to be decoded.

    Attributes:
        position: in the data set.
        content: (bytes,) uint8; the encoded image.
        size: height and width of what is encoded, where they are known.
    """

    position: int
    content: np.ndarray
    size: tuple[int, int] = (0, 0)


class Part(NamedTuple):
    """Images of a batch, and the memory that their files were read into.

    Attributes:
        images: ready to be decoded.
        memory: that of their files.
        regions: (images, 4) int32; top, left, height and width of what is to be decoded; None, all of each image.
    """

    images: list[Encoded]
    memory: np.ndarray
    regions: np.ndarray | None = None


class Batch(NamedTuple):
    """The parts of a batch, and what DALI is given of them.

    Attributes:
        parts: the images, in their order.
        contents: the encoded images.
        regions: (images, 2) int32 twice, the corners of the regions to be decoded and their sizes; None, whole images.
    """

    parts: list[Part]
    contents: list[np.ndarray]
    regions: tuple[np.ndarray, np.ndarray] | None


class Feed:
    """What DALI is given, batch by batch; an iterator that starts to read when it is made.

    A batch is the encoded images and, where only regions of them are to be decoded, the corners and the sizes of these.
    On the CPU DALI takes all that from where it is, without a reference to it. Hence `under_way` keeps them until their
    batch has been taken out, and the pipeline keeps this object until it has come to rest.

    Args:
        todo: the positions of the images of each batch.
        read: the encoded images at some positions.
        readers: the threads that read, `threads` of them; each gets an equal part of a batch.
        ahead: batches that are read before they are asked for.
    """

    def __init__(
        self,
        todo: Sequence[Tensor],
        read: Callable[[list[int]], Part],
        readers: ThreadPoolExecutor,
        threads: int,
        ahead: int,
    ) -> None:
        self.under_way: deque[Batch] = deque()
        self._todo = iter(todo)
        self._reading: deque[list[Future[Part]]] = deque()
        self._read, self._readers, self._threads = read, readers, threads
        for _ in range(ahead):
            self._read_next()

    def _read_next(self) -> None:
        for positions in islice(self._todo, 1):
            parts = positions.split(-(-len(positions) // self._threads))
            self._reading.append([self._readers.submit(self._read, part.tolist()) for part in parts])

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> list[np.ndarray] | tuple[list[np.ndarray] | np.ndarray, ...]:
        self._read_next()
        if not self._reading:
            raise StopIteration
        parts = [part.result() for part in self._reading.popleft()]
        contents = [image.content for part in parts for image in part.images]
        needed = [part.regions for part in parts if part.regions is not None]
        if not needed:
            self.under_way.append(Batch(parts, contents, None))
            return contents
        corners, sizes = (np.concatenate([part[:, which] for part in needed]) for which in (slice(2), slice(2, 4)))
        self.under_way.append(Batch(parts, contents, (corners, sizes)))
        return contents, corners, sizes
