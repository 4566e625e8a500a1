"""Autoencoders: reconstruct the image, from itself or from a corrupted view."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sslfast.augment import MultiView, Views, presets
from sslfast.methods.base import Method
from sslfast.models import Backbone, build_decoder


class Autoencoder(Method):
    """A convolutional autoencoder: mean squared error between the image and its reconstruction, on pixels in [0, 1].

    With the backbone `conv9` the decoder mirrors the encoder; with any other it doubles the feature map until it has
    the size of the image. The last view is the decoder's input and the first one its target, so that a subclass
    corrupts by adding a view.

    Args:
        backbone: the encoder.
        image_size: side of the views in pixels.
        seed: names the random streams of the views.
    """

    recipe = {
        "optimizer": "adam",
        "learning_rate": 2e-4,
        "weight_decay": 0.0,
        "batch_size": 64,
        "epochs": 100,
        "schedule": "plateau",
        "warmup_epochs": 0,
    }

    def __init__(self, backbone: Backbone, image_size: int = 32, seed: int = 0) -> None:
        clean, _ = presets.noisy(image_size)
        super().__init__(backbone, [clean], seed)
        self.decoder = build_decoder(backbone)

    def reconstruct(self, images: Tensor) -> Tensor:
        """Decodes the code of `images`, (B, C, H, W) in [0, 1], to images of the same shape, not limited to [0, 1]."""
        return self.decoder(self.backbone.feature_map(images), (images.shape[-2], images.shape[-1]))

    def forward(self, views: Views) -> dict[str, Tensor]:
        return {"loss": functional.mse_loss(self.reconstruct(views.tensors[-1]), views.tensors[0])}

    @torch.no_grad()
    def pictures(self, views: Views) -> dict[str, Tensor]:
        """Row `reconstruction`, with the batch norms' averages."""
        was_training = self.training
        self.eval()
        reconstruction = self.reconstruct(views.tensors[-1]).clamp(0.0, 1.0)
        self.train(was_training)
        return {"reconstruction": reconstruction}


class DenoisingAutoencoder(Autoencoder):
    """Reconstructs the clean image from a corrupted one (Vincent et al. 2010, section 3).

    Args:
        backbone: the encoder.
        image_size: side of the views in pixels.
        seed: names the random streams of the views.
        gaussian: standard deviation of additive noise, in [0, 1] units.
        salt_pepper: fraction of pixels set to black or white (usual: 0.05, 0.1, 0.2, 0.5).
        masking: fraction of pixels set to zero (usual: 0.05, 0.1, 0.2, 0.5).
    """

    def __init__(
        self,
        backbone: Backbone,
        image_size: int = 32,
        seed: int = 0,
        gaussian: float = 0.1,
        salt_pepper: float = 0.0,
        masking: float = 0.0,
    ) -> None:
        super().__init__(backbone, image_size, seed)
        self.multi_view = MultiView(presets.noisy(image_size, gaussian, salt_pepper, masking), seed)
