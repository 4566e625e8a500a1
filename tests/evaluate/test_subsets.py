"""Label subsets: exact counts, nested, seeded; and which images count as labelled."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError
from sslfast.evaluate.subsets import label_subset, labelled

BALANCED = torch.arange(10).repeat(500)[torch.randperm(5000, generator=torch.Generator().manual_seed(3))]
FRACTIONS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
SAMPLES = (1, 2, 4, 8, 16, 32, 64)


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_a_fraction_is_taken_of_every_class(fraction):
    subset = label_subset(BALANCED, fraction=fraction)
    assert BALANCED[subset].bincount().tolist() == [round(500 * fraction)] * 10
    assert subset.unique().equal(subset)


@pytest.mark.parametrize("samples", SAMPLES)
def test_so_many_samples_of_every_class(samples):
    subset = label_subset(BALANCED, samples_per_class=samples)
    assert BALANCED[subset].bincount().tolist() == [samples] * 10
    assert subset.unique().equal(subset)


def test_every_class_keeps_its_share_and_at_least_one_image():
    labels = torch.tensor([0] * 100 + [2] * 10 + [5] * 3)
    counts = labels[label_subset(labels, fraction=0.1)].bincount().tolist()
    assert counts == [10, 0, 1, 0, 0, 1]


@pytest.mark.parametrize("budgets", [[{"fraction": f} for f in FRACTIONS], [{"samples_per_class": n} for n in SAMPLES]])
def test_smaller_subsets_lie_in_larger_ones(budgets):
    subsets = [set(label_subset(BALANCED, **budget, seed=7).tolist()) for budget in budgets]
    assert all(small < large for small, large in pairwise(subsets))


def test_the_seed_decides_which_images():
    first = label_subset(BALANCED, fraction=0.1, seed=1)
    assert first.equal(label_subset(BALANCED, fraction=0.1, seed=1))
    assert not first.equal(label_subset(BALANCED, fraction=0.1, seed=2))


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"fraction": 0.0}, r"fraction 0 is outside \(0, 1\]"),
        ({"fraction": 1.5}, r"fraction 1.5 is outside \(0, 1\]"),
        ({"fraction": float("nan")}, "outside"),
        ({"samples_per_class": 0}, "give 1 or more"),
        ({"samples_per_class": 501}, "class 0 has 500 training images; give 500 or fewer"),
        ({}, "either"),
        ({"fraction": 0.5, "samples_per_class": 1}, "either"),
    ],
)
def test_budgets_out_of_range_name_the_cure(budget, message):
    with pytest.raises(UserError, match=message):
        label_subset(BALANCED, **budget)


def pictures(label):
    return ImageBatch.from_dense(torch.zeros(4, 2, 2, 3, dtype=torch.uint8), label=label)


def test_images_of_unknown_class_are_left_out():
    kept = labelled(pictures(torch.tensor([1, -1, 0, -1])), "train")
    assert kept.index.tolist() == [0, 2]
    assert kept.label is not None
    assert kept.label.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (None, "test images have no labels.*sub-folder"),
        (torch.full((4,), -1), "test images have no labels"),
        (torch.tensor([3, 3, -1, 3]), "all of class 3.*two classes"),
    ],
)
def test_images_without_two_classes_are_refused(label, message):
    with pytest.raises(UserError, match=message):
        labelled(pictures(label), "test")
