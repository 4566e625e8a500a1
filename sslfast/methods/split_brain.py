"""Split-brain autoencoders: two networks predict each other's channels (Zhang et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sslfast import ops
from sslfast.augment import Views
from sslfast.errors import UserError
from sslfast.methods.base import Method
from sslfast.methods.colorization import color_views
from sslfast.models import Backbone, GroupedBackbone, build_dense_head
from sslfast.registry import nearest

BINS = 10  # of each channel of a pair
CLASSES = BINS**2  # of a pair, and of a channel by itself
QUANTIZATIONS = ("grid", "rescaled")
LARGEST_TARGET = 12  # positions a side
FLAT = 1e-4  # a channel that varies by no more, in [0, 1], is rescaled to one bin


class SplitBrain(Method):
    """Each of two half-width networks sees one group of channels and classifies the colours of the other.

    The targets are the other group's means over a coarse grid, in bins: 100 for a channel by itself, 10 x 10 for a
    pair, and 100 for each channel of a larger group, whose cross-entropies are averaged. The loss is the sum of the
    cross-entropies in both directions (section 3.2, equations 3 to 5). The backbone holds both networks: its features
    are theirs, one after the other.

    The recipe and the defaults are those of the student report on split-brain autoencoders for 96 px images, with Adam,
    since it names no optimiser: batch 64, learning rate 1e-4, divided by 10 after each of 11 epochs.

    Args:
        backbone: the encoder; it is built again, twice, at half its width and for the channels of each group.
        image_size: side of the views in pixels.
        seed: names the random streams of the views.
        color_space: "lab" converts the first three channels, "rgb" takes the channels as they are; when absent, Lab for
            images of three channels and the channels as they are for all others.
        quantization: "rescaled" spreads the bins from each image's least to its greatest value in each channel, "grid"
            over all possible values.
        channel_groups: the two groups of channels, counted from 0 after the conversion, such as ((0, 1, 2), (3, 4, 5))
            for colour and depth; when absent, L and (a, b), R and (G, B), or, of more than three channels, the first
            three and the rest.
        target_size: positions a side at which the channels are predicted; 12, or a quarter of the image's side where
            that is less, when absent.
    """

    recipe = {
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "weight_decay": 0.0,
        "batch_size": 64,
        "epochs": 11,
        "schedule": "exponential",
        "warmup_epochs": 0,
    }

    backbone: GroupedBackbone

    def __init__(
        self,
        backbone: Backbone,
        image_size: int = 32,
        seed: int = 0,
        color_space: str | None = None,
        quantization: str = "rescaled",
        channel_groups: Sequence[Sequence[int]] | None = None,
        target_size: int | None = None,
    ) -> None:
        channels = backbone.in_channels
        if quantization not in QUANTIZATIONS:
            raise UserError(f"unknown quantization {quantization!r}; {nearest(quantization, list(QUANTIZATIONS))}")
        if color_space is None:
            color_space = "lab" if channels == 3 else "rgb"
        groups = _checked_groups(channel_groups, channels)
        if target_size is None:
            target_size = min(LARGEST_TARGET, max(1, image_size // 4))
        if not 1 <= target_size <= image_size:
            raise UserError(f"target_size is {target_size}; choose 1 to the image's side, {image_size}")
        halves = [backbone.rebuilt(len(group), width=0.5) for group in groups]
        super().__init__(GroupedBackbone(halves, groups, color_space, channels), color_views(image_size), seed)
        self.quantization = quantization
        self.target_size = (target_size, target_size)
        # Each half predicts the other's channels.
        self.predictors = nn.ModuleList(
            build_dense_head(half, CLASSES * _predictions(group), target_size)
            for half, group in zip(halves, reversed(groups), strict=True)
        )

    def targets(self, images: Tensor) -> list[Tensor]:
        """The classes of each group, (B, k, h, w) int64 in [0, 100), k = 1 for one or two channels, else one a channel.

        Args:
            images: (B, C, H, W) float32 in [0, 1].
        """
        groups = self.backbone.groups
        if groups == ((0,), (1, 2)):
            space = self.backbone.color_space
            classes = ops.lab_quantize(images[:, :3].float(), self.target_size, self.quantization, space)
            return [group.unsqueeze(1) for group in classes]
        cells = self._cells(images)
        return [self._classes(cells[:, list(group)]) for group in groups]

    def logits(self, images: Tensor) -> list[Tensor]:
        """Scores of the classes of each group, (B, 100, k, h, w), which the half of the other group gives."""
        scores = [
            predictor(feature_map, self.target_size).unflatten(1, (CLASSES, -1))
            for predictor, feature_map in zip(self.predictors, self.backbone.group_maps(images), strict=True)
        ]
        return scores[::-1]

    def forward(self, views: Views) -> dict[str, Tensor]:
        images = views.tensors[0]
        first, second = (
            functional.cross_entropy(logits, target)
            for logits, target in zip(self.logits(images), self.targets(images), strict=True)
        )
        return {"loss": first + second, "loss_first_group": first.detach(), "loss_second_group": second.detach()}

    @torch.no_grad()
    def pictures(self, views: Views) -> dict[str, Tensor]:
        """Rows `targets` and `prediction`: the bins' centres as colours, true ones and the likeliest ones."""
        images = views.tensors[0]
        was_training = self.training
        self.eval()
        predicted = [logits.argmax(dim=1) for logits in self.logits(images)]
        self.train(was_training)
        size = (images.shape[-2], images.shape[-1])
        rows = {"targets": self.targets(images), "prediction": predicted}
        return {name: self._colors(classes, self._cells(images), size) for name, classes in rows.items()}

    def _cells(self, images: Tensor) -> Tensor:
        """The channels averaged over the target's cells, (B, C, h, w) in [0, 1]."""
        return functional.adaptive_avg_pool2d(self.backbone.planes(images), self.target_size)

    def _bounds(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Where the bins of each channel begin, and how far they reach, (B, k, 1, 1)."""
        if self.quantization == "grid":
            return torch.zeros_like(cells[:, :, :1, :1]), torch.ones_like(cells[:, :, :1, :1])
        low, high = cells.amin(dim=(2, 3), keepdim=True), cells.amax(dim=(2, 3), keepdim=True)
        return low, high - low

    def _classes(self, cells: Tensor) -> Tensor:
        """(B, channels, h, w) in [0, 1] of one group -> (B, k, h, w) int64."""
        low, reach = self._bounds(cells)
        bins = _bins(cells.shape[1])
        position = torch.where(reach > FLAT, (cells - low) / reach * bins, 0.0)
        index = position.long().clamp(0, bins - 1)
        return BINS * index[:, :1] + index[:, 1:] if cells.shape[1] == 2 else index

    def _colors(self, classes: Sequence[Tensor], cells: Tensor, size: tuple[int, int]) -> Tensor:
        """Images of `size` with the colours of `classes` in the bins of `cells`, whose channels without class stay."""
        low, reach = self._bounds(cells)
        planes = cells.clone()
        for group, index in zip(self.backbone.groups, classes, strict=True):
            if len(group) == 2:
                index = torch.cat([index // BINS, index % BINS], dim=1)
            which = list(group)
            planes[:, which] = low[:, which] + (index + 0.5) / _bins(len(group)) * reach[:, which]
        return functional.interpolate(self.backbone.images(planes), size=size, mode="nearest").clamp(0.0, 1.0)


def _predictions(group: Sequence[int]) -> int:
    """Classes predicted at each position: one for the colour of a channel or a pair, else one for each channel."""
    return 1 if len(group) <= 2 else len(group)


def _bins(channels: int) -> int:
    """Bins of each channel of a group."""
    return BINS if channels == 2 else CLASSES


def _checked_groups(groups: Sequence[Sequence[int]] | None, channels: int) -> tuple[tuple[int, ...], ...]:
    """The groups, or the default ones.

    Raises:
        UserError: images of one channel; not two disjoint groups of channels that the images have.
    """
    if channels < 2:
        raise UserError("split_brain predicts channels from others, and the images have one; give it colour images")
    if groups is None:
        first = 1 if channels <= 3 else 3
        return tuple(range(first)), tuple(range(first, channels))
    try:
        found = tuple(tuple(group) for group in groups)
    except TypeError:
        found = ()
    members = [channel for group in found for channel in group]
    known = all(type(channel) is int and 0 <= channel < channels for channel in members)
    if len(found) != 2 or not all(found) or not known or len(set(members)) != len(members):
        raise UserError(
            f"channel_groups is {groups!r}; give two lists of channels, each channel 0 to {channels - 1} at most once, "
            "such as [[0], [1, 2]]"
        )
    return found
