"""What the protocols that train share: how long, in which order, on which views, and random streams left alone."""

from __future__ import annotations

import pytest
import torch

from sslfast.augment import MultiView, ViewSpec
from sslfast.errors import TrainingError, UserError
from sslfast.evaluate import Encoder
from sslfast.evaluate.training import check_converged, seeded, training_batches, training_steps, training_view


@pytest.mark.parametrize(
    ("images", "epochs", "expected"),
    [(80, 3, (32, 6)), (80, None, (32, 100)), (20, 2, (20, 2)), (20, None, (20, 70)), (10_000, None, (32, 200))],
)
def test_epochs_are_exact_and_otherwise_the_steps_are_bounded(images: int, epochs: int | None, expected):
    assert training_steps(images, 32, 0.1, epochs, fewest=70, most=200) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch size of 0"),
        ({"learning_rate": 0.0}, "learning rate of 0"),
        ({"epochs": 0}, "0 epochs"),
        ({"fewest": 9}, "at least 9 and at most 8"),
    ],
)
def test_a_value_out_of_range_is_named(change, message: str):
    given = {"batch_size": 8, "learning_rate": 0.1, "epochs": None, "fewest": 1, "most": 8}
    with pytest.raises(UserError, match=message):
        training_steps(80, **(given | change))


def test_every_epoch_has_every_image_of_the_subset_once(encoder: Encoder):
    """Views without randomness tell the images apart; the last epoch is cut off where the steps end."""
    subset = torch.arange(0, 80, 2)
    found = list(training_batches(encoder, subset, batch_size=10, steps=10, seed=3, augmentation=False))
    assert [epoch for epoch, _, _ in found] == [0] * 4 + [1] * 4 + [2] * 2
    seen = MultiView([encoder.view])(encoder.train.select(subset)).tensors[0]
    places = [
        int((seen == view).flatten(1).all(dim=1).nonzero()[:, 0]) for _, views, _ in found for view in views.unbind()
    ]
    assert sorted(places[:40]) == sorted(places[40:80]) == list(range(40))
    assert places[:40] != places[40:80]
    torch.testing.assert_close(torch.cat([labels for _, _, labels in found]), encoder.train_labels[subset][places])


def test_augmentation_keeps_the_views_size_and_normalisation():
    view = ViewSpec(size=(20, 24), center_fraction=0.875, mean=(0.1, 0.2), std=(0.3, 0.4))
    light = training_view(view)
    assert (light.shape, light.mean, light.std) == (view.shape, view.mean, view.std)
    assert light.crop_scale is not None
    assert light.hflip == 0.5


def test_seeded_leaves_the_callers_stream_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(7):
        drawn = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(7)))


def test_scores_that_are_not_finite_mean_divergence():
    check_converged(torch.zeros(2, 3), "it", 5, 0.1)
    with pytest.raises(TrainingError, match=r"it diverged within 5 steps; use a learning rate below 0\.1"):
        check_converged(torch.tensor([[0.0, float("nan")]]), "it", 5, 0.1)
