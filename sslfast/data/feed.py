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


class Feed:
    """What DALI is given, batch by batch; an iterator that starts to read when it is made.

    A batch is the encoded images and, where only regions of them are to be decoded, the corners and the sizes of these.
    On the CPU DALI decodes images where they are, without a reference to them. Hence `under_way` keeps them until their
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
        self.under_way: deque[list[Part]] = deque()
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

    def __next__(self) -> list[np.ndarray] | tuple[list[np.ndarray], ...]:
        self._read_next()
        if not self._reading:
            raise StopIteration
        batch = [part.result() for part in self._reading.popleft()]
        self.under_way.append(batch)
        contents = [image.content for part in batch for image in part.images]
        regions = [row for part in batch if part.regions is not None for row in part.regions]
        return (contents, [row[:2] for row in regions], [row[2:] for row in regions]) if regions else contents
