"""ImageBatch: the one representation of images from decoder to kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from sslfast.errors import UserError

MAX_CHANNELS = 16
# What is needed of each image, such as `MultiView.regions`: (index, sizes, epoch) -> top, left, height and width.
Regions: TypeAlias = Callable[[Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class ImageBatch:
    """A batch of images of any sizes, as a view into packed storage; nothing is copied when a batch is selected.

    Attributes:
        storage: (bytes,) uint8 in [0, 255]; packed rows of interleaved channels (H, W, C), on the device that trains.
        offsets: (B,) int64; byte in `storage` where image b begins.
        sizes: (B, 2) int32; height and width of each image.
        index: (B,) int64; position in the data set: it names the image's random stream.
        label: (B,) int64 or None; class of each image, -1 where it is unknown.
        channels: channels of every image, 1 to 16.
        region: (B, 4) int32, or None for whole images; where the storage holds only a region of each image: the
            region's top and left, and the height and width of the whole image. `sizes` are then those of the region.
    """

    storage: Tensor
    offsets: Tensor
    sizes: Tensor
    index: Tensor
    label: Tensor | None = None
    channels: int = 3
    region: Tensor | None = None

    def __len__(self) -> int:
        return self.offsets.shape[0]

    @property
    def device(self) -> torch.device:
        return self.storage.device

    @property
    def whole_sizes(self) -> Tensor:
        """(B, 2) int32; height and width of the whole images, of which the storage may hold only a region."""
        return self.sizes if self.region is None else self.region[:, 2:].contiguous()

    @classmethod
    def from_dense(cls, images: Tensor, index: Tensor | None = None, label: Tensor | None = None) -> ImageBatch:
        """Views a dense tensor as a batch, without a copy when it is contiguous.

        Args:
            images: (B, H, W, C) uint8 in [0, 255], on any device.
            index: (B,) int64 positions in the data set; 0 … B-1 when absent.
            label: (B,) int64 classes.

        Raises:
            UserError: another dtype or shape, no pixels, or channels outside 1 to 16.
        """
        _check_images(images, "images", dims=4)
        b, h, w, c = images.shape
        device = images.device
        return cls(
            storage=images.contiguous().view(-1),
            offsets=torch.arange(b, device=device, dtype=torch.int64) * (h * w * c),
            sizes=torch.tensor([h, w], dtype=torch.int32, device=device).repeat(b, 1),
            index=as_column(index, b, "index", device, torch.arange(b, device=device)),
            label=None if label is None else as_column(label, b, "label", device),
            channels=c,
        )

    @classmethod
    def from_list(
        cls, images: Sequence[Tensor], index: Tensor | None = None, label: Tensor | None = None
    ) -> ImageBatch:
        """Packs images of mixed sizes into one storage.

        Args:
            images: B tensors (H, W, C) or (H, W), uint8 in [0, 255], all with the same channels and device.
            index: (B,) int64 positions in the data set; 0 … B-1 when absent.
            label: (B,) int64 classes.

        Raises:
            UserError: another dtype or shape, or channels that differ between images.
        """
        images = [image.unsqueeze(-1) if image.dim() == 2 else image for image in images]
        for position, image in enumerate(images):
            _check_images(image, f"images[{position}]", dims=3)
            if image.shape[2] != images[0].shape[2]:
                raise UserError(
                    f"images[{position}] has {image.shape[2]} channels and images[0] has {images[0].shape[2]}; "
                    "convert them to the same number (for example image.expand(-1, -1, 3) for gray to RGB)"
                )
            if image.device != images[0].device:
                raise UserError(
                    f"images[{position}] is on {image.device}, images[0] on {images[0].device}; move them to one"
                )
        device = images[0].device if images else torch.device("cpu")
        # On the device that is named, not on torch's default one: workers have to keep away from GPUs.
        counts = torch.tensor([image.numel() for image in images], dtype=torch.int64, device="cpu")
        storage = (
            torch.cat([i.reshape(-1) for i in images]) if images else torch.empty(0, dtype=torch.uint8, device="cpu")
        )
        sizes = torch.tensor([image.shape[:2] for image in images], dtype=torch.int32, device="cpu").view(-1, 2)
        return cls(
            storage=storage,
            offsets=(counts.cumsum(0) - counts).to(device),
            sizes=sizes.to(device),
            index=as_column(index, len(images), "index", device, torch.arange(len(images), device=device)),
            label=None if label is None else as_column(label, len(images), "label", device),
            channels=images[0].shape[2] if images else 3,
        )

    def select(self, positions: Tensor | slice) -> ImageBatch:
        """The images at `positions` ((n,) int64 on the same device, or a slice), sharing this batch's storage."""
        return replace(
            self,
            offsets=self.offsets[positions],
            sizes=self.sizes[positions],
            index=self.index[positions],
            label=None if self.label is None else self.label[positions],
            region=None if self.region is None else self.region[positions],
        )

    def image(self, position: int) -> Tensor:
        """One image, or the region of it that is here, (H, W, C) uint8, as a view of the storage."""
        height, width = self.sizes[position].tolist()
        begin = int(self.offsets[position])
        return self.storage[begin : begin + height * width * self.channels].view(height, width, self.channels)

    def to(self, device: torch.device | str) -> ImageBatch:
        """The same batch with storage and tables on `device`."""
        return replace(
            self,
            storage=self.storage.to(device),
            offsets=self.offsets.to(device),
            sizes=self.sizes.to(device),
            index=self.index.to(device),
            label=None if self.label is None else self.label.to(device),
            region=None if self.region is None else self.region.to(device),
        )


def _check_images(images: Tensor, name: str, dims: int) -> None:
    if images.dtype != torch.uint8:
        raise UserError(
            f"{name} must be uint8 in [0, 255], got {images.dtype}; for floats in [0, 1] use (x * 255).byte()"
        )
    if images.dim() != dims:
        raise UserError(f"{name} must have {dims} dimensions, channels last, got shape {tuple(images.shape)}")
    height, width, channels = images.shape[-3:]
    if not 1 <= channels <= MAX_CHANNELS:
        raise UserError(
            f"{name} has {channels} channels, 1 to {MAX_CHANNELS} work; "
            f"channels come last, so permute (C, H, W) images to (H, W, C) first"
        )
    if height == 0 or width == 0:
        raise UserError(f"{name} has no pixels: shape {tuple(images.shape)}")


def as_column(
    values: Tensor | None, length: int, name: str, device: torch.device, default: Tensor | None = None
) -> Tensor:
    """`values`, or else `default`, as one int64 an image on `device`.

    Raises:
        UserError: no tensor, of another shape, or of other than whole numbers.
    """
    values = default if values is None else values
    if not isinstance(values, Tensor):
        raise UserError(f"{name} must be an int64 tensor, got {type(values).__name__}; make it one with torch.tensor")
    if values.shape != (length,):
        raise UserError(f"{name} must have one entry per image: ({length},), got {tuple(values.shape)}")
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise UserError(f"{name} must hold whole numbers (int64), got {values.dtype}")
    return values.to(device=device, dtype=torch.int64)
