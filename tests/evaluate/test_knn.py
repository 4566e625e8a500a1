"""The kNN protocol against a plain version that compares every pair; its limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from sslfast.errors import UserError
from sslfast.evaluate.knn import evaluate_knn


def dense_knn(train, labels, test, truth, classes, k, temperature):
    """Top-1 and top-5 in percent, all pairs in float64, one image after the other."""
    train = train / np.linalg.norm(train, axis=1, keepdims=True)
    test = test / np.linalg.norm(test, axis=1, keepdims=True)
    hits = np.zeros(2)
    for query, true in zip(test, truth, strict=True):
        similarity = train @ query
        votes = np.zeros(classes)
        for neighbour in np.argsort(-similarity, kind="stable")[:k]:
            votes[labels[neighbour]] += math.exp(similarity[neighbour] / temperature)
        order = np.argsort(-votes, kind="stable")
        hits += [true in order[:1], true in order[:5]]
    return 100 * hits / len(test)


def clustered(count, classes, dimensions, seed):
    """Overlapping classes, so that neighbours disagree."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    centres = torch.randn(classes, dimensions, generator=torch.Generator().manual_seed(99))
    return centres[labels] + 1.5 * torch.randn(count, dimensions, generator=generator), labels


@pytest.mark.parametrize(("k", "temperature", "classes"), [(1, 0.1, 10), (7, 0.5, 10), (200, 0.1, 10), (20, 0.02, 3)])
def test_agrees_with_all_pairs(with_features, k, temperature, classes):
    train, test = clustered(150, classes, 6, seed=0), clustered(40, classes, 6, seed=1)
    subset = torch.arange(0, 150, 1 if k == 200 else 2)
    scores = evaluate_knn(with_features(train, test, classes), subset, k, temperature)
    expected = dense_knn(
        train[0][subset].double().numpy(),
        train[1][subset].numpy(),
        test[0].double().numpy(),
        test[1].numpy(),
        classes,
        k,
        temperature,
    )
    assert (scores.top1, scores.top5) == pytest.approx(tuple(expected))
    assert 100 / classes + 5 < scores.top1 < 100  # neither trivial nor perfect: the comparison can fail
    assert (scores.top5 == 100) == (classes <= 5)


def test_votes_do_not_overflow_at_a_low_temperature(with_features):
    train = (functional.one_hot(torch.arange(4), 4).float(), torch.arange(4))
    scores = evaluate_knn(with_features(train, train, 4), torch.arange(4), neighbours=4, temperature=1e-4)
    assert scores.top1 == 100


def test_equal_features_are_worth_chance(with_features):
    same = (torch.ones(40, 3), torch.arange(40) % 4)
    assert evaluate_knn(with_features(same, same, 4), torch.arange(40)).top1 == 25


@pytest.mark.parametrize(
    ("option", "value", "cause"),
    [
        ("neighbours", 0, "k = 0"),
        ("neighbours", -3, "k = -3"),
        ("temperature", 0.0, "temperature 0"),
        ("tile_bytes", 0, "0 bytes"),
    ],
)
def test_options_out_of_range_name_the_cure(with_features, option, value, cause):
    train = clustered(10, 2, 3, seed=0)
    with pytest.raises(UserError, match=f"{cause}.*give"):
        evaluate_knn(with_features(train, train, 2), torch.arange(10), **{option: value})
