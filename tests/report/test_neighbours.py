"""Nearest neighbours against a plain search, choice of queries, and thumbnails."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from sslfast.data import ImageBatch
from sslfast.errors import DataError
from sslfast.report.images import THUMBNAIL, read_pictures, thumbnail
from sslfast.report.neighbours import choose_queries, nearest_rows, share_right


def decode(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


@pytest.fixture
def data():
    """40 one-pixel images whose colour is their position, with random features."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(40, 5)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    images = ImageBatch.from_dense(torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).repeat(1, 1, 1, 3))
    return features, images, generator.integers(0, 4, 40)


def test_neighbours_are_the_most_similar_other_images(data):
    features, images, labels = data
    rows = nearest_rows(features, images, labels, list("abcd"))
    assert len(rows) == 8
    for row in rows:
        query = int(decode(row.query.uri)[0, 0, 0])
        cosines = sorted(((float(features[query] @ features[k]), k) for k in range(40) if k != query), reverse=True)
        assert [int(decode(n.uri)[0, 0, 0]) for n in row.neighbours] == [k for _, k in cosines[:6]]
        np.testing.assert_allclose([n.similarity for n in row.neighbours], [c for c, _ in cosines[:6]], atol=1e-6)
        assert [n.right for n in row.neighbours] == [bool(labels[k] == labels[query]) for _, k in cosines[:6]]
        assert [n.name for n in row.neighbours] == ["abcd"[labels[k]] for _, k in cosines[:6]]
    right, known = share_right(rows)
    assert known == 48 and right == sum(n.right for row in rows for n in row.neighbours)


def test_unlabelled_images_are_not_judged(data):
    features, images, _ = data
    rows = nearest_rows(features, images, None, None)
    assert share_right(rows) == (0, 0)
    assert {n.name for row in rows for n in (row.query, *row.neighbours)} == {""}


def test_unknown_class_is_not_judged(data):
    features, images, labels = data
    labels[::2] = -1
    for row in nearest_rows(features, images, labels, None):
        known = row.query.name != "class unknown"
        assert all((n.right is not None) == (known and n.name != "class unknown") for n in row.neighbours)


def test_fewer_images_than_places(data):
    features, images, labels = data
    rows = nearest_rows(features[:5], images.select(torch.arange(5)), labels[:5], None)
    assert [len(row.neighbours) for row in rows] == [4] * 5


def test_queries_are_of_different_classes():
    labels = np.array([2, 2, 2, 0, 0, 1] + [1] * 20)
    np.testing.assert_array_equal(choose_queries(labels, 26), [3, 5, 0, 4, 6, 1, 7, 2])
    np.testing.assert_array_equal(choose_queries(None, 26), np.arange(8))


def test_queries_of_many_classes_are_one_each():
    labels = np.arange(50)[::-1].repeat(3)
    queries = choose_queries(labels, 150)
    assert len(set(labels[queries])) == 8


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_thumbnail_keeps_small_pixels(channels):
    image = torch.randint(0, 256, (3, 7, channels), dtype=torch.uint8)
    shown = decode(thumbnail(image))
    expected = image if channels == 3 else image[:, :, 0]
    np.testing.assert_array_equal(shown, expected.numpy())


def test_thumbnail_shrinks_large_images():
    assert decode(thumbnail(torch.zeros(300, 600, 3, dtype=torch.uint8))).shape == (THUMBNAIL // 2, THUMBNAIL, 3)


def test_pictures_views_first_and_small_ones_enlarged(tmp_path):
    for name, width in (("after_noise", 100), ("views", 300), ("tall", 3000)):
        Image.new("RGB", (width, 10)).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    pictures = read_pictures(tmp_path)
    assert [(p.title, p.width, p.zoom) for p in pictures] == [
        ("Views", 300, 3),
        ("After noise", 100, 4),
        ("Tall", 3000, 1),
    ]
    assert decode(pictures[1].uri).shape == (10, 100, 3)


def test_picture_of_another_kind_is_named(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "views.png", format="JPEG")
    with pytest.raises(DataError, match=r"views\.png"):
        read_pictures(tmp_path)
