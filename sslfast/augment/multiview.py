"""MultiView: all views of a batch, one fused op for all of one size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from sslfast import ops
from sslfast._torch import not_compiled
from sslfast.augment.spec import ViewSpec
from sslfast.data.batch import ImageBatch
from sslfast.data.sources import check_choice, check_number, check_seed
from sslfast.errors import UserError

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
CROP = [ops.AUGMENT_COLUMNS.index(f"crop_{side}") for side in ("top", "left", "height", "width")]

P = ParamSpec("P")
R = TypeVar("R")


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, which torch.compile calls and does not look into.

    There is nothing to gain in what draws views, one kernel is all of it; and its number of the epoch or call would be
    a constant of the graph, which had to be compiled anew for each.
    """
    apart = not_compiled(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        # Otherwise the function itself: `apart` imports the compiler, a second in every worker of a loader.
        return apart(*args, **kwargs) if torch.compiler.is_compiling() else function(*args, **kwargs)

    return call


@dataclass
class Views:
    """The views of a batch and what was drawn for them.

    Attributes:
        tensors: one (B, C, H, W) tensor a view, normalised; those of one size share their storage.
        params: one (B, P) float32 table a view; `column` reads one parameter by its name.
        index: (B,) int64 positions in the data set.
        label: (B,) int64 classes, or None.
    """

    tensors: list[Tensor]
    params: list[Tensor]
    index: Tensor
    label: Tensor | None = None

    def column(self, view: int, name: str) -> Tensor:
        """(B,) float32: parameter `name` (one of `sslfast.ops.AUGMENT_COLUMNS`) that view `view` was made with."""
        return self.params[view][:, ops.AUGMENT_COLUMNS.index(name)]


class MultiView:
    """Draws the views of a batch; the same (seed, epoch, image index, view) gives the same view everywhere.

    Args:
        specs: one ViewSpec a view.
        seed: names the run's random streams, any 64-bit integer; those of 64 bits without a sign name the same streams
            as the ones with the same bits and a sign.
        dtype: torch.float32, float16 or bfloat16.
        channels_last: memory layout of the views.

    Raises:
        UserError: something else than ViewSpecs, a seed of more bits, or another dtype.
    """

    def __init__(
        self,
        specs: Sequence[ViewSpec],
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
    ) -> None:
        self.specs = list(specs) if isinstance(specs, Iterable) else []
        if not isinstance(specs, Iterable) or not all(isinstance(spec, ViewSpec) for spec in self.specs):
            raise UserError(f"specs is {specs!r}; it must be a list of one ViewSpec a view, such as presets.simclr(32)")
        check_seed(seed)
        check_choice("dtype", dtype, DTYPES)
        self.seed = (int(seed) + 2**63) % 2**64 - 2**63  # with a sign, as torch takes it
        self.dtype = dtype
        self.channels_last = channels_last

    @uncompiled
    @torch.no_grad()
    def __call__(self, batch: ImageBatch, epoch: int = 0) -> Views:
        """Views of every image of `batch`, on its device.

        Raises:
            UserError: an epoch that is no whole number of 32 bits, or a batch of regions of images (`batch.region`)
                that do not hold these views' crops.
        """
        check_number("epoch", epoch, 0, 2**32 - 1)
        tensors: dict[int, Tensor] = {}
        params: dict[int, Tensor] = {}
        for positions in _launches(self.specs):
            drawn = [
                self._draw(run, batch.index, batch.whole_sizes, epoch, batch.channels) for run in self._runs(positions)
            ]
            table, keys = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*drawn, strict=True))
            views = self._make(self.specs[positions[0]], table, keys, batch, len(positions))
            for k, position in enumerate(positions):
                rows = slice(k * len(batch), (k + 1) * len(batch))
                tensors[position], params[position] = views[rows], table[rows]
        order = range(len(self.specs))
        return Views([tensors[k] for k in order], [params[k] for k in order], batch.index, batch.label)

    @torch.no_grad()
    def regions(self, index: Tensor, sizes: Tensor, epoch: int = 0) -> Tensor:
        """What the views of an epoch need of each image: the smallest region that holds all their crops.

        A loader that is given this decodes no more: `DaliLoader(source, batch_size, regions=multi_view.regions)`. The
        views are the same, bit by bit. A subclass that reads a batch's images by itself has to look at `batch.region`.

        Args:
            index: (B,) int64; positions in the data set.
            sizes: (B, 2) int32; height and width of the whole images.
            epoch: 0 to 2**32 - 1.

        Returns:
            (B, 4) int32: top, left, height and width of each region.
        """
        runs = [run for positions in _launches(self.specs) for run in self._runs(positions)]
        tables = torch.cat([self._draw(run, index, sizes, epoch, 1)[0] for run in runs])
        top, left, height, width = tables[:, CROP].view(-1, len(index), 4).int().unbind(-1)
        first, last = (torch.stack(ends, -1) for ends in ((top, left), (top + height, left + width)))
        first = first.amin(0)
        return torch.cat([first, last.amax(0) - first], 1)

    def _runs(self, positions: list[int]) -> list[list[int]]:
        """Neighbours among `positions` that are drawn from the same spec, each with the stream of its position."""
        runs: list[list[int]] = []
        for position in positions:
            spec = self.specs[position]
            if runs and spec.stream is None and runs[-1][-1] == position - 1 and self.specs[position - 1] == spec:
                runs[-1].append(position)
            else:
                runs.append([position])
        return runs

    def _draw(self, run: list[int], index: Tensor, sizes: Tensor, epoch: int, channels: int) -> tuple[Tensor, Tensor]:
        spec = self.specs[run[0]]
        stream = run[0] if spec.stream is None else spec.stream
        return ops.augment_params(spec, index, sizes, self.seed, epoch, stream, channels, views=len(run))

    def _make(self, spec: ViewSpec, table: Tensor, keys: Tensor, batch: ImageBatch, views: int) -> Tensor:
        """`views` views of the batch, one after the other, by the rows of `table`."""
        return ops.augment(
            batch.storage,
            batch.offsets.repeat(views),
            batch.sizes.repeat(views, 1),
            table if batch.region is None else _within(table, batch, views),
            keys,
            size=spec.shape,
            channels=batch.channels,
            mean=spec.mean,
            std=spec.std,
            dtype=self.dtype,
            channels_last=self.channels_last,
        )


def _within(table: Tensor, batch: ImageBatch, views: int) -> Tensor:
    """The table with the crops' places in the regions of the images that the batch holds."""
    assert batch.region is not None
    table = table.clone()
    crop = table[:, CROP].view(views, len(batch), 4)
    crop[..., :2] -= batch.region[:, :2]
    if (crop[..., :2] < 0).any() or (crop[..., :2] + crop[..., 2:] > batch.sizes).any():
        raise UserError(
            "the batch holds only regions of its images, and these views need more of them; the loader's `regions` "
            "must be those of the MultiView (or method) that makes the views, of the same seed and epoch"
        )
    table[:, CROP] = crop.view(-1, 4)
    return table


def _launches(specs: Sequence[ViewSpec]) -> list[list[int]]:
    """Positions of the views that one call can make: those of equal shape and normalisation."""
    launches: dict[object, list[int]] = {}
    for position, spec in enumerate(specs):
        launches.setdefault((spec.shape, spec.mean, spec.std), []).append(position)
    return list(launches.values())


def unnormalized(images: Tensor, spec: ViewSpec) -> Tensor:
    """Views (B, C, H, W) of a spec back in [0, 1], float32."""
    mean, std = (torch.tensor(values, device=images.device).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    return (images.float() * std + mean).clamp(0.0, 1.0)
