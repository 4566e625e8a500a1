"""Jigsaw puzzles (Noroozi and Favaro 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sslfast.augment import GridViews, Views, grids, presets
from sslfast.methods.patches import PatchMethod
from sslfast.models import Backbone, Classifier, Projector


class Jigsaw(PatchMethod):
    """Says in which order the nine patches of an image were shuffled (section 3).

    All patches go through the same backbone and the same layer behind it; their features, in the shuffled order, are
    joined by a perceptron whose classes are a set of permutations with large Hamming distances. Against short cuts
    every patch is normalised by its own mean and deviation, it lies anywhere in its cell, its colour channels are
    shifted against each other, and some images are gray.

    The recipe is the paper's (ImageNet, 350,000 steps, which are 70 epochs), with a cosine instead of steps of the
    learning rate, and with AlexNet's weight decay. The networks here have batch norm, which the paper's has not.

    Args:
        backbone: the encoder; it must take patches of a quarter of the image.
        image_size: side of the image in pixels that is cut into 3 x 3 cells.
        seed: names the random streams.
        permutations: number of classes, 2 or more; the paper has 64, 100 and 1000. When absent 100 up to 64 px and
            1000 above.
        grayscale: probability that an image is gray.
        channel_jitter: largest shift of a patch's channel in pixels; when absent 0 up to 64 px, where a lens's
            aberration is no longer seen, and 2 above.
        patch_features: length of what a patch hands to the perceptron.
        hidden_features: width of the perceptron; when absent 1024 up to 64 px and the paper's 4096 above.
    """

    recipe = {
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "batch_size": 256,
        "epochs": 70,
        "schedule": "cosine",
        "warmup_epochs": 0,
    }

    least_batch = 2

    def __init__(
        self,
        backbone: Backbone,
        image_size: int = 32,
        seed: int = 0,
        permutations: int | None = None,
        grayscale: float = 0.3,
        channel_jitter: int | None = None,
        patch_features: int = 512,
        hidden_features: int | None = None,
    ) -> None:
        small = image_size <= presets.SMALL_IMAGE
        if permutations is None:
            permutations = 100 if small else 1000
        if channel_jitter is None:
            channel_jitter = 0 if small else 2
        if hidden_features is None:
            hidden_features = 1024 if small else 4096
        grid = grids.jigsaw(image_size, permutations)
        view = presets.plain(image_size, center_fraction=1.0)[0].replace(grayscale=grayscale)
        super().__init__(backbone, view, grid, seed, channel_jitter)
        self.embedding = nn.Sequential(
            Projector(backbone.num_features, patch_features, patch_features, num_layers=1), nn.ReLU()
        )
        self.solver = nn.Sequential(
            Projector(grid.count * patch_features, hidden_features, hidden_features, num_layers=1),
            nn.ReLU(),
            Classifier(hidden_features, permutations),
        )

    def solve(self, patches: Tensor) -> Tensor:
        """Logits (B, permutations) of shuffled patches (B, 9, C, p, p)."""
        # Mean 0 and deviation 1 in every channel of every patch: brightness and colour would tell what lies together.
        patches = functional.instance_norm(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])
        features = self.encode(patches)
        return self.solver(self.embedding(features.flatten(0, 1)).view(len(patches), -1))

    def forward(self, views: Views) -> dict[str, Tensor]:
        assert isinstance(views, GridViews)
        logits, permutation = self.solve(views.patches), views.drawn.arrangement
        accuracy = (logits.detach().argmax(dim=1) == permutation).float().mean()
        return {"loss": functional.cross_entropy(logits, permutation), "accuracy": accuracy}

    @torch.no_grad()
    def pictures(self, views: Views) -> dict[str, Tensor]:
        """Row `puzzle`, the patches as they are given, and row `solved`, put back by the permutation that is found."""
        assert isinstance(views, GridViews)
        was_training = self.training
        self.eval()
        found = self.solve(views.patches).argmax(dim=1)
        self.train(was_training)
        # Result k of the grid shows the patch arrangement[k]; cell c gets the result that shows patch c.
        place = torch.tensor(self.grid.arrangements, device=found.device)[found].argsort(dim=1)
        solved = views.patches[torch.arange(len(place), device=place.device)[:, None], place]
        return {"puzzle": self.picture(views.patches), "solved": self.picture(solved)}
