"""Loader: which images a rank gets, and in which order; what every loader shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sslfast.data.batch import ImageBatch
from sslfast.data.sources import check_number, check_seed
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
        device: where the batches are made, "cpu" or "cuda", or one of several GPUs.
        rank, world_size: this process and the number of them; each has a disjoint share of equal length, so an epoch
            leaves out up to world_size - 1 images.

    Raises:
        UserError: an argument outside its range, a device that is not there, an empty data set, or too few images for
            one batch.
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
        device: torch.device | str,
        rank: int,
        world_size: int,
    ) -> None:
        check_number("batch_size", batch_size, 1)
        check_seed(seed)
        check_number("rank", rank, 0)
        check_number("world_size", world_size, 1)
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
        self.device = _present(device)
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
            UserError: `start` outside 0 … len(self), or an epoch below 0.
        """

    @abstractmethod
    def in_order(self) -> Iterator[ImageBatch]:
        """Every image of the data set once, in its order and whatever the rank, in batches of any size."""

    def check_start(self, start: int) -> None:
        """Raises UserError unless an epoch can begin at batch `start`."""
        check_number("start", start, 0)
        if not 0 <= start <= len(self):
            raise UserError(f"start is {start}, and an epoch has {len(self)} batches of {self.batch_size} images")

    def order(self, epoch: int) -> Tensor:
        """(share,) int64 on the CPU: the positions of this rank's images, in the order of epoch `epoch`.

        Raises:
            UserError: an epoch that is no whole number, or below 0.
        """
        check_number("epoch", epoch, 0)
        if self.shuffle:
            # Drawn on the CPU, so that it is the same on every device; torch's generator keeps 32 bits of its seed,
            # so seed and epoch are hashed to these.
            mixed = int(np.random.SeedSequence(self.seed % 2**64, spawn_key=(epoch,)).generate_state(1)[0])
            order = torch.randperm(self.count, generator=torch.Generator().manual_seed(mixed))
        else:
            order = torch.arange(self.count)
        return order[self.rank : self.share * self.world_size : self.world_size]


def _present(device: torch.device | str) -> torch.device:
    """The CPU or the GPU of that name."""
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise UserError(f"device is {device!r}; it must be 'cpu' or 'cuda', or 'cuda:1' for the second of several GPUs")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device is '{device}' and torch finds {torch.cuda.device_count()} GPUs; use another one or 'cpu', or "
            "check `sslfast info`"
        )
    return found


def _too_few(count: int, batch_size: int, world_size: int) -> str:
    if count == 0:
        return "the data set is empty: there is nothing to load; check the source's root, split and limit"
    ranks = f" on each of {world_size} ranks" if world_size > 1 else ""
    return (
        f"batch_size is {batch_size}{ranks}, but the data set has only {count} images; "
        f"set batch_size to at most {max(count // world_size, 1)}, or use more images"
    )
