"""Context prediction: the relative position of two patches (Doersch et al. 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sslfast.augment import GridViews, Views, grids, presets
from sslfast.methods.patches import PatchMethod
from sslfast.models import Backbone, Classifier, Projector

NEIGHBOURS = tuple(cell for cell in range(9) if cell != grids.CENTRE)


class RelativePosition(PatchMethod):
    """Says on which of eight sides of one patch another one lies (section 3).

    The two patches go through the same backbone and the same layer behind it, and meet only then (late fusion). Of
    every image one patch is seen with all its eight neighbours, since a patch may stand in eight pairs (section 3.2).
    Gaps and jitter keep edges from running on from patch to patch, and two of the three colours of each patch are
    dropped against chromatic aberration (section 3.1). They become 0, where the paper puts noise with a hundredth of
    the deviation that remains. Some patches are reduced to as little as a hundred pixels and magnified again, against
    pixelation (section 3.1, which does not say how many).

    The recipe is the one with which MMSelfSup trains a ResNet-50 on ImageNet, with a cosine instead of steps and one
    weight decay (it has 5e-4 behind the backbone): the paper names neither learning rate nor batch.

    Args:
        backbone: the encoder; it must take patches of a quarter of the image.
        image_size: side of the image in pixels; 398 px give the paper's patches of 96 px.
        seed: names the random streams.
        channel_drop: probability that a patch loses two of its three colours; when absent the paper's 1 above 64 px and
            0 up to it, where a lens's aberration is no longer seen and evaluation misses the colours (CIFAR-10, 5
            epochs of 5,000 images, kNN: 29.6 % against 26.9 % with dropped ones).
        reduce: probability that a patch is scaled down 2 to 9 times and up again; when absent 0.3 above 64 px and 0 up
            to it, where a patch has little to lose.
        patch_features: length of what a patch hands to the perceptron; when absent 512 up to 64 px, 4096 above.
        hidden_features: width of the perceptron; when absent 512 up to 64 px and the paper's 4096 above.
    """

    recipe = {
        "optimizer": "sgd",
        "learning_rate": 0.2,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "batch_size": 512,
        "epochs": 70,
        "schedule": "cosine",
        "warmup_epochs": 5,
    }

    def __init__(
        self,
        backbone: Backbone,
        image_size: int = 32,
        seed: int = 0,
        channel_drop: float | None = None,
        reduce: float | None = None,
        patch_features: int | None = None,
        hidden_features: int | None = None,
    ) -> None:
        small = image_size <= presets.SMALL_IMAGE
        width = 512 if small else 4096
        patch_features = width if patch_features is None else patch_features
        hidden_features = width if hidden_features is None else hidden_features
        if channel_drop is None:
            channel_drop = 0.0 if small else 1.0
        if reduce is None:
            reduce = 0.0 if small else 0.3
        # Without arrangements all nine patches are cut out: they serve eight pairs.
        grid = grids.relative_position(image_size, channel_drop).replace(
            arrangements=(), reduce=reduce, reduce_factor=(2, 9)
        )
        crop = {"crop_scale": (0.5, 1.0), "hflip": 0.5}
        view = presets.plain(image_size)[0].replace(center_fraction=1.0, **crop)
        super().__init__(backbone, view, grid, seed)
        self.embedding = nn.Sequential(
            Projector(backbone.num_features, patch_features, patch_features, num_layers=1), nn.ReLU()
        )
        self.fusion = nn.Sequential(
            Projector(2 * patch_features, hidden_features, hidden_features, num_layers=2),
            nn.ReLU(),
            Classifier(hidden_features, len(NEIGHBOURS)),
        )

    def positions(self, patches: Tensor) -> Tensor:
        """Logits (B, 8, 8) of grids of patches (B, 9, C, p, p): for every neighbour of the centre, of its position."""
        features = self.embedding(self.encode(patches).flatten(0, 1)).unflatten(0, patches.shape[:2])
        centre = features[:, grids.CENTRE, None].expand(-1, len(NEIGHBOURS), -1)
        pairs = torch.cat([centre, features[:, NEIGHBOURS]], dim=2)
        return self.fusion(pairs.flatten(0, 1)).unflatten(0, pairs.shape[:2])

    def forward(self, views: Views) -> dict[str, Tensor]:
        assert isinstance(views, GridViews)
        logits = self.positions(views.patches).flatten(0, 1)
        position = torch.arange(len(NEIGHBOURS), device=logits.device).repeat(len(views.patches))
        accuracy = (logits.detach().argmax(dim=1) == position).float().mean()
        return {"loss": functional.cross_entropy(logits, position), "accuracy": accuracy}

    @torch.no_grad()
    def pictures(self, views: Views) -> dict[str, Tensor]:
        """Row `patches`, in their places, and row `placed`, where each place shows the patch most likely to lie there.

        In the second row a patch may be seen twice, and another one not at all.
        """
        assert isinstance(views, GridViews)
        was_training = self.training
        self.eval()
        likeliest = self.positions(views.patches).softmax(dim=2).argmax(dim=1)  # (B, 8): for each place a neighbour
        self.train(was_training)
        images = torch.arange(len(likeliest), device=likeliest.device)[:, None]
        placed = views.patches.clone()
        placed[:, NEIGHBOURS] = views.patches[:, NEIGHBOURS][images, likeliest]
        return {"patches": self.picture(views.patches), "placed": self.picture(placed)}
