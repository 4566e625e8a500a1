"""JPEG files to views: what a rank or a resumed epoch sees of an image is what one process sees of it."""

import pytest
import torch
from data.samples import load, write

from sslfast.augment import MultiView, presets
from sslfast.data import build_source

IMAGES, EPOCH = 16, 3


@pytest.fixture(scope="module", params=["written", "photographs"])
def source(request, tmp_path_factory):
    """JPEGs of many sizes."""
    if request.param == "photographs":
        return build_source("folder", request.getfixturevalue("photos"), limit=IMAGES)
    root = tmp_path_factory.mktemp("written")
    for number in range(IMAGES):
        write(root / "ab"[number % 2] / f"{number:02}.jpg", number, size=(30 + 7 * number, 150 - 5 * number))
    return build_source("folder", root)


def views_of(source, batch_size, start=0, **options):
    """Index of an image -> its views, of the batches of an epoch from `start` on."""
    loader = load(source, batch_size, seed=4, drop_last=False, **options)
    multi_view = MultiView([*presets.byol(64), presets.supervised(32)[0]], seed=6)
    seen = {}
    for batch in loader.epoch(EPOCH, start):
        tensors = multi_view(batch, EPOCH).tensors
        for position, index in enumerate(batch.index.tolist()):
            assert index not in seen
            seen[index] = [tensor[position] for tensor in tensors]
    return seen


def assert_same(seen, expected):
    for index, views in seen.items():
        assert all(torch.equal(a, b) for a, b in zip(views, expected[index], strict=True)), f"image {index}"


@pytest.fixture(scope="module")
def alone(source):
    """What one process sees, which sees everything."""
    seen = views_of(source, 4)
    assert sorted(seen) == list(range(IMAGES))
    return seen


@pytest.mark.parametrize("batch_size", [4, 3])
def test_two_ranks_see_the_views_of_one(source, alone, batch_size):
    ranks = [views_of(source, batch_size, rank=rank, world_size=2) for rank in range(2)]
    assert sorted([*ranks[0], *ranks[1]]) == list(range(IMAGES))
    for seen in ranks:
        assert_same(seen, alone)


def test_a_resumed_epoch_goes_on_with_its_views(source, alone):
    for start in (1, 3):
        rest = views_of(source, 4, start)
        assert list(rest) == list(alone)[4 * start :]
        assert_same(rest, alone)


def test_a_rank_resumes_too(source, alone):
    whole, rest = (views_of(source, 3, start, rank=1, world_size=2) for start in (0, 2))
    assert list(rest) == list(whole)[6:] and len(rest) == 2
    assert_same(rest, alone)
