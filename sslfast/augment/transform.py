"""Transform: the views of whole batches as a module inside other people's pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy
import torch
from torch import Tensor, nn

from sslfast.augment.multiview import MultiView, uncompiled
from sslfast.augment.spec import ViewSpec
from sslfast.data.batch import MAX_CHANNELS, ImageBatch, as_column
from sslfast.errors import UserError


class Transform(nn.Module):
    """All views of a batch of uint8 images, drawn on the device that holds them.

    Each call counts as the next epoch, so that two calls differ. The count is kept in the state dict: a pipeline that
    restores it goes on with the views it would have drawn. Call it on the batch in the training loop: worker processes
    of a loader would each count for themselves. In a compiled program it stays a call between two graphs.

    Args:
        specs: one ViewSpec a view, e.g. `presets.simclr(32)`.
        seed: names the random streams; ranks that do not pass `index` need one each.
        dtype: of the views, torch.float32, float16 or bfloat16.
        channels_last: memory layout of the views.

    Raises:
        UserError: as `MultiView` does.

    Attributes:
        multi_view: draws the views, with `specs` as they were resolved.
        calls: calls counted so far.
    """

    def __init__(
        self,
        specs: Sequence[ViewSpec],
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.multi_view = MultiView(specs, seed, dtype, channels_last)
        self.calls = 0

    @property
    def specs(self) -> list[ViewSpec]:
        """One ViewSpec a view."""
        return self.multi_view.specs

    @uncompiled
    def forward(
        self,
        batch: ImageBatch | Tensor | Sequence[Tensor | numpy.ndarray],
        index: Tensor | None = None,
        epoch: int | None = None,
    ) -> list[Tensor]:
        """Views of every image.

        Args:
            batch: an ImageBatch; (B, C, H, W) or (B, H, W, C) uint8 in [0, 255], where channels last (or the
                channels_last memory format) saves a copy; or a list of (C, H, W), (H, W, C) or (H, W) uint8 tensors or
                arrays of any sizes. The dimension of 16 or less is taken for the channels.
            index: (B,) int64, 0 or more; names the random stream of each image: its position in the data set. The
                batch's own for an ImageBatch and 0 … B-1 otherwise, when absent.
            epoch: 0 to 2**32 - 1, names the streams together with `index`; the number of calls so far when absent.

        Returns:
            One (B, C, h, w) tensor a view, normalised, on the batch's device.

        Raises:
            UserError: another dtype or shape, channels that cannot be told from height and width, an index that is no
                tensor of whole numbers, or an epoch outside its range.
        """
        images = _as_image_batch(batch)
        if index is not None:
            images = replace(images, index=as_column(index, len(images), "index", images.device))
        if epoch is None:
            epoch = self.calls
            self.calls += 1
        return self.multi_view(images, epoch).tensors

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": self.calls}

    def set_extra_state(self, state: Mapping[str, int]) -> None:
        self.calls = state["calls"]

    def extra_repr(self) -> str:
        return f"sizes={[spec.size for spec in self.specs]}, seed={self.multi_view.seed}"


def _as_image_batch(batch: ImageBatch | Tensor | Sequence[Tensor | numpy.ndarray]) -> ImageBatch:
    if isinstance(batch, ImageBatch):
        return batch
    if isinstance(batch, Tensor):
        if batch.dim() != 4:
            raise UserError(f"batch must be (B, C, H, W) or (B, H, W, C), got shape {tuple(batch.shape)}")
        return ImageBatch.from_dense(_channels_last(batch, "batch"))
    if not isinstance(batch, Sequence):
        raise UserError(
            f"batch must be an ImageBatch, a uint8 tensor or a list of images, got {type(batch).__name__}; "
            "make an array of a batch a tensor with torch.from_numpy"
        )
    images = []
    for position, image in enumerate(batch):
        try:
            if isinstance(image, numpy.ndarray):  # of a flipped one torch would not take the reversed axis
                image = numpy.ascontiguousarray(image)
            tensor = image if isinstance(image, Tensor) else torch.tensor(image)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"batch[{position}] is a {type(image).__name__}, not a uint8 tensor or array; "
                "convert a PIL image with numpy.array(image.convert('RGB'))"
            ) from error
        images.append(tensor if tensor.dim() == 2 else _channels_last(tensor, f"batch[{position}]"))
    return ImageBatch.from_list(images)


def _channels_last(images: Tensor, name: str) -> Tensor:
    """Images with their channels, the dimension of 16 or less, moved to the end."""
    if images.dim() < 3:
        raise UserError(f"{name} must have height, width and channels, got shape {tuple(images.shape)}")
    first, last = images.shape[-3], images.shape[-1]
    for most in (MAX_CHANNELS, 4):
        if last <= most < first:
            return images
        if first <= most < last:
            return images.movedim(-3, -1)
    raise UserError(
        f"{name} has shape {tuple(images.shape)}: which dimension holds the channels (1 to {MAX_CHANNELS}) cannot be "
        "told; pass an ImageBatch, whose from_dense and from_list take channels last"
    )
