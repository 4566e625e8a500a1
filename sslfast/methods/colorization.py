"""Colorization: the colours of an image from its lightness (Zhang et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sslfast import ops
from sslfast.augment import Views, ViewSpec, presets
from sslfast.errors import UserError
from sslfast.losses import SoftCrossEntropyLoss, rebalancing_weights
from sslfast.methods.base import Method
from sslfast.models import Backbone, GroupedBackbone, build_dense_head
from sslfast.registry import nearest

AB_BINS = 313
AB_UNIT = 15.0  # about the deviation of a and b in photographs
OBJECTIVES = ("classification", "regression")
SMALLEST_TARGET = 16  # positions a side


class Colorization(Method):
    """Sees the lightness L of an image and predicts its colour (a, b), over a coarser grid.

    - `classification`: a distribution over the 313 bins of the ab plane at each position. The target is soft (the 10
      nearest bins as in the authors' code, where the paper writes 5, Gaussian with deviation 5), and a position weighs
      by how rare its colour is (section 2.2, equations 2 to 4). How often each bin occurs is counted in training, and
      the weights are set anew whenever the number of steps has doubled; up to the first step all weigh the same.
    - `regression`: half the squared distance to the mean colour (equation 1), with a and b in units of 15, about their
      deviation.

    The backbone takes RGB images and sees their lightness. The recipe is that of section 3.1, whose 450,000 steps of 40
    images are 14 epochs of ImageNet; the paper lowers the learning rate twice by hand where the loss stays, and has
    0.99 for Adam's second decay rate, which is torch's 0.999 here.

    Args:
        backbone: the encoder; it is built again for images of one channel.
        image_size: side of the views in pixels.
        seed: names the random streams of the views.
        objective: "classification" or "regression".
        uniform: share lambda of the uniform distribution in the one that the weights are the inverse of; 1 leaves
            colours unweighted.
        target_size: positions a side at which the colour is predicted; a quarter of the image's side (section 2.2), at
            least 16, when absent.
    """

    recipe = {
        "optimizer": "adam",
        "learning_rate": 3e-5,
        "weight_decay": 1e-3,
        "batch_size": 40,
        "epochs": 14,
        "schedule": "plateau",
        "warmup_epochs": 0,
    }

    backbone: GroupedBackbone
    counts: Tensor

    def __init__(
        self,
        backbone: Backbone,
        image_size: int = 32,
        seed: int = 0,
        objective: str = "classification",
        uniform: float = 0.5,
        target_size: int | None = None,
    ) -> None:
        if backbone.in_channels != 3:
            raise UserError(
                f"colorization needs RGB images, and the images have {backbone.in_channels} channels; give it images "
                "of three channels, or choose split_brain"
            )
        if objective not in OBJECTIVES:
            raise UserError(f"unknown objective {objective!r}; {nearest(objective, list(OBJECTIVES))}")
        if not 0.0 < uniform <= 1.0:
            raise UserError(f"uniform is {uniform:g}; choose a share above 0 and at most 1")
        if target_size is None:
            target_size = min(image_size, max(image_size // 4, SMALLEST_TARGET))
        if not 1 <= target_size <= image_size:
            raise UserError(f"target_size is {target_size}; choose 1 to the image's side, {image_size}")
        encoder = backbone.rebuilt(in_channels=1)
        super().__init__(GroupedBackbone([encoder], [(0,)], "lab"), color_views(image_size), seed)
        self.objective = objective
        self.uniform = uniform
        self.target_size = (target_size, target_size)
        self.decoder = build_dense_head(encoder, AB_BINS if objective == "classification" else 2, target_size)
        self.classification = SoftCrossEntropyLoss(torch.ones(AB_BINS))
        self.register_buffer("counts", torch.zeros(AB_BINS, dtype=torch.int64))

    def predict(self, images: Tensor) -> Tensor:
        """Scores of the bins, (B, 313, h, w), or for regression a and b in units of 15, (B, 2, h, w).

        Args:
            images: (B, 3, H, W) float32 in [0, 1].
        """
        return self.decoder(self.backbone.feature_map(images), self.target_size)

    def forward(self, views: Views) -> dict[str, Tensor]:
        images = views.tensors[0]
        prediction = self.predict(images)
        if self.objective == "regression":
            distance = (prediction - self._mean_color(images)).square().sum(dim=1)
            return {"loss": distance.mean() / 2}
        indices, weights = ops.lab_soft_encode(images.float(), self.target_size)
        if self.training:
            bins = indices[:, 0].flatten()
            self.counts.index_add_(0, bins, torch.ones_like(bins))
        return {"loss": self.classification(prediction, indices, weights)}

    def after_step(self, step: int, steps: int) -> None:
        if self.objective == "classification" and step & (step - 1) == 0:  # 1, 2, 4, 8, ...
            assert self.classification.class_weights is not None
            self.classification.class_weights.copy_(rebalancing_weights(self.counts, self.uniform))

    @torch.no_grad()
    def pictures(self, views: Views) -> dict[str, Tensor]:
        """Rows `gray`, `predicted` (by the annealed mean, section 2.3) and `truth`, at the size of the views."""
        images = views.tensors[0]
        was_training = self.training
        self.eval()
        prediction = self.predict(images)
        self.train(was_training)
        color = prediction * AB_UNIT if self.objective == "regression" else ops.ab_annealed_mean(prediction.float())
        color = functional.interpolate(color, size=images.shape[-2:], mode="bilinear", align_corners=False)
        lightness = ops.rgb_to_lab(images.float())[:, :1]
        painted = {"gray": torch.zeros_like(color), "predicted": color}
        rows = {name: ops.lab_to_rgb(torch.cat([lightness, ab], dim=1)) for name, ab in painted.items()}
        return {**rows, "truth": images}

    def _mean_color(self, images: Tensor) -> Tensor:
        """(B, 2, h, w): a and b averaged over the target's cells, in units of 15."""
        return functional.adaptive_avg_pool2d(ops.rgb_to_lab(images.float())[:, 1:], self.target_size) / AB_UNIT


def color_views(size: int) -> list[ViewSpec]:
    """One view whose colours are left as they are, in [0, 1]: flips and, above 64 px, crops of half to all of the area.

    Args:
        size: side of the view in pixels.
    """
    crop = None if size <= presets.SMALL_IMAGE else (0.5, 1.0)
    return [ViewSpec(size=size, crop_scale=crop, hflip=0.5, mean=(0.0,), std=(1.0,))]
