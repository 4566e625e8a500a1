"""Loader: which images a rank gets, and in which order; what every loader shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError


class Loader(ABC):
    """Epochs of batches, whose order depends on `seed` and the epoch alone.

    In every step the ranks together hold consecutive images of that order, so a global batch is the same for any number
    of ranks.

    Args:
        count: images of the data set.
        channels: of every image.
        batch_size: images in a batch, on each rank.
        shuffle: draw a new order every epoch; False keeps the order of the data set.
        seed: names the sequence of orders, any 64-bit integer.
        drop_last: leave out the last batch of an epoch when it is incomplete.
        rank, world_size: this process and the number of them; each has a disjoint share of equal length, so an epoch
            leaves out up to world_size - 1 images.

    Raises:
        UserError: an empty data set, or too few images for one batch.
    """

    def __init__(
        self,
        count: int,
        channels: int,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        drop_last: bool,
        rank: int,
        world_size: int,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; it must be at least 1")
        if not 0 <= rank < world_size:
            raise UserError(f"rank is {rank} and world_size {world_size}; it must be 0 <= rank < world_size")
        share = count // world_size
        if share < (batch_size if drop_last else 1):
            raise UserError(_too_few(count, batch_size, world_size))
        self.count = count
        self.channels = channels
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.rank = rank
        self.world_size = world_size
        self.share = share

    def __len__(self) -> int:
        """Batches in an epoch, the same on every rank."""
        full, rest = divmod(self.share, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    @abstractmethod
    def epoch(self, epoch: int, start: int = 0) -> Iterator[ImageBatch]:
        """The batches of epoch `epoch` from batch `start` on; batch k is the same whatever `start` is.

        Raises:
            UserError: `start` outside 0 … len(self).
        """

    @abstractmethod
    def in_order(self) -> Iterator[ImageBatch]:
        """Every image of the data set once, in its order and whatever the rank, in batches of any size."""

    def check_start(self, start: int) -> None:
        """Raises UserError unless an epoch can begin at batch `start`."""
        if not 0 <= start <= len(self):
            raise UserError(f"start is {start}, and an epoch has {len(self)} batches of {self.batch_size} images")

    def order(self, epoch: int) -> Tensor:
        """(share,) int64 on the CPU: the positions of this rank's images, in the order of epoch `epoch`."""
        if self.shuffle:
            # Drawn on the CPU, so that it is the same on every device; torch's generator keeps 32 bits of its seed,
            # so seed and epoch are hashed to these.
            mixed = int(np.random.SeedSequence(self.seed % 2**64, spawn_key=(epoch,)).generate_state(1)[0])
            order = torch.randperm(self.count, generator=torch.Generator().manual_seed(mixed))
        else:
            order = torch.arange(self.count)
        return order[self.rank : self.share * self.world_size : self.world_size]


def _too_few(count: int, batch_size: int, world_size: int) -> str:
    if count == 0:
        return "the data set is empty: there is nothing to load; check the source's root, split and limit"
    ranks = f" on each of {world_size} ranks" if world_size > 1 else ""
    return (
        f"batch_size is {batch_size}{ranks}, but the data set has only {count} images; "
        f"set batch_size to at most {max(count // world_size, 1)}, or use more images"
    )
