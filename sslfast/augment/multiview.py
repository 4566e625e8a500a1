"""MultiView: all views of a batch, one fused op for all of one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sslfast import ops
from sslfast.augment.spec import ViewSpec
from sslfast.data.batch import ImageBatch


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
        seed: names the run's random streams, any 64-bit integer.
        dtype: torch.float32, float16 or bfloat16.
        channels_last: memory layout of the views.
    """

    def __init__(
        self,
        specs: Sequence[ViewSpec],
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
    ) -> None:
        self.specs = list(specs)
        self.seed = seed
        self.dtype = dtype
        self.channels_last = channels_last

    @torch.no_grad()
    def __call__(self, batch: ImageBatch, epoch: int = 0) -> Views:
        """Views of every image of `batch`, on its device."""
        drawn = [self._draw(position, batch, epoch) for position in range(len(self.specs))]
        tensors = {}
        for positions in _launches(self.specs):
            tensors.update(zip(positions, self._make(positions, [drawn[k] for k in positions], batch), strict=True))
        return Views(
            [tensors[k] for k in range(len(drawn))], [table for table, _ in drawn], batch.index, batch.label
        )

    def _draw(self, position: int, batch: ImageBatch, epoch: int) -> tuple[Tensor, Tensor]:
        spec = self.specs[position]
        stream = position if spec.stream is None else spec.stream
        return ops.augment_params(spec, batch.index, batch.sizes, self.seed, epoch, stream, batch.channels)

    def _make(
        self, positions: list[int], drawn: list[tuple[Tensor, Tensor]], batch: ImageBatch
    ) -> tuple[Tensor, ...]:
        """The views at `positions`, which are of one size, from one call: each is a run of rows of its result."""
        tables, keys = zip(*drawn, strict=True)
        spec = self.specs[positions[0]]
        views = ops.augment(
            batch.storage,
            batch.offsets.repeat(len(positions)),
            batch.sizes.repeat(len(positions), 1),
            torch.cat(tables),
            torch.cat(keys),
            size=spec.shape,
            channels=batch.channels,
            mean=spec.mean,
            std=spec.std,
            dtype=self.dtype,
            channels_last=self.channels_last,
        )
        return views.split(len(batch)) if len(batch) > 0 else (views,) * len(positions)


def _launches(specs: Sequence[ViewSpec]) -> list[list[int]]:
    """Positions of the views that one call can make: those of equal shape and normalisation."""
    launches: dict[object, list[int]] = {}
    for position, spec in enumerate(specs):
        launches.setdefault((spec.shape, spec.mean, spec.std), []).append(position)
    return list(launches.values())
