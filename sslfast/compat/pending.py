"""Transforms of one image, whose views a loader can draw later, for a whole batch at once."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, MutableSequence, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data._utils.collate import default_collate_fn_map

from sslfast.augment import MultiView, Transform
from sslfast.data import ImageBatch
from sslfast.errors import UserError

_NOT_YET = (
    "sslfast.compat.torch.DataLoader draws them for the whole batch; let the data set hand them on as they are, or "
    "take torch.utils.data.DataLoader"
)
_put_off = ContextVar("put_off", default=False)
_process_puts_off = False
_calls = count()


def put_off_views() -> None:
    """From now on the transforms of this process, in all its threads, only hand over the image, in a `PendingImage`."""
    global _process_puts_off
    _process_puts_off = True


@contextmanager
def views_put_off() -> Iterator[None]:
    """Inside, the transforms only hand over the image, in a `PendingImage`; those of other threads do not."""
    token = _put_off.set(True)
    try:
        yield
    finally:
        _put_off.reset(token)


class PerImage(Transform):
    """A transform that is called with one image at a time, as data sets do.

    It draws from torch's default generator; inside `sslfast.compat.torch.DataLoader` it draws nothing and leaves the
    image to the loader. `seed` and the count of calls are not used.

    Attributes:
        one_view: gives the view itself, where others give a list of views.
    """

    one_view = False

    def __call__(self, image: Image.Image | Tensor) -> Any:
        """The views of one image.

        Args:
            image: a PIL image, RGB or gray, or (C, H, W) uint8 in [0, 255].

        Returns:
            One (C, h, w) tensor a view, normalised.

        Raises:
            UserError: another type, mode, dtype or shape.
        """
        pixels = _pixels(image)
        if _process_puts_off or _put_off.get():
            return PendingImage(pixels, self, next(_calls))
        seed = int(torch.randint(2**63 - 1, (), device="cpu"))  # a worker's own, whatever the default device
        views = self.draw(ImageBatch.from_list([pixels]), seed)
        return views[0] if self.one_view else [view[0] for view in views]

    def draw(self, images: ImageBatch, seed: int, call: int = 0, view: int | None = None) -> Any:
        """The views of a batch: one (B, C, h, w) tensor a view, on the batch's device.

        Args:
            images: their `index`, `seed` and `call` name the random streams.
            seed: any 64-bit integer.
            call: distinguishes several calls with the same image.
            view: the one that is wanted, all when None.
        """
        settings, specs = self.multi_view, self.specs
        if view is not None:
            spec = specs[view]
            specs = [spec.replace(stream=view) if spec.stream is None else spec]
        views = MultiView(specs, seed, settings.dtype, settings.channels_last)(images, call).tensors
        return views[0] if self.one_view or view is not None else views


@dataclass(frozen=True)
class PendingImage:
    """An image whose views are still to be drawn; like the list of them it has a length, and gives single ones.

    Attributes:
        pixels: (H, W, C) or (H, W) uint8 in [0, 255].
        transform: draws them.
        call: number of the transform's call; views of one call are drawn alike wherever they stand.
        view: the one that is wanted, all when None.
    """

    pixels: Tensor
    transform: PerImage
    call: int
    view: int | None = None

    def __len__(self) -> int:
        return len(self._views())

    def __getitem__(self, position: int | slice) -> PendingImage | list[PendingImage]:
        found = self._views()[position]
        if isinstance(found, range):
            return [replace(self, view=view) for view in found]
        return replace(self, view=found)

    def __getattr__(self, name: str) -> NoReturn:
        message = f"views have no {name!r} yet: {_NOT_YET}"
        raise AttributeError(message if not name.startswith("__") else name)

    def _views(self) -> range:
        """Positions of the views where there is a list of them.

        Raises:
            TypeError: it is a single view.
        """
        if self.view is not None or self.transform.one_view:
            raise TypeError(f"a view has no values yet: {_NOT_YET}")
        return range(len(self.transform.specs))


@dataclass(frozen=True)
class PendingBatch:
    """A batch whose views are still to be drawn, all or one; `index` is the position in the batch."""

    images: ImageBatch
    transform: PerImage
    call: int
    view: int | None

    def draw(self, device: torch.device | str, seed: int, first: int, call: int) -> Any:
        """The views on `device`, where the batch begins at position `first` of the epoch; see `PerImage.draw`."""
        images = self.images.to(device)
        return self.transform.draw(replace(images, index=images.index + first), seed, call, self.view)


def pending_batches(batch: Any) -> list[PendingBatch]:
    """All that are found in a batch's lists, tuples and mappings, in order."""
    if isinstance(batch, PendingBatch):
        return [batch]
    parts = batch.values() if isinstance(batch, MutableMapping) else batch if isinstance(batch, list | tuple) else ()
    return [pending for part in parts for pending in pending_batches(part)]


def with_views(batch: Any, views: Iterator[Any]) -> Any:
    """The batch with its pending batches replaced by what `views` gives; lists and mappings are changed in place."""
    if isinstance(batch, PendingBatch):
        return next(views)
    if isinstance(batch, MutableMapping):
        for name in batch:
            batch[name] = with_views(batch[name], views)
    elif isinstance(batch, MutableSequence):
        batch[:] = [with_views(part, views) for part in batch]
    elif isinstance(batch, tuple) and hasattr(batch, "_make"):  # of other tuples default_collate makes lists
        return batch._make(with_views(part, views) for part in batch)
    return batch


def _pixels(image: Image.Image | Tensor) -> Tensor:
    if isinstance(image, Tensor):
        if image.dim() != 3:
            raise UserError(f"the transform takes one image (C, H, W), got a tensor of shape {tuple(image.shape)}")
        return image.movedim(0, -1)
    if not isinstance(image, Image.Image):
        raise UserError(f"the transform takes a PIL image or a (C, H, W) uint8 tensor, got {type(image).__name__}")
    if image.mode not in ("RGB", "L"):
        raise UserError(f"the transform takes PIL images RGB or L, got {image.mode}; use image.convert('RGB')")
    return torch.from_numpy(np.array(image))


def _collate(samples: Sequence[PendingImage], *, collate_fn_map: object = None) -> PendingBatch:
    first = samples[0]
    if any(sample.transform is not first.transform or sample.view != first.view for sample in samples):
        raise UserError(
            "images of one batch have different transforms; give them the same one, or the loader a collate_fn of "
            "your own, and the transforms work image by image"
        )
    return PendingBatch(
        ImageBatch.from_list([sample.pixels for sample in samples]), first.transform, first.call, first.view
    )


default_collate_fn_map[PendingImage] = _collate
