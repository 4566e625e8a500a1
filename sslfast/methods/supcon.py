"""SupCon: supervised contrastive learning (Khosla et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from sslfast.augment import Views, presets
from sslfast.errors import UserError
from sslfast.losses import SupConLoss
from sslfast.methods.base import Method
from sslfast.models import Backbone, Projector


class SupCon(Method):
    """The views of all images of a class attract each other and repel the others (section 3.2, equation 2).

    An image of unknown class, with the label -1, attracts its own other view alone, as in SimCLR.

    The recipe is the CIFAR-10 one of the authors' code (ResNet-50), whose views up to 64 px are those of MoCo v2. Three
    things of that code are not in the paper, nor here: it multiplies equation 2 by temperature / 0.07, which at 0.1
    makes its steps 1.43 times as long; its warm-up starts at 0.01; its cosine ends at a thousandth of the rate. For
    ImageNet the paper has AutoAugment (section 4), which the views here leave out.

    Args:
        backbone: the encoder.
        image_size: side of the views in pixels.
        seed: names the random streams of the views.
        temperature: of the loss, above 0.
        projection_dim: length of the projection z.
    """

    recipe = {
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "batch_size": 1024,
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
        temperature: float = 0.1,
        projection_dim: int = 128,
    ) -> None:
        super().__init__(backbone, presets.moco_v2(image_size), seed)
        width = backbone.num_features
        self.projector = Projector(width, width, projection_dim, hidden_norm=False, output_norm=False)
        # Positives and negatives are the images of all ranks.
        self.loss = SupConLoss(temperature, gather_distributed=torch.distributed.is_available())

    def forward(self, views: Views) -> dict[str, Tensor]:
        if views.label is None:
            raise UserError("supcon needs labels and the data set has none; give it class folders, or choose simclr")
        # Every image of unknown class becomes a class of its own.
        classes = torch.where(views.label < 0, -1 - views.index, views.label)
        projections = self.projector(self.backbone(torch.cat(views.tensors)))
        loss, metrics = self.loss(torch.stack(projections.chunk(2), dim=1), classes, metrics=True)
        return {"loss": loss, **metrics._asdict()}
