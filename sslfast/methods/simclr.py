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

    The recipe is the CIFAR-10 one (appendix B.9, with the batch of 512 of the authors' code): LARS, learning rate
    1.0 x batch / 256, 1000 epochs. The weight decay is that of section 2.2; the code's CIFAR-10 command has 1e-4. For
    ImageNet section 2.2 has a batch of 4096, learning rate 0.3 x batch / 256 and 100 epochs.

    Args:
        backbone: the encoder f.
        image_size: side of the views in pixels.
        seed: names the random streams of the views.
        temperature: of the loss, above 0; 0.5 up to 64 px (appendix B.9) and 0.1 above (section 5.1) when absent.
        projection_dim: length of the projection z.
        strength: of the colour distortion; 0.5 up to 64 px and 1.0 above when absent.
        smallest_crop: area of the smallest random-resized-crop, as a fraction of the image.
    """

    recipe = {
        "optimizer": "lars",
        "learning_rate": 2.0,
        "momentum": 0.9,
        "weight_decay": 1e-6,
        "batch_size": 512,
        "epochs": 1000,
        "schedule": "cosine",
        "warmup_epochs": 10,
    }

    synchronised_batch_norm = True

    def __init__(
        self,
        backbone: Backbone,
        image_size: int = 32,
        seed: int = 0,
        temperature: float | None = None,
        projection_dim: int = 128,
        strength: float | None = None,
        smallest_crop: float = 0.08,
    ) -> None:
        super().__init__(backbone, presets.simclr(image_size, strength, smallest_crop), seed)
        self.projector = Projector(backbone.num_features, backbone.num_features, projection_dim)
        if temperature is None:
            temperature = 0.5 if image_size <= presets.SMALL_IMAGE else 0.1
        # The negatives are the images of all ranks.
        self.loss = NTXentLoss(temperature, gather_distributed=torch.distributed.is_available())

    def forward(self, views: Views) -> dict[str, Tensor]:
        # One pass over both views: their batch norm statistics are shared, as in the authors' code.
        projections = self.projector(self.backbone(torch.cat(views.tensors)))
        loss, metrics = self.loss(*projections.chunk(2), metrics=True)
        return {"loss": loss, **metrics._asdict()}
