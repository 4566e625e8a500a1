"""MemoryLoader: batches of a data set that lies whole in the memory of the training device."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from sslfast.data.batch import ImageBatch
from sslfast.data.loader import Loader


class MemoryLoader(Loader):
    """Batches that share the storage of one resident data set: an epoch only permutes its small tables.

    The order depends on `seed` and the epoch alone, never on the device or on what was loaded before. In every step
    the ranks together hold consecutive images of that order, so a global batch is the same for any number of ranks.

    Args:
        images: the whole data set; it is moved to `device` once.
        batch_size: images in a batch, on each rank.
        shuffle: draw a new order every epoch; False keeps the order of `images`.
        seed: names the sequence of orders, any 64-bit integer.
        drop_last: leave out the last batch of an epoch when it is incomplete.
        device: where the images stay.
        rank, world_size: this process and the number of them; each has a disjoint share of equal length, so an epoch
            leaves out up to world_size - 1 images.

    Raises:
        UserError: an argument outside its range, a device that is not there, an empty data set, or too few images for
            one batch.
    """

    def __init__(
        self,
        images: ImageBatch,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = True,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(
            len(images),
            images.channels,
            batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            device=device,
            rank=rank,
            world_size=world_size,
        )
        self.images = images.to(self.device)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[ImageBatch]:
        """The batches of epoch `epoch` from batch `start` on; batch k is the same whatever `start` is.

        Raises:
            UserError: `start` outside 0 … len(self), or an epoch below 0.
        """
        self.check_start(start)
        shuffled = self.images.select(self.order(epoch).to(self.images.device))
        for begin in range(start * self.batch_size, len(self) * self.batch_size, self.batch_size):
            yield shuffled.select(slice(begin, min(begin + self.batch_size, self.share)))

    def in_order(self) -> Iterator[ImageBatch]:
        """The whole data set as one batch."""
        yield self.images
