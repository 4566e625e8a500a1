"""CPC: contrastive predictive coding (van den Oord et al. 2018), with parts of version 2 (Hénaff et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sslfast.augment import GridViews, Views, grids, presets
from sslfast.errors import UserError
from sslfast.losses.distributed import gather_rows
from sslfast.losses.negatives import own_columns
from sslfast.methods.patches import PatchMethod
from sslfast.models import Backbone, PixelCNN
from sslfast.ops.nt_xent import check_temperature, contrast, negatives_logsumexp, unit_rows

CROP = 256 / 300  # side of the crop, as a fraction of the image (section 3.2)


class CPC(PatchMethod):
    """From the rows of patches seen so far, finds the patches some rows below among all others (section 3.2).

    Every patch of a 7 x 7 grid with half overlap becomes a vector z, the backbone's pooled features. A PixelCNN makes
    the context c of a place from the rows down to it, a matrix W_k predicts the vector k rows below, and the
    prediction's negatives are the other patches of all images in the batch, of all ranks:

        loss = mean over k, i of -log( exp(s(W_k c_i, t_i+k)) / sum over all patches j of exp(s(W_k c_i, t_j)) )

    with t = V z. Here s is the cosine over a temperature, where equation 3 has the plain product. The row right below
    shares half of its pixels with the context and is left out: k is 2 to 6, five rows in all. The shorter targets, the
    PixelCNN's blocks and the dropped colours are those of version 2; version 1 has gray images, and of each patch of
    64 px a random crop of 60 px in a frame of zeros, which is left out here.

    The encoders of both papers have no batch norm, whose statistics tie the patches of an image together, so that they
    can be found without a prediction. `resnet50_gn` is such a backbone; batch norm, where a backbone has it, takes its
    statistics over all patches of the batch.

    The recipe is that of section 3.2: Adam at 2e-4, 32 GPUs with 16 images each. The paper does not name the epochs.

    Args:
        backbone: the encoder; it must take patches of a quarter of the image.
        image_size: side of the image in pixels, a multiple of 8; the paper has 256.
        seed: names the random streams.
        nearest, furthest: smallest and largest k, 1 <= nearest <= furthest <= 6.
        target_features: length of predictions and targets.
        context_features: width of the PixelCNN's layers.
        temperature: of the loss, above 0.
        channel_drop: probability that a patch loses two of its three colours; when absent 1 above 64 px and 0 up to it,
            where evaluation misses the colours (CIFAR-10, 5 epochs of 5,000 images, kNN: 30.9 % against 25.9 % with
            dropped ones).
        grayscale: probability that an image is gray.
    """

    recipe = {
        "optimizer": "adam",
        "learning_rate": 2e-4,
        "weight_decay": 0.0,
        "batch_size": 512,
        "epochs": 200,
        "schedule": "constant",
        "warmup_epochs": 0,
    }

    def __init__(
        self,
        backbone: Backbone,
        image_size: int = 32,
        seed: int = 0,
        nearest: int = 2,
        furthest: int = 6,
        target_features: int = 64,
        context_features: int = 256,
        temperature: float = 0.1,
        channel_drop: float | None = None,
        grayscale: float = 0.0,
    ) -> None:
        if channel_drop is None:
            channel_drop = 0.0 if image_size <= presets.SMALL_IMAGE else 1.0
        grid = grids.cpc(image_size).replace(channel_drop=channel_drop, channel_drop_count=(2, 2))
        if not 1 <= nearest <= furthest < grid.grid[0]:
            raise UserError(
                f"CPC predicts rows {nearest} to {furthest} below; the grid has {grid.grid[0]} rows, so choose "
                f"1 <= nearest <= furthest <= {grid.grid[0] - 1}"
            )
        if target_features < 1:
            raise UserError(f"target_features is {target_features}; it must be at least 1")
        check_temperature(temperature)
        crop = {"crop_scale": (CROP**2, CROP**2), "crop_ratio": (1.0, 1.0), "hflip": 0.5}
        view = presets.plain(image_size)[0].replace(grayscale=grayscale, **crop)
        super().__init__(backbone, view, grid, seed)
        self.temperature = temperature
        self.context = PixelCNN(backbone.num_features, context_features)
        self.target = nn.Linear(backbone.num_features, target_features)
        self.predictors = nn.ModuleDict(
            {
                str(k): nn.Linear(backbone.num_features, target_features, bias=False)
                for k in range(nearest, furthest + 1)
            }
        )

    def predict(self, patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is predicted, and of which patch.

        Args:
            patches: (B, 49, C, p, p).

        Returns:
            Predictions (N, d) and targets (B * 49, d), rows of length 1 in float32, and for every prediction the row of
            its target, (N,) int64. Predictions come by k, then by image, row and column.
        """
        features = self.encode(patches)
        context = self.context(features.transpose(1, 2).unflatten(2, self.grid.grid)).permute(0, 2, 3, 1)
        place = torch.arange(features.shape[0] * features.shape[1], device=features.device).view(context.shape[:3])
        predictions = [predictor(context[:, : -int(k)]).flatten(0, 2) for k, predictor in self.predictors.items()]
        aims = [place[:, int(k) :].flatten() for k in self.predictors]
        targets = self.target(features).flatten(0, 1)
        return unit_rows(torch.cat(predictions)), unit_rows(targets), torch.cat(aims)

    def forward(self, views: Views) -> dict[str, Tensor]:
        assert isinstance(views, GridViews)
        predictions, targets, aims = self.predict(views.patches)
        # The matrix of all predictions and patches is never built.
        excluded = own_columns(targets, gather_distributed=True)[aims, None]
        negatives = negatives_logsumexp(predictions, gather_rows(targets), excluded, self.temperature)
        # `targets[aims]` would add up its gradient in the order of the threads.
        positives = (predictions * targets.index_select(0, aims)).sum(1)
        return {"loss": contrast(positives, negatives, self.temperature)}

    @torch.no_grad()
    def pictures(self, views: Views) -> dict[str, Tensor]:
        """Row `patches`, in their places, and row `predicted`, what is found for the rows below the first ones.

        Each place that has a prediction (from the nearest row above that predicts it) shows the patch, of all pictured
        images, which is most similar to the prediction.
        """
        assert isinstance(views, GridViews)
        was_training = self.training
        self.eval()
        predictions, targets, aims = self.predict(views.patches)
        self.train(was_training)
        nearest = min(map(int, self.predictors))
        count = len(views.patches) * (self.grid.grid[0] - nearest) * self.grid.grid[1]
        found = views.patches.flatten(0, 1).clone()
        found[aims[:count]] = found[(predictions[:count] @ targets.T).argmax(dim=1)]
        return {"patches": self.picture(views.patches), "predicted": self.picture(found.view_as(views.patches))}
