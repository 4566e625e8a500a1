"""SimSiam: simple siamese networks (Chen and He 2021)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sslfast.augment import Views, presets
from sslfast.losses import NegativeCosineSimilarity
from sslfast.methods.base import Method, Parameters
from sslfast.models import Backbone, Predictor, Projector


class SimSiam(Method):
    """The prediction from one view meets the projection of the other behind a stop-gradient (section 3, equation 4).

    There are neither negatives nor a momentum encoder. Each view is encoded by itself, so batch norm takes its
    statistics from one view at a time. The loss lies in [-1, 1].

    The recipe is the CIFAR-10 one (appendix D: ResNet-18, learning rate 0.03 x batch / 256). For ImageNet section 3
    has a batch of 512, learning rate 0.05 x batch / 256, weight decay 1e-4 and 100 epochs: the recipe file
    simsiam-imagenet.yaml. The predictor's learning rate is constant (section 4.2: it adapts to the latest
    representations). SGD decays all parameters (appendix A).

    Args:
        backbone: the encoder f without its projector.
        image_size: side of the views in pixels.
        seed: names the random streams of the views.
        projection_dim: length of projection and prediction, and width of the projector.
        prediction_hidden_dim: width of the predictor's hidden layer.
        projector_layers: when absent 2 up to 64 px (appendix D) and 3 above (section 3).
    """

    recipe = {
        "optimizer": "sgd",
        "learning_rate": 0.06,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "batch_size": 512,
        "epochs": 800,
        "schedule": "cosine",
        "warmup_epochs": 0,
    }

    synchronised_batch_norm = True
    least_batch = 2

    def __init__(
        self,
        backbone: Backbone,
        image_size: int = 32,
        seed: int = 0,
        projection_dim: int = 2048,
        prediction_hidden_dim: int = 512,
        projector_layers: int | None = None,
    ) -> None:
        super().__init__(backbone, presets.simsiam(image_size), seed)
        if projector_layers is None:
            projector_layers = 2 if image_size <= presets.SMALL_IMAGE else 3
        # The authors' code scales and shifts no projection.
        self.projector = Projector(
            backbone.num_features, projection_dim, projection_dim, projector_layers, output_affine=False
        )
        self.predictor = Predictor(projection_dim, prediction_hidden_dim)
        self.similarity = NegativeCosineSimilarity()

    def forward(self, views: Views) -> dict[str, Tensor]:
        projections = [self.projector(self.backbone(view)) for view in views.tensors]
        first, second = (self.predictor(projection) for projection in projections)
        # The stop-gradient: each projection is a constant where it is the target.
        first_target, second_target = (projection.detach() for projection in projections)
        return {"loss": (self.similarity(first, second_target) + self.similarity(second, first_target)) / 2}

    def players(self) -> dict[str, Parameters]:
        groups: list[dict[str, Any]] = [
            {"params": [*self.backbone.parameters(), *self.projector.parameters()]},
            {"params": list(self.predictor.parameters()), "constant_learning_rate": True},
        ]
        return {"model": groups}
