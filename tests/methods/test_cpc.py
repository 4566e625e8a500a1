"""CPC: the loss against the matrix written out, where predictions come from and aim at, memory, ranks, and learning."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from sslfast.augment import grids
from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError
from sslfast.methods import build
from sslfast.methods.cpc import CPC


def cpc(**options: object) -> CPC:
    method = build("cpc", **{"backbone": "resnet10_narrow", "context_features": 32, **options})
    assert isinstance(method, CPC)
    return method


def dense_loss(method: CPC, features: Tensor, others: Tensor | None = None) -> Tensor:
    """The loss of features (B, 49, D), prediction by prediction against all targets, in float64.

    Args:
        others: (M, d) further targets, which no prediction aims at.
    """
    context = method.context(features.view(-1, 7, 7, features.shape[2]).permute(0, 3, 1, 2))
    targets = functional.normalize(method.target(features).double(), dim=2).view(-1, 7, 7, method.target.out_features)
    everything = targets.flatten(0, 2) if others is None else torch.cat([others.double(), targets.flatten(0, 2)])
    losses = []
    for k, predictor in method.predictors.items():
        for b in range(len(features)):
            for row in range(7 - int(k)):
                for column in range(7):
                    guess = functional.normalize(predictor(context[b, :, row, column]).double(), dim=0)
                    score = guess @ targets[b, row + int(k), column] / method.temperature
                    losses.append((everything @ guess / method.temperature).logsumexp(0) - score)
    return torch.stack(losses).mean()


@pytest.mark.parametrize(
    "options", [{}, {"nearest": 1, "furthest": 1}, {"nearest": 6}, {"temperature": 0.5, "target_features": 5}]
)
def test_loss_is_info_nce_over_the_patches_of_the_batch(blobs: ImageBatch, options: dict) -> None:
    method = cpc(**options).eval()
    views = method.views(blobs.select(slice(0, 3)))
    loss = method(views)["loss"]
    features = method.backbone(views.patches.flatten(0, 1)).unflatten(0, (3, 49))
    expected = dense_loss(method, features)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    parameters = [*method.target.parameters(), *method.predictors.parameters(), *method.context.parameters()]
    for got, want in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-6)


def test_five_rows_below_are_predicted(blobs: ImageBatch) -> None:
    """From row 0 the rows 2 to 6, in the same column of the same image; row 1 overlaps with it."""
    method = cpc()
    predictions, targets, aims = method.predict(method.views(blobs).patches)
    assert list(method.predictors) == ["2", "3", "4", "5", "6"]
    assert predictions.shape == (8 * 7 * (5 + 4 + 3 + 2 + 1), 64) and targets.shape == (8 * 49, 64)
    expected = []
    for k in range(2, 7):
        expected += [b * 49 + (row + k) * 7 + column for b in range(8) for row in range(7 - k) for column in range(7)]
    assert aims.tolist() == expected


def test_predictions_come_from_the_rows_above(blobs: ImageBatch) -> None:
    """A prediction k rows ahead changes with no patch of a row that lies less than k rows above its target."""
    method = cpc().eval()
    patches = method.views(blobs.select(slice(0, 2))).patches
    predictions, _, aims = method.predict(patches)
    distance = torch.cat([torch.full((2 * (7 - int(k)) * 7,), int(k)) for k in method.predictors])
    source = aims % 49 // 7 - distance  # the row of the context
    for row in range(7):
        changed = patches.clone()
        changed[:, row * 7 : row * 7 + 7] += torch.randn(2, 7, 3, 8, 8)
        moved = (method.predict(changed)[0] - predictions).abs().amax(1) > 1e-6
        assert not moved[source < row].any()
        assert moved[source == row].all()


class Largest(TorchDispatchMode):
    """Remembers the number of entries of the largest tensor that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self.entries = max(self.entries, tensor.numel())
        return result


def test_the_matrix_of_all_pairs_is_never_built() -> None:
    images = torch.randint(0, 256, (32, 32, 32, 3), dtype=torch.uint8)
    method = cpc()
    views = method.views(ImageBatch.from_dense(images))
    with Largest() as largest:
        method(views)["loss"].backward()
    pairs = (32 * 105) * (32 * 49)
    assert largest.entries < pairs / 4


