"""MoCo: momentum contrast (He et al. 2020), and its version 2 (Chen, Fan et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from sslfast.augment import Views, presets
from sslfast.errors import UserError
from sslfast.losses import InfoNCELoss, MemoryBankModule
from sslfast.methods.base import Method
from sslfast.models import Backbone, MomentumEncoder, Projector, encode_shuffled
from sslfast.ops.nt_xent import unit_rows


class MoCo(Method):
    """The query of one view finds the key of the other among the keys of past batches (section 3.1, equation 1).

    The keys come from a momentum encoder, with shuffled batch norm where there are several ranks, and wait in a queue.
    Version 2 has an MLP for the linear projection, blur in the views and another temperature.

    The recipe and the defaults up to 64 px are those of the authors' CIFAR-10 notebook (ResNet-18), with three
    differences: the notebook's projection is the linear one (version 1), its crops begin at 8 % of the area and not at
    20 %, and it normalises the batch in eight parts, so that one device can shuffle among them, as here several can (it
    counts 4 points of kNN for that, at 800 epochs). For ImageNet
    section 4 has batches of 256, learning rate 0.03, weight decay 1e-4 and 200 epochs, in version 1 with the step
    schedule and milestones 120 and 160: the recipe files moco-imagenet.yaml and moco-v1-imagenet.yaml.

    Args:
        backbone: the query encoder's.
        image_size: side of the views in pixels.
        seed: names the random streams of the views.
        version: 1 or 2.
        temperature: of the loss, above 0; when absent 0.1 up to 64 px, above 0.07 (version 1) or 0.2 (version 2).
        momentum: of the momentum encoder, in [0, 1]; when absent 0.99 up to 64 px and 0.999 above.
        queue_size: keys in the queue, best a multiple of the batch over all ranks; when absent 4096 up to 64 px and
            65536 above.
        projection_dim: length of query and key.
    """

    recipe = {
        "optimizer": "sgd",
        "learning_rate": 0.06,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "batch_size": 512,
        "epochs": 200,
        "schedule": "cosine",
        "warmup_epochs": 0,
    }

    def __init__(
        self,
        backbone: Backbone,
        image_size: int = 32,
        seed: int = 0,
        version: int = 2,
        temperature: float | None = None,
        momentum: float | None = None,
        queue_size: int | None = None,
        projection_dim: int = 128,
    ) -> None:
        if version not in (1, 2):
            raise UserError(f"version of MoCo is {version}; choose 1 or 2")
        small = image_size <= presets.SMALL_IMAGE
        if temperature is None:
            temperature = 0.1 if small else {1: 0.07, 2: 0.2}[version]
        if momentum is None:
            momentum = 0.99 if small else 0.999
        if queue_size is None:
            queue_size = 4096 if small else 65536
        if queue_size < 1:
            raise UserError(f"queue_size is {queue_size}; the queue must hold at least 1 key")
        super().__init__(backbone, (presets.moco_v1 if version == 1 else presets.moco_v2)(image_size), seed)
        width = backbone.num_features
        self.projector = Projector(
            width, width, projection_dim, num_layers=version, hidden_norm=False, output_norm=False
        )
        self.key_encoder = MomentumEncoder(backbone, self.projector, momentum=momentum)
        # The queue holds the keys of all ranks.
        self.queue = MemoryBankModule(
            (queue_size, projection_dim),
            gather_distributed=torch.distributed.is_available(),
            feature_dim_first=False,
            persistent=True,
        )
        self.loss = InfoNCELoss(temperature)

    def forward(self, views: Views) -> dict[str, Tensor]:
        query_view, key_view = views.tensors
        query = unit_rows(self.projector(self.backbone(query_view)))
        key = unit_rows(encode_shuffled(self.key_encoder, key_view))
        # The negatives are older than the batch: a key enters the queue after its own query.
        _, negatives = self.queue(key, update=self.training)
        loss, metrics = self.loss(query, key, negatives.to(query), metrics=True)
        return {"loss": loss, **metrics._asdict()}

    def after_step(self, step: int, steps: int) -> None:
        self.key_encoder.update(step, steps)
