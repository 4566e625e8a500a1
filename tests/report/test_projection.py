"""PCA and t-SNE: the numbers against numpy, groups and legend for any number of classes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sslfast.report import plots
from sslfast.report.projection import class_name, group_classes, project


def unit(features):
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def clusters():
    """Three classes of 20 points each, far apart."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    return unit(np.eye(8)[labels] + 0.05 * generator.normal(size=(60, 8))), labels


def test_explained_variance(clusters):
    features, labels = clusters
    spread = np.linalg.svd(features - features.mean(0), compute_uv=False) ** 2
    plane = project(features, labels, ["a", "b", "c"])
    assert plane.explained == pytest.approx(100 * spread[:2].sum() / spread.sum(), rel=1e-4)
    assert plane.count == 60 and [key.name for key in plane.legend] == ["a", "b", "c"]


def test_tsne_keeps_clusters_apart(clusters, monkeypatch):
    features, labels = clusters
    drawn = []
    monkeypatch.setattr(plots, "scatter", lambda points, groups, alt: drawn.append((points, groups)) or "svg")
    project(features, labels, None)
    for points, groups in drawn:
        np.testing.assert_array_equal(groups, labels)
        centres = np.stack([points[labels == k].mean(0) for k in range(3)])
        nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(1)
        np.testing.assert_array_equal(nearest, labels)


def test_few_points_and_few_dimensions():
    features = unit(np.random.default_rng(1).normal(size=(5, 2)))
    assert project(features, None, None).legend == []


def test_projection_is_repeatable(clusters):
    assert project(*clusters, None) == project(*clusters, None)


def test_up_to_30_classes_all_are_told_apart():
    labels = np.arange(30).repeat(2)
    groups, legend = group_classes(labels, None, 60)
    np.testing.assert_array_equal(groups, labels)
    assert len(legend) == 30 and legend[7].name == "class 7"


def test_of_more_classes_the_largest_are_shown():
    labels = np.concatenate([np.arange(100), np.arange(90, 100)])
    groups, legend = group_classes(labels, [f"kind {k}" for k in range(100)], 110)
    assert [key.name for key in legend] == [f"kind {k}" for k in range(90, 100)] + ["90 other classes"]
    assert (groups[:90] == -1).all()
    np.testing.assert_array_equal(groups[90:100], groups[100:])
    assert len(set(groups[100:])) == 10


def test_images_of_unknown_class():
    groups, legend = group_classes(np.array([4, -1, 4]), None, 3)
    np.testing.assert_array_equal(groups, [0, -1, 0])
    assert [key.name for key in legend] == ["class 4", "class unknown"]


def test_only_one_class_of_many_is_present(clusters):
    features, _ = clusters
    plane = project(features, np.full(60, 2), ["a", "b", "c"])
    assert [key.name for key in plane.legend] == ["c"]
    assert set(re.findall(r"--series-\d", plane.pca)) == {"--series-0"}


def test_class_name():
    assert class_name(1, ["a", "b"]) == "b"
    assert class_name(5, ["a"]) == "class 5" and class_name(0, None) == "class 0"
    assert class_name(-1, ["a"]) == "class unknown"
