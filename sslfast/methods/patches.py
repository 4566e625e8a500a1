"""PatchMethod: what methods share that look at patches of an image one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from sslfast.augment import GridSpec, GridViews, MultiGrid, ViewSpec, mosaic, unnormalized
from sslfast.data.batch import ImageBatch, Regions
from sslfast.errors import UserError
from sslfast.methods.base import Method
from sslfast.models import Backbone


class PatchMethod(Method):
    """A method whose backbone sees patches; evaluation shows it whole images, as it is fully convolutional.

    Args:
        backbone: the encoder, of images and patches alike.
        view: what is drawn of an image before it is cut.
        grid: how it is cut. Images of other than three channels keep all of them.
        seed: names the random streams.
        channel_jitter: see `sslfast.augment.MultiGrid`.

    Raises:
        UserError: the backbone cannot take images of the patches' size.
    """

    multi_view: MultiGrid

    def __init__(
        self, backbone: Backbone, view: ViewSpec, grid: GridSpec, seed: int = 0, channel_jitter: int = 0
    ) -> None:
        super().__init__(backbone, [view], seed)
        (view,) = self.multi_view.specs
        if backbone.in_channels != 3:
            grid = grid.replace(channel_drop=0.0)
        self.grid = grid
        self.multi_view = MultiGrid(view, grid, seed, channel_jitter)
        _check_patch(backbone, grid.patch)

    def views(self, batch: ImageBatch, epoch: int = 0) -> GridViews:
        views = super().views(batch, epoch)
        assert isinstance(views, GridViews)
        return views

    @property
    def regions(self) -> Regions | None:
        return self.multi_view.regions if type(self).views is PatchMethod.views else None

    def encode(self, patches: Tensor) -> Tensor:
        """Pooled features (B, K, D) of patches (B, K, C, p, p), all of which share the statistics of a batch norm."""
        return self.backbone(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])

    def picture(self, patches: Tensor) -> Tensor:
        """The patches (B, K, C, p, p) of whole grids, K = rows * columns, as pictures in [0, 1]."""
        shown = unnormalized(patches.flatten(0, 1), self.multi_view.specs[0])
        return mosaic(shown.unflatten(0, patches.shape[:2]), self.grid.grid)


def _check_patch(backbone: Backbone, patch: int) -> None:
    """Raises UserError unless the backbone takes patches; it must not depend on the size that it was made for."""
    was_training = backbone.training
    backbone.eval()
    parameter = next(backbone.parameters())
    probe = torch.zeros(1, backbone.in_channels, patch, patch, dtype=parameter.dtype, device=parameter.device)
    try:
        with torch.no_grad():
            shape = backbone(probe).shape
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(
            f"{type(backbone).__name__} cannot take patches of {patch} px ({error}); choose a fully convolutional "
            "backbone, for example resnet18, or larger images"
        ) from error
    finally:
        backbone.train(was_training)
    if shape != (1, backbone.num_features):
        raise UserError(
            f"{type(backbone).__name__} gives features of shape {tuple(shape)} for a patch of {patch} px, not "
            f"{(1, backbone.num_features)}; choose a backbone that pools, for example resnet18"
        )
