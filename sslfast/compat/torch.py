"""torch's loader, with the views of a whole batch drawn at once (`torch.utils.data.DataLoader`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import default_collate

from sslfast.compat.pending import pending_batches, put_off_views, views_put_off, with_views

__all__ = ["DataLoader"]


class DataLoader(TorchDataLoader):
    """torch's DataLoader, which draws the views of compat's transforms for the whole batch, on the training device.

    Workers only read the images; their uint8 pixels, of any sizes, are packed into one `sslfast.data.ImageBatch`, and
    one fused op a view makes the views in the main process. Batches have the structure that torch's loader gives them:
    the views stand where the transform's result stood. Everything else is torch's.

    The random numbers follow from one number of torch's generator (`generator`, or the default one) at the beginning of
    every epoch, and from the image's position in the epoch: `torch.manual_seed` repeats a run, with any number of
    workers and on every device. Ranks need seeds of their own.

    Where the data set has no transform of compat's, or with a `collate_fn` of one's own (the transforms then work image
    by image, in the workers), this is torch's loader.

    Args:
        args, options: as torch's.
        device: where views are drawn; the current CUDA device, or the CPU where there is none, when absent.
    """

    def __init__(self, *args: Any, device: torch.device | str | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.device = device

    @property
    def _draws(self) -> bool:
        return self.collate_fn is default_collate

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        if not self._draws:
            return super().__iter__()
        # Only now, and not for good: others make a loader of their own from this one's settings.
        start = self.worker_init_fn
        self.worker_init_fn = _WorkerStart(start)
        try:
            return self._with_views(super().__iter__())
        finally:
            self.worker_init_fn = start

    def _with_views(self, batches: Iterator[Any]) -> Iterator[Any]:
        seed, first = None, 0
        while True:
            with views_put_off():  # without workers the data set is read here
                batch = next(batches, None)
            if batch is None:
                return
            if not (found := pending_batches(batch)):
                yield batch
                continue
            if seed is None:  # after the sampler's number, so that the order of the images is that of torch's loader
                seed = int(torch.empty((), dtype=torch.int64).random_(generator=self.generator))
            device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
            calls = list(dict.fromkeys(part.call for part in found))
            yield with_views(batch, (part.draw(device, seed, first, calls.index(part.call)) for part in found))
            first += len(found[0].images)


@dataclass
class _WorkerStart:
    """The user's `worker_init_fn`, in a worker that leaves views to the main process."""

    then: Callable[[int], None] | None

    def __call__(self, worker: int) -> None:
        put_off_views()
        if self.then is not None:
            self.then(worker)
