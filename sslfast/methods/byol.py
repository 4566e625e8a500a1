"""BYOL: bootstrap your own latent (Grill et al. 2020)."""

from __future__ import annotations

from torch import Tensor

from sslfast.augment import Views, presets
from sslfast.losses import NegativeCosineSimilarity
from sslfast.methods.base import Method
from sslfast.models import Backbone, MomentumEncoder, Predictor, Projector


class BYOL(Method):
    """From one view the online network predicts what its slow copy, the target network, makes of the other (section 3).

    The loss is symmetric in two views that are drawn differently; there are no negatives. Each view is encoded by
    itself, so batch norm takes its statistics from one view at a time, as in the authors' code. The last layers of
    projector and predictor have a bias, which that code leaves out.

    The recipe is the paper's for ImageNet (section 3.3), which gives none for CIFAR: LARS, learning rate
    0.2 x batch / 256, 1000 epochs, here with a batch of 512 (the paper has 4096, and shows smaller ones to work).

    Args:
        backbone: the online network's encoder f.
        image_size: side of the views in pixels.
        seed: names the random streams of the views.
        momentum: of the target network at the first step, in [0, 1]; it grows to 1 along a cosine.
        projection_dim: length of projection and prediction.
        hidden_dim: width of the hidden layers of projector and predictor.
    """

    recipe = {
        "optimizer": "lars",
        "learning_rate": 0.4,
        "momentum": 0.9,
        "weight_decay": 1.5e-6,
        "batch_size": 512,
        "epochs": 1000,
        "schedule": "cosine",
        "warmup_epochs": 10,
    }

    synchronised_batch_norm = True
    least_batch = 2

    def __init__(
        self,
        backbone: Backbone,
        image_size: int = 32,
        seed: int = 0,
        momentum: float = 0.996,
        projection_dim: int = 256,
        hidden_dim: int = 4096,
    ) -> None:
        super().__init__(backbone, presets.byol(image_size), seed)
        self.projector = Projector(backbone.num_features, hidden_dim, projection_dim, output_norm=False)
        self.predictor = Predictor(projection_dim, hidden_dim)
        self.target = MomentumEncoder(backbone, self.projector, momentum=momentum, cosine=True)
        self.similarity = NegativeCosineSimilarity()

    def forward(self, views: Views) -> dict[str, Tensor]:
        first, second = views.tensors
        return {"loss": self._regression(first, second) + self._regression(second, first)}

    def _regression(self, view: Tensor, other: Tensor) -> Tensor:
        """Squared distance of the prediction to the target, both scaled to length 1 (equation 2): 2 - 2 cos."""
        prediction = self.predictor(self.projector(self.backbone(view)))
        return 2.0 + 2.0 * self.similarity(prediction, self.target(other))

    def after_step(self, step: int, steps: int) -> None:
        self.target.update(step, steps)
