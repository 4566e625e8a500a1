"""SimCLR: a simple framework for contrastive learning (Chen et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from sslfast.augment import Views, presets
from sslfast.losses import NTXentLoss
from sslfast.methods.base import Method
from sslfast.models import Backbone, Projector


class SimCLR(Method):
    """Two views of an image attract each other and repel those of all other images (section 2.1, equation 1).

    The recipe up to 64 px is appendix B.9's with the authors' batch of 512 (LARS, learning rate 1.0 x batch / 256,
    1000 epochs); above, that of the default model of section 2.2 (batch 4096, learning rate 0.3 x batch / 256,
    100 epochs).

    Args:
        backbone: the encoder f.
        image_size: side of the views in pixels.
        seed: names the random streams of the views.
        temperature: of the loss, above 0; 0.5 up to 64 px (appendix B.9) and 0.1 above (section 5.1) when absent.
        projection_dim: length of the projection z.
        strength: of the colour distortion; 0.5 up to 64 px and 1.0 above when absent.
    """

    def __init__(
        self,
        backbone: Backbone,
        image_size: int = 32,
        seed: int = 0,
        temperature: float | None = None,
        projection_dim: int = 128,
        strength: float | None = None,
    ) -> None:
        super().__init__(backbone, presets.simclr(image_size, strength), seed)
        small = image_size <= presets.SMALL_IMAGE
        self.projector = Projector(backbone.num_features, backbone.num_features, projection_dim)
        self.loss = NTXentLoss(temperature=temperature if temperature is not None else (0.5 if small else 0.1))
        self.recipe = {
            "optimizer": "lars",
            "learning_rate": 2.0 if small else 4.8,
            "momentum": 0.9,
            "weight_decay": 1e-6,
            "batch_size": 512 if small else 4096,
            "epochs": 1000 if small else 100,
            "schedule": "cosine",
            "warmup_epochs": 10,
        }

    def forward(self, views: Views) -> dict[str, Tensor]:
        # One pass over both views: their batch norm statistics are shared, as in the authors' code.
        projections = self.projector(self.backbone(torch.cat(views.tensors)))
        return {"loss": self.loss(*projections.chunk(2))}
