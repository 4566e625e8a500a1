"""MultiView: all views of a batch, one fused op a view."""

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
        tensors: one (B, C, H, W) tensor a view, normalised.
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
        tensors, params = [], []
        for position, spec in enumerate(self.specs):
            stream = position if spec.stream is None else spec.stream
            table, keys = ops.augment_params(spec, batch.index, batch.sizes, self.seed, epoch, stream, batch.channels)
            tensors.append(
                ops.augment(
                    batch.storage,
                    batch.offsets,
                    batch.sizes,
                    table,
                    keys,
                    size=spec.shape,
                    channels=batch.channels,
                    mean=spec.mean,
                    std=spec.std,
                    dtype=self.dtype,
                    channels_last=self.channels_last,
                )
            )
            params.append(table)
        return Views(tensors, params, batch.index, batch.label)


def unnormalized(images: Tensor, spec: ViewSpec) -> Tensor:
    """Views (B, C, H, W) of a spec back in [0, 1], float32."""
    mean, std = (torch.tensor(values, device=images.device).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    return (images.float() * std + mean).clamp(0.0, 1.0)
