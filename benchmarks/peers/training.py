"""Whole methods as their users write them: what a DataLoader worker makes of a picture, and the loss of a batch.

The networks are those of sslfast's method, the same object on both sides; views, targets and loss are the peer's. Where
lightly has a method, its transform and loss stand here, with the settings that are nearest to the method's views; the
others are written plainly with torchvision's transforms, and colours are converted by scikit-image or OpenCV.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.peers.views import torchvision
from sslfast.augment import Views, grids
from sslfast.ops import ab_bins

NEIGHBOURS = 10  # bins of a soft target
CHROMA = 255.0  # reach of a and b, from -128


@dataclass(frozen=True)
class Peer:
    """A method as its users write it.

    Attributes:
        sample: makes a list of tensors of one picture, in a worker.
        loss: of the batches of these tensors and the classes of the pictures, on the device that trains.
    """

    sample: Callable[[Any], list[Tensor]]
    loss: Callable[[list[Tensor], Tensor], Tensor]


def _lightly(transform: str, **options: Any) -> Callable[[Any], list[Tensor]]:
    import lightly.transforms

    views: Callable[[Any], list[Tensor]] = getattr(lightly.transforms, transform)(gaussian_blur=0.0, **options)
    return views


def _pixels(method: Any) -> int:
    """Side of the views."""
    return int(method.evaluation_view.shape[0])


def simclr(method: Any) -> Peer:
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(temperature=0.5)
    sample = _lightly("SimCLRTransform", input_size=_pixels(method), cj_strength=0.5)
    return Peer(sample, lambda views, _: loss(*method.projector(method.backbone(torch.cat(views))).chunk(2)))


def moco(method: Any) -> Peer:
    from lightly.loss import NTXentLoss

    bank = (method.queue.size[0], method.queue.size[1])
    loss = NTXentLoss(temperature=0.1, memory_bank_size=bank).to(next(method.parameters()).device)
    sample = _lightly("MoCoV2Transform", input_size=_pixels(method))
    return Peer(
        sample,
        lambda views, _: loss(method.projector(method.backbone(views[0])), method.key_encoder(views[1])),
    )


def similarity(method: Any, transform: str) -> Peer:
    """BYOL and SimSiam; of lightly's transforms SimCLR's is nearest to BYOL's up to 64 px."""
    from lightly.loss import NegativeCosineSimilarity

    method.similarity = NegativeCosineSimilarity()
    nothing = torch.empty(0)
    sample = _lightly(transform, input_size=_pixels(method))
    return Peer(sample, lambda views, _: method(Views(views, [], nothing))["loss"])


def nnclr(method: Any) -> Peer:
    from lightly.loss import NTXentLoss
    from lightly.models.modules import NNMemoryBankModule

    loss = NTXentLoss(temperature=0.1)
    bank = NNMemoryBankModule(size=tuple(method.support_set.size)).to(next(method.parameters()).device)

    def of_views(views: list[Tensor], _: Tensor) -> Tensor:
        first, second = (method.projector(method.backbone(view)) for view in views)
        second_neighbours, first_neighbours = bank(second.detach()), bank(first.detach(), update=True)
        return (loss(first_neighbours, method.predictor(second)) + loss(second_neighbours, method.predictor(first))) / 2

    return Peer(_lightly("SimCLRTransform", input_size=_pixels(method), cj_strength=0.5), of_views)


def supcon(method: Any) -> Peer:
    from pytorch_metric_learning.losses import SupConLoss

    loss = SupConLoss(temperature=0.1)

    def of_views(views: list[Tensor], labels: Tensor) -> Tensor:
        return loss(method.projector(method.backbone(torch.cat(views))), labels.repeat(2))

    return Peer(_lightly("MoCoV2Transform", input_size=_pixels(method)), of_views)


def _view(method: Any) -> Callable[[Any], Tensor]:
    """The method's view of a picture by torchvision."""
    from torchvision.transforms.v2.functional import pil_to_tensor

    transform = torchvision(method.multi_view.specs[0].replace(rotation=()))
    return lambda picture: transform(pil_to_tensor(picture))


def rotation(method: Any) -> Peer:
    """By multiples of 90 degrees, which need no interpolation."""
    view, turns = _view(method), range(len(method.multi_view.specs))

    def of_views(views: list[Tensor], labels: Tensor) -> Tensor:
        angle = torch.arange(len(views), device=labels.device).repeat_interleave(len(labels))
        return functional.cross_entropy(method.classifier(method.backbone(torch.cat(views))), angle)

    return Peer(lambda picture: _rotated(view(picture), turns), of_views)


def _rotated(view: Tensor, turns: range) -> list[Tensor]:
    return [view.rot90(turn, (1, 2)).contiguous() for turn in turns]