def test_grid_and_crop_are_the_paper_s() -> None:
    method = build("cpc", backbone="resnet10_narrow", image_size=256, grayscale=1.0)
    assert method.grid == grids.cpc(256).replace(channel_drop=1.0, channel_drop_count=(2, 2))
    (view,) = method.multi_view.specs
    assert cpc().grid == grids.cpc(32).replace(channel_drop_count=(2, 2))
    assert view.crop_scale == (pytest.approx(256**2 / 300**2),) * 2 and view.grayscale == 1.0


@pytest.mark.parametrize(("probability", "coloured"), [(1.0, {1}), (0.0, {3}), (0.5, {1, 3})])
def test_patches_keep_one_colour(blobs: ImageBatch, probability: float, coloured: set[int]) -> None:
    patches = cpc(channel_drop=probability).views(blobs).patches.flatten(0, 1)
    assert set(patches.abs().amax((2, 3)).ne(0).sum(1).tolist()) == coloured


def test_pictures_show_the_nearest_patches(blobs: ImageBatch) -> None:
    """Predictions that are right bring the image back; the first two rows are not predicted."""
    method = cpc()
    views = method.views(blobs)
    right = method.predict
    codes = functional.normalize(torch.randn(8 * 49, 500), dim=1)

    def knows(patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        aims = right(patches)[2]
        return codes[aims], codes, aims

    method.predict = knows
    pictures = method.pictures(views)
    assert torch.equal(pictures["predicted"], pictures["patches"])
    assert pictures["patches"].shape == (8, 3, 63, 63)

    def finds_the_first(patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        aims = right(patches)[2]
        return codes[:1].expand(len(aims), -1), codes, aims

    method.predict = finds_the_first
    expected = views.patches.clone()
    expected[:, 14:] = views.patches[0, 0]
    assert torch.equal(method.pictures(views)["predicted"], method.picture(expected))


def test_a_backbone_without_batch_norm_ties_no_images_together(blobs: ImageBatch) -> None:
    """As in the papers: what is found for an image in training does not depend on the batch."""
    method = build("cpc", backbone="resnet50_gn", context_features=8, target_features=8)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in method.modules())
    patches = method.views(blobs.select(slice(0, 2))).patches
    with torch.no_grad():
        together, alone = method.predict(patches)[1][:49], method.predict(patches[:1])[1]
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


def test_a_few_steps_lower_the_loss(blobs: ImageBatch, learn: Callable[..., list[float]]) -> None:
    method = cpc()
    losses = learn(method, method.views(blobs), steps=15)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nearest": 0}, "predicts rows 0 to 6 below; .* 1 <= nearest <= furthest <= 6"),
        ({"furthest": 7}, "predicts rows 2 to 7 below"),
        ({"nearest": 4, "furthest": 3}, "predicts rows 4 to 3 below"),
        ({"temperature": 0.0}, "temperature"),
        ({"target_features": 0}, "target_features is 0"),
        ({"context_features": 0}, "hidden_features of the PixelCNN is 0"),
        ({"channel_drop": -0.5}, "channel_drop is -0.5"),
        ({"image_size": 36}, "multiple of 8"),
        ({"backbone": "vit_tiny_patch16_224"}, "cannot take patches of 8 px"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        cpc(**options)


RANKS = 2


def _work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    generator = torch.Generator().manual_seed(rank)
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=generator)
    method = cpc(nearest=5).eval()
    views = method.views(ImageBatch.from_dense(images, index=torch.arange(2) + 2 * rank))
    with torch.no_grad():
        features = method.backbone(views.patches.flatten(0, 1)).unflatten(0, (2, 49))
        torch.save((method(views)["loss"], features), f"{folder}/{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


def test_negatives_are_the_patches_of_all_ranks(tmp_path: Path) -> None:
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    multiprocessing.spawn(_work, (str(tmp_path),), nprocs=RANKS)
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(RANKS)]
    method = cpc(nearest=5).eval()
    with torch.no_grad():
        for (loss, features), (_, other) in zip(results, reversed(results), strict=True):
            others = functional.normalize(method.target(other).flatten(0, 1).double(), dim=1)
            assert float(loss) == pytest.approx(float(dense_loss(method, features, others)), rel=1e-5)
