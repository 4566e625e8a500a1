"""NNCLR: nearest-neighbour contrastive learning of visual representations (Dwibedi et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from sslfast.augment import Views, presets
from sslfast.errors import UserError
from sslfast.losses import InfoNCELoss, NNMemoryBankModule
from sslfast.methods.base import Method
from sslfast.models import Backbone, Predictor, Projector
from sslfast.ops.nt_xent import ContrastMetrics, unit_rows


class NNCLR(Method):
    """The nearest neighbour of one view, among past images, finds the prediction from the other (section 3.2).

    The support set, a queue, holds the projections of the first views of past batches. The loss is symmetric in the
    views, each of which is encoded by itself. They are drawn as SimCLR's.

    The recipe is the paper's for ImageNet (section 4.1), which gives none for CIFAR: LARS, learning rate
    0.3 x batch / 256, 1000 epochs, here with a batch of 512 (the paper has 4096).

    Args:
        backbone: the encoder.
        image_size: side of the views in pixels.
        seed: names the random streams of the views.
        temperature: of the loss, above 0.
        queue_size: projections in the support set; when absent 16384 up to 64 px and 98304 above.
        projection_dim: length of projection and prediction.
        hidden_dim: width of the projector's hidden layers.
        prediction_hidden_dim: width of the predictor's hidden layer.
    """

    synchronised_batch_norm = True
    least_batch = 2

    recipe = {
        "optimizer": "lars",
        "learning_rate": 0.6,
        "momentum": 0.9,
        "weight_decay": 1e-6,
        "batch_size": 512,
        "epochs": 1000,
        "schedule": "cosine",
        "warmup_epochs": 10,
    }

    def __init__(
        self,
        backbone: Backbone,
        image_size: int = 32,
        seed: int = 0,
        temperature: float = 0.1,
        queue_size: int | None = None,
        projection_dim: int = 256,
        hidden_dim: int = 2048,
        prediction_hidden_dim: int = 4096,
    ) -> None:
        super().__init__(backbone, presets.simclr(image_size), seed)
        if queue_size is None:
            queue_size = 16384 if image_size <= presets.SMALL_IMAGE else 98304
        if queue_size < 1:
            raise UserError(f"queue_size is {queue_size}; the support set must hold at least 1 projection")
        self.projector = Projector(backbone.num_features, hidden_dim, projection_dim, num_layers=3)
        self.predictor = Predictor(projection_dim, prediction_hidden_dim)
        # Support set and negatives are those of all ranks.
        gather = torch.distributed.is_available()
        self.support_set = NNMemoryBankModule((queue_size, projection_dim), gather, persistent=True)
        self.loss = InfoNCELoss(temperature, gather_distributed=gather)

    def forward(self, views: Views) -> dict[str, Tensor]:
        first, second = (self.projector(self.backbone(view)) for view in views.tensors)
        # Both look before the batch is stored: an image is no neighbour of itself.
        second_neighbours = self.support_set(unit_rows(second.detach()))
        first_neighbours = self.support_set(unit_rows(first.detach()), update=self.training)
        loss, metrics = self._contrast(first_neighbours, second)
        other_loss, other_metrics = self._contrast(second_neighbours, first)
        both = ContrastMetrics(*((here + there) / 2 for here, there in zip(metrics, other_metrics, strict=True)))
        return {"loss": (loss + other_loss) / 2, **both._asdict()}

    def _contrast(self, neighbours: Tensor, projections: Tensor) -> tuple[Tensor, ContrastMetrics]:
        predictions = unit_rows(self.predictor(projections))
        result: tuple[Tensor, ContrastMetrics] = self.loss(neighbours.to(predictions), predictions, metrics=True)
        return result