def _patches(view: Tensor, grid: grids.GridSpec) -> Tensor:
    """(K, C, p, p): the patches of one view in their order, each moved at random."""
    rows, columns = grid.grid
    moves = torch.randint(grid.jitter + 1, (rows * columns, 2)).tolist()
    corners = [(k // columns * grid.stride + y, k % columns * grid.stride + x) for k, (y, x) in enumerate(moves)]
    return torch.stack([view[:, y : y + grid.patch, x : x + grid.patch] for y, x in corners])


def relative_position(method: Any) -> Peer:
    view, classes = _view(method), method.grid.count - 1

    def of_patches(patches: list[Tensor], labels: Tensor) -> Tensor:
        position = torch.arange(classes, device=labels.device).repeat(len(labels))
        return functional.cross_entropy(method.positions(patches[0]).flatten(0, 1), position)

    return Peer(lambda picture: [_patches(view(picture), method.grid)], of_patches)


def jigsaw(method: Any) -> Peer:
    view, arrangements = _view(method), torch.tensor(method.grid.arrangements)

    def sample(picture: Any) -> list[Tensor]:
        permutation = torch.randint(len(arrangements), ())
        return [_patches(view(picture), method.grid)[arrangements[permutation]], permutation]

    return Peer(sample, lambda puzzle, _: functional.cross_entropy(method.solve(puzzle[0]), puzzle[1]))


def cpc(method: Any) -> Peer:
    """Patches are cut from the batch, and the rows ahead come one by one, so that no matrix holds all predictions."""
    view, grid = _view(method), method.grid

    def of_views(views: list[Tensor], _: Tensor) -> Tensor:
        windows = views[0].unfold(2, grid.patch, grid.stride).unfold(3, grid.patch, grid.stride)
        predictions, targets, aims = method.predict(windows.permute(0, 2, 3, 1, 4, 5).flatten(1, 2))
        counts = [len(views[0]) * (grid.grid[0] - int(ahead)) * grid.grid[1] for ahead in method.predictors]
        rows = zip(predictions.split(counts), aims.split(counts), strict=True)
        losses = [
            functional.cross_entropy(ahead @ targets.T / method.temperature, aim, reduction="sum")
            for ahead, aim in rows
        ]
        return torch.stack(losses).sum() / len(predictions)

    return Peer(lambda picture: [view(picture)], of_views)


def autoencoder(method: Any) -> Peer:
    from torchvision.transforms import v2

    view = _view(method)
    noises = [v2.GaussianNoise(sigma=spec.noise_gaussian) for spec in method.multi_view.specs[1:]]

    def sample(picture: Any) -> list[Tensor]:
        clean = view(picture)
        return [clean, *(noise(clean) for noise in noises)]

    return Peer(sample, lambda views, _: functional.mse_loss(method.reconstruct(views[-1]), views[0]))


def colorization(method: Any, library: str) -> Peer:
    """The nearest bins of a batch's colours from one matrix of distances; the loss gathers from log-probabilities."""
    sample = _lab_planes(method, library)
    bins = ab_bins(next(method.parameters()).device)

    def of_planes(views: list[Tensor], _: Tensor) -> Tensor:
        planes = views[0]
        scores = method.predict(planes).permute(0, 2, 3, 1).flatten(0, 2)
        ab = functional.adaptive_avg_pool2d(planes[:, 1:] * CHROMA - 128, method.target_size)
        distances, classes = torch.cdist(ab.permute(0, 2, 3, 1).flatten(0, 2), bins).topk(NEIGHBOURS, largest=False)
        method.counts += classes[:, 0].bincount(minlength=len(bins))
        weights = (distances.square() / -50).softmax(1) * method.classification.class_weights[classes[:, :1]]
        return -(scores.log_softmax(1).gather(1, classes) * weights).sum(1).mean()

    return Peer(sample, of_planes)


def split_brain(method: Any, library: str) -> Peer:
    def of_planes(views: list[Tensor], _: Tensor) -> Tensor:
        cells = functional.adaptive_avg_pool2d(views[0], method.target_size)
        low, high = cells.amin((2, 3), keepdim=True), cells.amax((2, 3), keepdim=True)
        place = (cells - low) / (high - low).clamp(min=1e-4)
        lightness = (100 * place[:, :1]).long().clamp(max=99)
        a, b = (10 * place[:, 1:]).long().clamp(max=9).chunk(2, dim=1)
        first, second = method.logits(views[0])
        return functional.cross_entropy(first, lightness) + functional.cross_entropy(second, 10 * a + b)

    return Peer(_lab_planes(method, library), of_planes)


def _lab_planes(method: Any, library: str) -> Callable[[Any], list[Tensor]]:
    """The flipped picture in Lab, converted by a library, each channel in [0, 1]; the networks take it as it comes."""
    import numpy as np
    from torchvision.transforms import v2

    method.backbone.planes = lambda planes: planes
    convert = {"scikit-image": _scikit_image, "opencv": _opencv}[library]()
    flip = v2.RandomHorizontalFlip()
    low, reach = np.array([0, 128, 128], dtype=np.float32), np.array([100, CHROMA, CHROMA], dtype=np.float32)

    def sample(picture: Any) -> list[Tensor]:
        pixels = np.asarray(flip(picture), dtype=np.float32) / 255
        return [torch.from_numpy((convert(pixels) + low) / reach).permute(2, 0, 1)]

    return sample


def _scikit_image() -> Callable[[Any], Any]:
    from skimage.color import rgb2lab

    return rgb2lab


def _opencv() -> Callable[[Any], Any]:
    import cv2

    cv2.setNumThreads(1)  # each worker is one
    return lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_RGB2Lab)


COLOURS = ("scikit-image", "opencv")
# Method -> library of its views (whose name stands for the whole script) -> what makes the peer of a built method.
PEERS: dict[str, dict[str, Callable[[Any], Peer]]] = {
    "simclr": {"lightly": simclr},
    "moco": {"lightly": moco},
    "byol": {"lightly": partial(similarity, transform="SimCLRTransform")},
    "simsiam": {"lightly": partial(similarity, transform="SimSiamTransform")},
    "nnclr": {"lightly": nnclr},
    "supcon": {"lightly, pytorch-metric-learning": supcon},
    "rotation": {"torchvision": rotation},
    "relative_position": {"torchvision": relative_position},
    "jigsaw": {"torchvision": jigsaw},
    "cpc": {"torchvision": cpc},
    "autoencoder": {"torchvision": autoencoder},
    "denoising_autoencoder": {"torchvision": autoencoder},
    "colorization": {library: partial(colorization, library=library) for library in COLOURS},
    "split_brain": {library: partial(split_brain, library=library) for library in COLOURS},
}
